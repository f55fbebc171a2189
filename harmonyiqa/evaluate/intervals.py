"""95% intervals by bootstrap: whole contents are drawn, since images of one scene are not independent.

A resample is a list of counts, one a content: how often it was drawn. Correlations are computed from the
counts, for all resamples at once, without building any of them. Predictors are compared on the same draws.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from harmonyiqa.errors import UserError
from harmonyiqa.metrics import (
    Floats,
    MetricError,
    fit_logistic,
    fit_logistic5,
    krcc,
    logistic,
    logistic5,
    plcc,
    srcc,
)

CONFIDENCE = 0.95
MOST_UNDEFINED = 0.05  # an interval from fewer resamples than this would describe the easy ones only
# beyond this many rows SRCC, KRCC and the fitted PLCC of a resample are taken to first order in the draws
LARGE = 5_000
_BLOCK = 500_000  # numbers in one temporary array: a few of them fit into a core's cache
_PAIRS_BLOCK = 4_000_000  # likewise where pairs of rows are counted


@dataclass(frozen=True)
class Interval:
    """The central 95% of the resamples."""

    low: float
    high: float


@dataclass(frozen=True)
class Resamples:
    """Draws of clusters with replacement.

    Attributes:
        draws: how often each cluster was drawn, shape (resamples, clusters).
        cluster: the cluster of each row, shape (N,).
    """

    draws: NDArray[np.uint16]
    cluster: NDArray[np.intp]

    @property
    def clusters(self) -> int:
        """How many clusters the rows stand in; fewer than two have no interval."""
        return int(np.unique(self.cluster).size)

    def rows(self, chosen: NDArray[np.bool_] | NDArray[np.intp]) -> "Resamples":
        """The same draws, seen from some of the rows (a mask or indexes), so that subsets stay paired."""
        return replace(self, cluster=self.cluster[chosen])


def draw(clusters: Sequence[Hashable], resamples: int, seed: int) -> Resamples:
    """Draw as many clusters as there are, with replacement, ``resamples`` times.

    Args:
        clusters: the content of each row (or something unique, where contents are unknown), N of them.
        resamples: how many; 1,000 settle the second decimal of an interval.
        seed: the same seed draws the same.

    Raises:
        UserError: if ``resamples`` is below 1.
    """
    if resamples < 1:
        raise UserError(f"bootstrap {resamples} is not a number of resamples; give 1 or more (1000 is usual)")
    names = {name: index for index, name in enumerate(dict.fromkeys(clusters))}
    rng = np.random.default_rng(seed)
    shares = np.full(len(names), 1 / max(1, len(names)))
    draws = np.empty((resamples, len(names)), dtype=np.uint16)
    for row in draws:  # one by one: all at once would take four times the memory of the result
        row[:] = rng.multinomial(len(names), shares)
    return Resamples(draws, np.array([names[name] for name in clusters], dtype=np.intp))


def interval(replicates: Floats) -> Interval | None:
    """The central 95% of a metric's values over resamples, NaN where it does not exist.

    None where more than 5% of the resamples give no value.

    Source: B. Efron, "Bootstrap methods: another look at the jackknife", Annals of Statistics 7(1), 1979.
    """
    defined = replicates[np.isfinite(replicates)]
    if len(defined) < (1 - MOST_UNDEFINED) * len(replicates):
        return None
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return Interval(float(low), float(high))


def resample_srcc(pred: Floats, mos: Floats, resamples: Resamples) -> Floats:
    """SRCC of every resample, shape (resamples,); NaN where a resample is constant.

    Beyond ``LARGE`` rows each is the SRCC of all rows + every cluster's influence on it times the draws'
    deviation from one; what this leaves out is a share of about 1 / clusters of the interval.
    """
    if pred.size > LARGE:
        return srcc(pred, mos) + _first_order(_srcc_influence(pred, mos), resamples)
    x, y = _Ties(pred, resamples.cluster), _Ties(mos, resamples.cluster)

    def correlation(draws: NDArray[np.uint16]) -> Floats:
        ranks_x, spread_x, counts = x.ranks(draws)
        ranks_y, spread_y, _ = y.ranks(draws)
        counts *= x.to_rows(ranks_x, x.order)
        cross = np.einsum("rn,rn->r", counts, y.to_rows(ranks_y, x.order))
        norm = np.sqrt(spread_x * spread_y)
        return np.divide(cross, norm, out=np.full_like(norm, np.nan), where=norm > 0)

    return _over_blocks(resamples, correlation)


def resample_krcc(pred: Floats, mos: Floats, resamples: Resamples) -> Floats:
    """Kendall's tau-b of every resample, shape (resamples,); NaN where a resample is constant.

    Beyond ``LARGE`` rows to first order, as ``resample_srcc``.
    """
    if pred.size > LARGE:
        return krcc(pred, mos) + _first_order(_krcc_influence(pred, mos), resamples)
    x, y = _Ties(pred, resamples.cluster), _Ties(mos, resamples.cluster)
    balance = _pair_balance(pred, mos, resamples)
    pairs = _over_blocks(resamples, lambda draws: np.sqrt(x.untied_pairs(draws) * y.untied_pairs(draws)))
    return np.divide(balance, pairs, out=np.full_like(pairs, np.nan), where=pairs > 0)


def resample_plcc(pred: Floats, mos: Floats, resamples: Resamples) -> Floats:
    """Raw PLCC of every resample, shape (resamples,); NaN where a resample is constant."""
    x, y = ((values - values.mean()) / values.std() for values in (pred, mos))
    sums = _cluster_sums(np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1), resamples)
    _, sx, sy, sxx, syy, sxy = sums.T / np.maximum(sums[:, 0], 1)
    norm = np.sqrt(np.maximum(sxx - sx * sx, 0) * np.maximum(syy - sy * sy, 0))
    return np.divide(sxy - sx * sy, norm, out=np.full_like(norm, np.nan), where=norm > 1e-12)


def resample_plcc_fitted(pred: Floats, mos: Floats, resamples: Resamples) -> Floats:
    """PLCC after a logistic fit to each resample, shape (resamples,); NaN where there is no fit.

    Beyond ``LARGE`` rows the curve of all rows is kept: a least-squares curve is where the PLCC no longer
    changes with the curve, so that this is right to first order.
    """
    start = fit_logistic(pred, mos)
    if pred.size > LARGE:
        return _resample_kept(logistic(pred, start), mos, resamples)

    def fitted(counts: NDArray[np.uint16]) -> float:
        drawn = np.repeat(np.arange(pred.size), counts)
        x, y = pred[drawn], mos[drawn]
        try:
            # the interval is wider than this tolerance by far, and 1,000 fits have to be fast
            fit = fit_logistic(x, y, start=start, tolerance=1e-4, max_steps=200)
            return plcc(logistic(x, fit), y)
        except MetricError:
            return np.nan

    return _over_blocks(
        resamples, lambda draws: np.array([fitted(row) for row in draws[:, resamples.cluster]])
    )


def resample_plcc_fitted5(pred: Floats, mos: Floats, resamples: Resamples) -> Floats:
    """PLCC of every resample through the 5-parameter curve of all rows, shape (resamples,)."""
    return _resample_kept(logistic5(pred, fit_logistic5(pred, mos)), mos, resamples)


def resample_rmse_fitted(pred: Floats, mos: Floats, resamples: Resamples) -> Floats:
    """RMSE in MOS points of every resample through the logistic curve of all rows, shape (resamples,)."""
    errors = logistic(pred, fit_logistic(pred, mos)) - mos
    sums = _cluster_sums(np.stack([np.ones_like(errors), errors**2], axis=1), resamples)
    return np.sqrt(sums[:, 1] / np.maximum(sums[:, 0], 1))


RESAMPLED = {
    "srcc": resample_srcc,
    "krcc": resample_krcc,
    "plcc": resample_plcc,
    "plcc_fitted": resample_plcc_fitted,
    "plcc_fitted5": resample_plcc_fitted5,
    "rmse_fitted": resample_rmse_fitted,
}


def resample_means(values: Floats, resamples: Resamples) -> Floats:
    """Means of every resample, shape (resamples, ...) for values of shape (N, ...); NaN where no row was drawn."""
    flat = values.reshape(len(values), -1)
    sums = _cluster_sums(np.column_stack([np.ones(len(flat)), flat]), resamples)
    counts = sums[:, :1]
    means = np.divide(sums[:, 1:], counts, out=np.full_like(sums[:, 1:], np.nan), where=counts > 0)
    return means.reshape(len(means), *values.shape[1:])


class _Ties:
    """Rows grouped by equal value, in ascending order, for draws of clusters of shape (resamples, clusters)."""

    def __init__(self, values: Floats, cluster: NDArray[np.intp]) -> None:
        unique, self.group = np.unique(values, return_inverse=True)
        self.order = np.argsort(self.group, kind="stable")
        self.cluster = cluster[self.order]
        # None where no two values are equal: then groups are rows in ascending order
        self.starts = (
            None
            if unique.size == values.size
            else np.searchsorted(self.group[self.order], np.arange(unique.size))
        )

    def counts(self, draws: NDArray[np.uint16]) -> Floats:
        """How often each row was drawn, ascending rows, (resamples, N)."""
        return draws[:, self.cluster].astype(np.float64)

    def ranks(self, draws: NDArray[np.uint16]) -> tuple[Floats, Floats, Floats]:
        """Mean rank of each group less the mean of all ranks, (resamples, groups); the sum of the drawn rows'
        squares, (resamples,), and ``counts``.
        """
        counts = self.counts(draws)
        sizes = self._sizes(counts)
        ranks = np.cumsum(sizes, axis=1)
        total = ranks[:, -1].copy()
        ranks -= (sizes - 1) / 2
        ranks -= ((total + 1) / 2)[:, None]
        ties = np.einsum("rn,rn,rn->r", sizes, sizes, sizes) - total
        return ranks, (total**3 - total - ties) / 12, counts

    def to_rows(self, by_group: Floats, order: NDArray[np.intp]) -> Floats:
        """What each row has from its group, rows in ``order``, (resamples, N)."""
        if self.starts is None and order is self.order:
            return by_group
        return by_group[:, self.group[order]]

    def untied_pairs(self, draws: NDArray[np.uint16]) -> Floats:
        """Ordered pairs of drawn rows with different values, (resamples,)."""
        counts = self.counts(draws)
        return counts.sum(axis=1) ** 2 - (self._sizes(counts) ** 2).sum(axis=1)

    def _sizes(self, counts: Floats) -> Floats:
        return counts if self.starts is None else np.add.reduceat(counts, self.starts, axis=1)


def _resample_kept(fitted: Floats, mos: Floats, resamples: Resamples) -> Floats:
    if np.ptp(fitted) == 0:
        raise MetricError("the logistic fit is flat, so its PLCC does not exist; read PLCC raw and SRCC")
    return resample_plcc(fitted, mos, resamples)


def _over_blocks(resamples: Resamples, metric: Callable[[NDArray[np.uint16]], Floats]) -> Floats:
    """``metric`` of the draws, a block of resamples at a time."""
    step = max(1, _BLOCK // max(1, resamples.cluster.size))
    starts = range(0, len(resamples.draws), step)
    return np.concatenate([metric(resamples.draws[start : start + step]) for start in starts])


def _cluster_sums(values: Floats, resamples: Resamples) -> Floats:
    """Sums over the drawn rows, each as often as drawn, of (N, K) values: (resamples, K)."""
    by_cluster = np.zeros((resamples.draws.shape[1], values.shape[1]))
    np.add.at(by_cluster, resamples.cluster, values)
    step = max(1, _PAIRS_BLOCK // max(1, len(by_cluster)))
    starts = range(0, len(resamples.draws), step)
    return np.concatenate([resamples.draws[start : start + step] @ by_cluster for start in starts])


def _first_order(influence: Floats, resamples: Resamples) -> Floats:
    """How far each resample lies from all rows, (resamples,), by the influence of each row's weight, (N,)."""
    return _cluster_sums(influence[:, None], resamples)[:, 0] - influence.sum()


def _srcc_influence(pred: Floats, mos: Floats) -> Floats:
    """How SRCC changes with the weight of each row, (N,); they add up to nothing."""
    x, y = (stats.rankdata(values) - (pred.size + 1) / 2 for values in (pred, mos))
    spread_x, spread_y = x @ x, y @ y
    # a row adds its own product, and lifts the rank of every row above it by one, of its equals by half
    covariance = x * y + _sum_above(pred, y) + _sum_above(mos, x)
    variances = sum(
        (pred.size**2 - _equal(v) ** 2) / spread for v, spread in ((pred, spread_x), (mos, spread_y))
    )
    return (covariance - (x @ y) * variances / 8) / np.sqrt(spread_x * spread_y)


def _sum_above(values: Floats, of: Floats) -> Floats:
    """For each row the sum of ``of`` over rows of a higher value, and half of it over rows of an equal one, (N,)."""
    _, group = np.unique(values, return_inverse=True)
    by_group = np.bincount(group, weights=of)
    return (by_group.sum() - np.cumsum(by_group) + by_group / 2)[group]


def _equal(values: Floats) -> Floats:
    """How many rows have each row's value, itself included, (N,)."""
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    return counts[group].astype(np.float64)


def _krcc_influence(pred: Floats, mos: Floats) -> Floats:
    """How tau-b changes with the weight of each row, (N,); they add up to nothing."""
    balance = (
        _both_below(pred, mos) + _both_below(-pred, -mos) - _both_below(pred, -mos) - _both_below(-pred, mos)
    )
    untied_x, untied_y = pred.size - _equal(pred), pred.size - _equal(mos)
    pairs = np.sqrt(untied_x.sum() * untied_y.sum())
    tau = balance.sum() / pairs
    return 2 * balance / pairs - tau * (untied_x / untied_x.sum() + untied_y / untied_y.sum())


def _both_below(x: Floats, y: Floats) -> Floats:
    """How many rows lie below each row in both values, (N,): merge sort, all blocks of a level at once."""
    n = x.size
    order = np.lexsort((-y, x))  # of equal x the higher y first, so that none before counts wrongly
    rank = np.empty(n, dtype=np.int64)
    rank[np.lexsort((-np.arange(n), y[order]))] = np.arange(n)  # likewise for equal y
    size = 1 << max(1, (n - 1).bit_length())
    sequence = np.concatenate([rank, np.arange(n, size)])  # what fills up stands after and above all
    below = np.zeros(size, dtype=np.int64)
    half = 1
    while half < size:
        blocks = sequence.reshape(-1, 2 * half)
        ascending = np.argsort(blocks, axis=1)
        left = ascending < half
        seen = np.cumsum(left, axis=1)
        at = ascending + np.arange(len(blocks))[:, None] * 2 * half
        below[at[~left]] += seen[~left]
        half *= 2
    found = np.empty(n)
    found[order] = below[:n]
    return found


def _pair_balance(pred: Floats, mos: Floats, resamples: Resamples) -> Floats:
    """Concordant minus discordant ordered pairs of every resample, (resamples,).

    Pairs are first summed over pairs of clusters: the work on N^2 pairs is done once, not once a resample.
    """
    order = np.argsort(resamples.cluster, kind="stable")
    pred, mos, cluster = pred[order], mos[order], resamples.cluster[order]
    present, starts = np.unique(cluster, return_index=True)
    ends = np.append(starts[1:], pred.size)
    draws = resamples.draws[:, present].astype(np.float32)  # exact: whole numbers far below 2^24
    balance = np.zeros(len(draws))
    step = max(1, _PAIRS_BLOCK // pred.size)  # rows at once
    first = 0
    while first < present.size:
        last = max(first + 1, int(np.searchsorted(ends, starts[first] + step, side="right")))
        rows = slice(starts[first], ends[last - 1])
        agree = np.sign(pred[rows, None] - pred) * np.sign(mos[rows, None] - mos)
        by_cluster = np.add.reduceat(
            np.add.reduceat(agree, starts, axis=1), starts[first:last] - starts[first]
        )
        balance += ((draws @ by_cluster.T.astype(np.float32)) * draws[:, first:last]).sum(
            axis=1, dtype=np.float64
        )
        first = last
    return balance
