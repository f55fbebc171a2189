"""From ratings to mean opinion scores: BT.500 screening, Z-scores, equation 1 of the paper.

The order is outliers, then subjects, then each rater's mean and deviation over the votes that are left.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from harmonyiqa.data.mos.ratings import Ratings
from harmonyiqa.errors import UserError
from harmonyiqa.metrics import Floats

NORMAL_KURTOSIS = (2.0, 4.0)  # ratings with a kurtosis between these count as normal
MOST_OUTLIERS = 0.05  # a rater with a larger share of outliers is rejected
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Screening:
    """Which votes count.

    Attributes:
        outlier: votes far from their image's mean, shape (N,).
        rejected: index of a rater -> why none of the rater's votes count.
        valid: votes that count, shape (N,).
    """

    outlier: NDArray[np.bool_]
    rejected: dict[int, str]
    valid: NDArray[np.bool_]


@dataclass(frozen=True)
class Scores:
    """Opinions on J images, on the 0-100 MOS scale; NaN where too few votes are left.

    Attributes:
        mos: mean opinion score, shape (J,).
        std: standard deviation of the opinions.
        se: standard error of the mean, std / sqrt(votes).
        low: lower end of the 95% interval (Student's t).
        high: upper end.
        votes: valid votes, shape (J,).
    """

    mos: Floats
    std: Floats
    se: Floats
    low: Floats
    high: Floats
    votes: NDArray[np.intp]


def screen(ratings: Ratings, outliers: bool = True) -> Screening:
    """Find outliers and raters whose votes cannot be used (paper, section II-C).

    A vote is an outlier if it lies more than 2 standard deviations from the mean of its image, or more than
    sqrt(20) where the image's votes have a kurtosis outside 2 to 4. A rater with over 5% outliers is rejected, and
    one with the same vote throughout, whose Z-scores do not exist. (Of n votes none can lie more than
    (n - 1) / sqrt(n) deviations off: it takes 22 votes for sqrt(20) ever to be exceeded, 6 for 2.)

    Args:
        ratings: N votes.
        outliers: False looks for no outliers; raters without Z-scores are rejected all the same.

    Source: ITU-R BT.500-13, annex 2, section 2.3.1; here with the paper's rule of 5%.
    """
    outlier = _outliers(ratings) if outliers else np.zeros(ratings.rating.size, dtype=bool)
    raters = len(ratings.raters)
    votes = np.bincount(ratings.rater, minlength=raters)
    share = np.bincount(ratings.rater, outlier, minlength=raters) / np.maximum(votes, 1)
    rejected = {
        int(i): f"{share[i]:.1%} of the votes are outliers, over {MOST_OUTLIERS:.0%}"
        for i in np.flatnonzero(share > MOST_OUTLIERS)
    }
    valid = ~outlier & ~np.isin(ratings.rater, list(rejected))
    left = np.bincount(ratings.rater[valid], minlength=raters)
    low, high = np.full(raters, np.inf), np.full(raters, -np.inf)
    np.minimum.at(low, ratings.rater[valid], ratings.rating[valid])
    np.maximum.at(high, ratings.rater[valid], ratings.rating[valid])
    for i in np.flatnonzero((low >= high) & ~np.isin(np.arange(raters), list(rejected))):
        rejected[int(i)] = f"the same vote throughout ({low[i]:g})" if left[i] > 1 else "only one vote"
    valid &= ~np.isin(ratings.rater, list(rejected))
    return Screening(outlier, rejected, valid)


def mean_opinion_scores(ratings: Ratings, valid: NDArray[np.bool_]) -> Scores:
    """Equation 1: z = (r - mean of the rater) / deviation of the rater; MOS = 100 (mean z of the image + 3) / 6.

    Deviations are sample deviations (N - 1). Intervals take the raters' own means and deviations as known.

    Args:
        ratings: N votes.
        valid: those that count, shape (N,); of each rater at least two different ones, or none (``screen``).

    Raises:
        UserError: if no vote is left.
    """
    if not valid.any():
        raise UserError(
            "screening leaves no vote: every rater was rejected; look at the ratings, or screen less"
        )
    rater, image, rating = ratings.rater[valid], ratings.image[valid], ratings.rating[valid]
    mean, std, _ = moments(rater, rating, len(ratings.raters))
    z = (rating - mean[rater]) / std[rater]
    center, spread, votes = moments(image, z, len(ratings.images))
    mos, std = 100 * (center + 3) / 6, 100 * spread / 6
    with np.errstate(invalid="ignore", divide="ignore"):
        se = std / np.sqrt(votes)
        half = se * special.stdtrit(votes - 1, 0.5 + CONFIDENCE / 2)
    return Scores(mos, std, se, mos - half, mos + half, votes)


def _outliers(ratings: Ratings) -> NDArray[np.bool_]:
    mean, std, votes = moments(ratings.image, ratings.rating, len(ratings.images))
    off = ratings.rating - mean[ratings.image]
    with np.errstate(invalid="ignore", divide="ignore"):
        second = np.bincount(ratings.image, off**2, minlength=votes.size) / votes
        kurtosis = np.bincount(ratings.image, off**4, minlength=votes.size) / votes / second**2
        normal = (kurtosis >= NORMAL_KURTOSIS[0]) & (kurtosis <= NORMAL_KURTOSIS[1])
        limit = np.where(normal, 2.0, np.sqrt(20.0)) * std
    return np.abs(off) > limit[ratings.image]  # a limit of NaN, from one vote, is exceeded by none


def moments(group: NDArray[np.intp], values: Floats, groups: int) -> tuple[Floats, Floats, NDArray[np.intp]]:
    """Mean, sample deviation and count of each group, shape (groups,); NaN where there are too few values.

    Args:
        group: the group of each value, shape (N,).
        values: shape (N,).
        groups: how many groups there are.
    """
    count = np.bincount(group, minlength=groups)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.bincount(group, values, minlength=groups) / count
        std = np.sqrt(np.bincount(group, (values - mean[group]) ** 2, minlength=groups) / (count - 1))
    return mean, np.where(count > 1, std, np.nan), count
