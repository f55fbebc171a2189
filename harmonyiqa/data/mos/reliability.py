"""Do raters agree with each other? Intraclass correlations and Krippendorff's alpha, with votes missing or not."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import lsmr

from harmonyiqa.data.mos.ratings import Ratings


@dataclass(frozen=True)
class Reliability:
    """Agreement of raters, at most 1; NaN where it does not exist.

    Attributes:
        icc_agreement: ICC(2,1): one vote, raters' biases counted as disagreement.
        icc_consistency: ICC(3,1): one vote, biases not counted.
        icc_agreement_mean: ICC(2,k): the mean of an image's votes.
        icc_consistency_mean: ICC(3,k): the mean, biases not counted; what Z-scored MOS come closest to.
        alpha: Krippendorff's alpha for interval data: one vote, biases counted.
        votes_per_image: k, the harmonic mean over images.
    """

    icc_agreement: float
    icc_consistency: float
    icc_agreement_mean: float
    icc_consistency_mean: float
    alpha: float
    votes_per_image: float


def reliability(ratings: Ratings) -> Reliability:
    """Agreement of all raters of a table, on the votes that it holds.

    With every vote there, the ICCs are those of Shrout and Fleiss (1979), "Intraclass correlations: uses in
    assessing rater reliability". Where votes are missing, the variances of images, raters and errors come from
    Henderson's method 3 (1953), "Estimation of variance and covariance components", which then equals it.
    """
    image, rater = _compact(ratings.image), _compact(ratings.rater)
    of_images, of_raters, of_errors = _variances(image, rater, ratings.rating)
    votes = float(1 / np.mean(1 / np.bincount(image)))
    return Reliability(
        icc_agreement=_share(of_images, of_raters + of_errors),
        icc_consistency=_share(of_images, of_errors),
        icc_agreement_mean=_share(of_images, (of_raters + of_errors) / votes),
        icc_consistency_mean=_share(of_images, of_errors / votes),
        alpha=krippendorff_alpha(image, ratings.rating),
        votes_per_image=votes,
    )


def krippendorff_alpha(unit: NDArray[np.intp], values: NDArray[np.float64]) -> float:
    """Krippendorff's alpha for interval data: 1 - observed / expected disagreement; at most 1, 0 at chance.

    For squared differences both disagreements are sums of squares, so that no coincidence matrix is needed: the
    package ``krippendorff`` builds one of units x values x values, gigabytes for a 100-point scale.

    Args:
        unit: the unit (image) of each value, shape (N,); units with one value are left out, as by definition.
        values: shape (N,).

    Returns:
        alpha; NaN where no unit has two values, or all values are one.

    Source: Krippendorff (2011), "Computing Krippendorff's alpha-reliability".
    """
    counts = np.bincount(unit)
    paired = counts[unit] > 1
    unit, values = unit[paired], values[paired]
    if not values.size or np.ptp(values) == 0:
        return math.nan
    within = np.bincount(unit, (values - _means(unit, values)[unit]) ** 2, minlength=counts.size)
    several = counts > 1
    observed = np.sum(within[several] * counts[several] / (counts[several] - 1)) / values.size
    expected = np.sum((values - values.mean()) ** 2) / (values.size - 1)
    return float(1 - observed / expected)


def _variances(
    image: NDArray[np.intp], rater: NDArray[np.intp], values: NDArray[np.float64]
) -> tuple[float, float, float]:
    """Variance components of images, raters and errors, by Henderson's method 3 for vote = image + rater + error."""
    total, images, raters = values.size, int(image.max()) + 1, int(rater.max()) + 1
    rows = np.arange(total)
    design = sparse.csr_array(
        (np.ones(2 * total), (np.tile(rows, 2), np.concatenate([image, images + rater]))),
        shape=(total, images + raters),
    )
    centered = values - values.mean()
    fit = lsmr(design, centered, atol=1e-13, btol=1e-13, maxiter=10_000)[0]
    residual = float(np.sum((centered - design @ fit) ** 2))
    only_raters = float(np.sum((values - _means(rater, values)[rater]) ** 2))
    only_images = float(np.sum((values - _means(image, values)[image]) ** 2))
    # images and raters that share no vote, directly or by others, cannot be compared
    islands = connected_components(design.T @ design, directed=False, return_labels=False)
    free = total - (images + raters - islands)
    cells = sparse.coo_array((np.ones(total), (image, rater)), shape=(images, raters)).tocsr().tocoo()
    lost_to_raters = float(np.sum(cells.data**2 / np.bincount(rater)[cells.col]))
    lost_to_images = float(np.sum(cells.data**2 / np.bincount(image)[cells.row]))
    if free < 1 or total <= lost_to_raters or total <= lost_to_images:
        return math.nan, math.nan, math.nan
    errors = residual / free
    of_images = (only_raters - residual - (images - islands) * errors) / (total - lost_to_raters)
    of_raters = (only_images - residual - (raters - islands) * errors) / (total - lost_to_images)
    return of_images, of_raters, errors


def _share(signal: float, noise: float) -> float:
    total = signal + noise
    return signal / total if total > 0 else math.nan


def _means(group: NDArray[np.intp], values: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.bincount(group, values) / np.bincount(group)


def _compact(codes: NDArray[np.intp]) -> NDArray[np.intp]:
    """Codes without gaps, since some names may have no vote left."""
    return np.unique(codes, return_inverse=True)[1].astype(np.intp)
