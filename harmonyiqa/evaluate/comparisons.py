"""Do two predictors agree with the same MOS equally well? Tests for two correlations that share a variable.

Both take images as independent and so are optimistic where scenes repeat: the bootstrap by content is the
honest answer, these are what the field prints. No library of the Python world has them.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from harmonyiqa.metrics import Floats, MetricError, plcc, srcc


@dataclass(frozen=True)
class CorrelationTest:
    """A test of equal correlations: its statistic (above 0 where the first is higher) and two-sided p."""

    name: str
    statistic: float
    p: float


def williams(first: float, second: float, between: float, n: int) -> CorrelationTest:
    """Williams' t with n - 3 degrees of freedom.

    Args:
        first: correlation of the first predictor with the MOS, -1 to 1.
        second: of the second predictor with the MOS.
        between: of the two predictors with each other.
        n: images, above 3.

    Raises:
        MetricError: if the two predictors say the same, or there are too few images.

    Source: Williams (1959), "The comparison of regression variables"; Steiger (1980), equation 7.
    """
    _check(between, n)
    determinant = 1 - first**2 - second**2 - between**2 + 2 * first * second * between
    spread = 2 * (n - 1) / (n - 3) * determinant + ((first + second) / 2) ** 2 * (1 - between) ** 3
    statistic = (first - second) * np.sqrt((n - 1) * (1 + between) / spread)
    return CorrelationTest("Williams t", float(statistic), float(2 * stats.t.sf(abs(statistic), n - 3)))


def steiger(first: float, second: float, between: float, n: int) -> CorrelationTest:
    """Steiger's Z: Fisher's transforms compared, their covariance at the mean of the two correlations.

    Args:
        first: correlation of the first predictor with the MOS, within -1 to 1.
        second: of the second predictor with the MOS.
        between: of the two predictors with each other.
        n: images, above 3.

    Raises:
        MetricError: if the two predictors say the same, one is perfect, or there are too few images.

    Source: Steiger (1980), "Tests for comparing elements of a correlation matrix", equation 14.
    """
    _check(between, n)
    if max(abs(first), abs(second)) >= 1:
        raise MetricError("a correlation of 1 has no Fisher transform, so there is no Steiger Z")
    mean = ((first + second) / 2) ** 2
    covariance = (between * (1 - 2 * mean) - mean * (1 - 2 * mean - between**2) / 2) / (1 - mean) ** 2
    statistic = (np.arctanh(first) - np.arctanh(second)) * np.sqrt((n - 3) / (2 - 2 * covariance))
    return CorrelationTest("Steiger Z", float(statistic), float(2 * stats.norm.sf(abs(statistic))))


def compare(first: Floats, second: Floats, mos: Floats, metric: str) -> list[CorrelationTest]:
    """Both tests; [] for a metric that is no correlation of Pearson's kind, or where a test does not exist.

    SRCC is Pearson's correlation of ranks, and is tested as one.

    Args:
        first: predictions, shape (N,).
        second: other predictions of the same images, shape (N,).
        mos: mean opinion scores, shape (N,).
        metric: ``srcc`` or ``plcc`` (raw); others have no test.
    """
    correlation = {"srcc": srcc, "plcc": plcc}.get(metric)
    if correlation is None:
        return []
    try:
        values = correlation(first, mos), correlation(second, mos), correlation(first, second)
        return [test(*values, len(mos)) for test in (williams, steiger)]
    except MetricError:
        return []


def _check(between: float, n: int) -> None:
    if n <= 3:
        raise MetricError(f"{n} images are too few to compare two correlations; at least 4 are needed")
    if abs(between) > 1 - 1e-12:
        raise MetricError("the two predictors say the same, up to a sign: there is nothing to test")
