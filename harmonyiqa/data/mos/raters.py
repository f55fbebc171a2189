"""A report on every rater: outliers, agreement with the rest, bias, pace; careless ones are flagged."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harmonyiqa.data.mos.ratings import Ratings
from harmonyiqa.data.mos.scores import Screening, moments
from harmonyiqa.metrics import Floats

LOW_AGREEMENT = 0.2  # a smaller SRCC with the rest is flagged
CHANCE = 2.33  # ... and one that a random rater reaches once in a hundred: 2.33 / sqrt(votes - 1)
FAR = 3.0  # a bias is flagged this many robust deviations from the median bias
LEAST_BIAS = 0.05  # ... if it is this share of the scale at least


@dataclass(frozen=True)
class RaterReport:
    """One line a rater; NaN where a figure does not exist.

    Attributes:
        rater: name.
        votes: how many.
        outlier_share: share of them that are outliers, 0 to 1.
        agreement: SRCC with the mean of the others' valid votes on the same images, -1 to 1.
        bias: mean of (vote - mean of the others' valid votes), in points of the scale.
        spread: sample deviation of the votes, in points of the scale.
        seconds: median time between two votes of a session; NaN where the table has no times.
        rejected: why none of the votes count, or "".
        flags: what else looks wrong, though the votes count.
    """

    rater: str
    votes: int
    outlier_share: float
    agreement: float
    bias: float
    spread: float
    seconds: float
    rejected: str
    flags: str


def report_raters(ratings: Ratings, screening: Screening) -> list[RaterReport]:
    """Every rater beside the rest, in order of appearance.

    A biased rater does no harm to MOS, since Z-scores take the bias out; it is flagged so that somebody asks why.
    """
    raters = len(ratings.raters)
    rest = _rest(ratings, screening.valid)
    shared = np.isfinite(rest)
    rater, rating = ratings.rater[shared], ratings.rating[shared]
    agreement, compared = _srcc_by(rater, rating, rest[shared], raters)
    bias, _, _ = moments(rater, rating - rest[shared], raters)
    _, spread, votes = moments(ratings.rater, ratings.rating, raters)
    share = np.bincount(ratings.rater, screening.outlier, minlength=raters) / np.maximum(votes, 1)
    biased = _far_from_the_rest(bias, LEAST_BIAS * (ratings.highest - ratings.lowest))
    with np.errstate(divide="ignore", invalid="ignore"):
        careless = agreement < np.maximum(LOW_AGREEMENT, CHANCE / np.sqrt(np.maximum(compared - 1, 0)))
    seconds = _pace(ratings)
    reports = []
    for i, name in enumerate(ratings.raters):
        flags = []
        if careless[i]:
            flags.append("hardly agrees with the rest" if agreement[i] >= 0 else "disagrees with the rest")
        if biased[i]:
            flags.append("votes lower than the rest" if bias[i] < 0 else "votes higher than the rest")
        reports.append(
            RaterReport(
                rater=name,
                votes=int(votes[i]),
                outlier_share=float(share[i]),
                agreement=float(agreement[i]),
                bias=float(bias[i]),
                spread=float(spread[i]),
                seconds=float(seconds[i]),
                rejected=screening.rejected.get(i, ""),
                flags="; ".join(flags),
            )
        )
    return reports


def _rest(ratings: Ratings, valid: NDArray[np.bool_]) -> Floats:
    """For each vote the mean of the valid votes of *other* raters on its image, shape (N,); NaN without any."""
    images, raters = len(ratings.images), len(ratings.raters)
    total = np.bincount(ratings.image, ratings.rating * valid, minlength=images)
    count = np.bincount(ratings.image, valid, minlength=images)
    # the rater's own votes on the image, of every session
    _, pair = np.unique(ratings.image * raters + ratings.rater, return_inverse=True)
    own_total = np.bincount(pair, ratings.rating * valid)[pair]
    own_count = np.bincount(pair, valid)[pair]
    with np.errstate(invalid="ignore", divide="ignore"):
        others = count[ratings.image] - own_count
        return np.where(others > 0, (total[ratings.image] - own_total) / others, np.nan)


def _srcc_by(group: NDArray[np.intp], x: Floats, y: Floats, groups: int) -> tuple[Floats, NDArray[np.intp]]:
    """Spearman's correlation within each group at once, and its number of pairs; NaN where one is constant."""
    rank_x, rank_y = _ranks_by(group, x), _ranks_by(group, y)
    mean_x, std_x, count = moments(group, rank_x, groups)
    mean_y, std_y, _ = moments(group, rank_y, groups)
    products = (rank_x - mean_x[group]) * (rank_y - mean_y[group])
    with np.errstate(invalid="ignore", divide="ignore"):
        covariance = np.bincount(group, products, minlength=groups) / (count - 1)
        return np.where(std_x * std_y > 0, covariance / (std_x * std_y), np.nan), count


def _ranks_by(group: NDArray[np.intp], values: Floats) -> Floats:
    """Ranks in the values' order, group after group, ties at their mean rank, shape (N,)."""
    order = np.lexsort((values, group))
    starts_tie = np.ones(values.size, dtype=bool)
    starts_tie[1:] = (np.diff(group[order]) != 0) | (np.diff(values[order]) != 0)
    first = np.flatnonzero(starts_tie)
    last = np.append(first[1:], values.size) - 1
    ranks = np.empty(values.size)
    ranks[order] = ((first + last) / 2)[np.cumsum(starts_tie) - 1]
    return ranks


def _far_from_the_rest(values: Floats, least: float) -> NDArray[np.bool_]:
    """Values over 3 robust deviations (1.4826 x median absolute deviation) and over ``least`` from the median."""
    middle = np.nanmedian(values)
    off = np.abs(values - middle)
    return off > np.maximum(FAR * 1.4826 * np.nanmedian(off), least)


def _pace(ratings: Ratings) -> Floats:
    """Median seconds between a rater's votes that follow each other in a session, shape (raters,)."""
    pace = np.full(len(ratings.raters), np.nan)
    if ratings.time is None:
        return pace
    order = np.lexsort((ratings.time, ratings.session, ratings.rater))
    rater, session, time = ratings.rater[order], ratings.session[order], ratings.time[order]
    gap = np.diff(time)
    follows = (np.diff(rater) == 0) & (np.diff(session) == 0) & np.isfinite(gap)
    whose, gaps = rater[1:][follows], gap[follows]
    by_size = np.lexsort((gaps, whose))
    whose, gaps = whose[by_size], gaps[by_size]
    present, start, count = np.unique(whose, return_index=True, return_counts=True)
    pace[present] = (gaps[start + (count - 1) // 2] + gaps[start + count // 2]) / 2
    return pace
