"""95% intervals by bootstrap: whole contents are drawn, since images of one scene are not independent.

A resample is a list of counts, one a content: how often it was drawn. Correlations are computed from the
counts, for all resamples at once, without building any of them. Predictors are compared on the same draws.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from harmonyiqa.errors import UserError
from harmonyiqa.metrics import Floats, MetricError, fit_logistic, logistic, plcc

CONFIDENCE = 0.95
MOST_UNDEFINED = 0.05  # an interval from fewer resamples than this would describe the easy ones only
_BLOCK = 4_000_000  # numbers in one temporary array


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

    def rows(self, chosen: NDArray[np.bool_]) -> "Resamples":
        """The same draws, seen from some of the rows, so that subsets stay paired."""
        return replace(self, cluster=self.cluster[chosen])

    def counts(self) -> Iterator[tuple[slice, Floats]]:
        """How often each row was drawn: blocks of resamples, each of shape (some, N)."""
        size = max(1, _BLOCK // max(1, self.cluster.size))
        for start in range(0, len(self.draws), size):
            block = slice(start, start + size)
            yield block, self.draws[block][:, self.cluster].astype(np.float64)


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
    draws = rng.multinomial(len(names), np.full(len(names), 1 / max(1, len(names))), size=resamples)
    return Resamples(draws.astype(np.uint16), np.array([names[name] for name in clusters], dtype=np.intp))


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
    """SRCC of every resample, shape (resamples,); NaN where a resample is constant."""
    x, y = _Ties(pred), _Ties(mos)
    return _over_blocks(resamples, lambda counts: _pearson(x.ranks(counts), y.ranks(counts), counts))


def resample_krcc(pred: Floats, mos: Floats, resamples: Resamples) -> Floats:
    """Kendall's tau-b of every resample, shape (resamples,); NaN where a resample is constant."""
    x, y = _Ties(pred), _Ties(mos)
    balance = _pair_balance(pred, mos, resamples)
    pairs = _over_blocks(resamples, lambda counts: np.sqrt(x.untied_pairs(counts) * y.untied_pairs(counts)))
    return np.divide(balance, pairs, out=np.full_like(pairs, np.nan), where=pairs > 0)


def resample_plcc(pred: Floats, mos: Floats, resamples: Resamples) -> Floats:
    """Raw PLCC of every resample, shape (resamples,); NaN where a resample is constant."""
    x, y = ((values - values.mean()) / values.std() for values in (pred, mos))
    return _over_blocks(resamples, lambda counts: _pearson(x[None], y[None], counts))


def resample_plcc_fitted(pred: Floats, mos: Floats, resamples: Resamples) -> Floats:
    """PLCC after a logistic fit to each resample, shape (resamples,); NaN where there is no fit."""
    start = fit_logistic(pred, mos)

    def fitted(counts: Floats) -> float:
        drawn = np.repeat(np.arange(pred.size), counts.astype(np.intp))
        x, y = pred[drawn], mos[drawn]
        try:
            # the interval is wider than this tolerance by far, and 1,000 fits have to be fast
            fit = fit_logistic(x, y, start=start, tolerance=1e-4, max_steps=200)
            return plcc(logistic(x, fit), y)
        except MetricError:
            return np.nan

    return _over_blocks(resamples, lambda counts: np.array([fitted(row) for row in counts]))


RESAMPLED = {
    "srcc": resample_srcc,
    "krcc": resample_krcc,
    "plcc": resample_plcc,
    "plcc_fitted": resample_plcc_fitted,
}


class _Ties:
    """Rows grouped by equal value, in ascending order, for counts of shape (resamples, N)."""

    def __init__(self, values: Floats) -> None:
        unique, self.group = np.unique(values, return_inverse=True)
        self.order = np.argsort(self.group, kind="stable")
        self.starts = np.searchsorted(self.group[self.order], np.arange(unique.size))

    def sizes(self, counts: Floats) -> Floats:
        return np.add.reduceat(counts[:, self.order], self.starts, axis=1)

    def ranks(self, counts: Floats) -> Floats:
        """Mean rank of each row's value in its resample, (resamples, N)."""
        sizes = self.sizes(counts)
        return (np.cumsum(sizes, axis=1) - (sizes - 1) / 2)[:, self.group]

    def untied_pairs(self, counts: Floats) -> Floats:
        """Ordered pairs of drawn rows with different values, (resamples,)."""
        return counts.sum(axis=1) ** 2 - (self.sizes(counts) ** 2).sum(axis=1)


def _over_blocks(resamples: Resamples, metric: Callable[[Floats], Floats]) -> Floats:
    values = np.empty(len(resamples.draws))
    for block, counts in resamples.counts():
        values[block] = metric(counts)
    return values


def _pearson(x: Floats, y: Floats, counts: Floats) -> Floats:
    """Correlation weighted by counts, (resamples,); x and y are (resamples or 1, N), of about unit scale."""
    total = np.maximum(counts.sum(axis=1), 1)
    x = x - ((x * counts).sum(axis=1) / total)[:, None]
    y = y - ((y * counts).sum(axis=1) / total)[:, None]
    xy, xx, yy = ((a * b * counts).sum(axis=1) for a, b in ((x, y), (x, x), (y, y)))
    norm = np.sqrt(xx * yy)
    return np.divide(xy, norm, out=np.full_like(norm, np.nan), where=norm > 1e-12 * total)


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
    step = max(1, _BLOCK // pred.size)  # rows at once
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
