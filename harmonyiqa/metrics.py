"""How well predictions agree with people: SRCC, KRCC, PLCC raw, PLCC after a logistic fit, RMSE.

Every metric takes two arrays of shape (N,), finite, predictions first. A correlation of a constant array
does not exist: that raises ``MetricError`` and is never turned into 0 or NaN. Rank correlations are computed
on raw predictions only: a fitted curve may fall, and would hide a flipped sign.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special, stats

from harmonyiqa.errors import UserError

Floats = NDArray[np.float64]

# of the logistic curve, in order; steepness is 1 / b4 of the usual notation
PARAMETERS = ("upper", "lower", "middle", "steepness")


class MetricError(UserError):
    """A metric that does not exist for these values: constant, too few, not finite, or a fit that failed."""


def srcc(pred: ArrayLike, mos: ArrayLike) -> float:
    """Spearman's rank correlation, ties at their mean rank. Range -1 to 1, 1 is the same order.

    Args:
        pred: predictions, shape (N,), N >= 2, any monotone scale, higher is better.
        mos: mean opinion scores, shape (N,).

    Raises:
        MetricError: lengths differ, fewer than 2 values, a value is not finite, or either array is constant.

    Source: Spearman (1904), "The proof and measurement of association between two things".
    """
    x, y = _checked(pred, mos)
    return _pearson(stats.rankdata(x), stats.rankdata(y))


def krcc(pred: ArrayLike, mos: ArrayLike) -> float:
    """Kendall's rank correlation, tau-b (corrected for ties). Range -1 to 1, 1 is the same order.

    Args:
        pred: predictions, shape (N,), N >= 2, any monotone scale, higher is better.
        mos: mean opinion scores, shape (N,).

    Raises:
        MetricError: as ``srcc``.

    Source: Kendall (1945), "The treatment of ties in ranking problems".
    """
    x, y = _checked(pred, mos)
    return float(stats.kendalltau(x, y, variant="b").statistic)


def plcc(pred: ArrayLike, mos: ArrayLike) -> float:
    """Pearson's linear correlation of the raw predictions, nothing fitted. Range -1 to 1.

    Args:
        pred: predictions, shape (N,), N >= 2.
        mos: mean opinion scores, shape (N,).

    Raises:
        MetricError: as ``srcc``.
    """
    return _pearson(*_checked(pred, mos))


def plcc_fitted(pred: ArrayLike, mos: ArrayLike) -> float:
    """Pearson's correlation of the MOS with the predictions mapped through ``fit_logistic``.

    The fit undoes a scale that is monotone but not linear. It may also fall, so a predictor with a flipped
    sign still scores high here: read it beside SRCC. Not comparable with ``plcc``. Range about 0 to 1.

    Args:
        pred: predictions, shape (N,), N > 4.
        mos: mean opinion scores, shape (N,).

    Raises:
        MetricError: as ``srcc``, or the fit failed, or it ended in a flat curve.
    """
    x, y = _checked(pred, mos)
    fitted = logistic(x, fit_logistic(x, y))
    if _is_constant(fitted):
        raise MetricError("the logistic fit is flat, so its PLCC does not exist; read PLCC raw and SRCC")
    return _pearson(fitted, y)


def rmse(pred: ArrayLike, mos: ArrayLike) -> float:
    """Root of the mean squared error, in MOS points, of predictions that are on the MOS scale. Range >= 0.

    Args:
        pred: predictions, shape (N,), N >= 1.
        mos: mean opinion scores, shape (N,).

    Raises:
        MetricError: lengths differ, no values, or a value is not finite.
    """
    x, y = _finite(pred, mos)
    return float(np.sqrt(np.mean((x - y) ** 2)))


def correlations(pred: ArrayLike, mos: ArrayLike) -> dict[str, float]:
    """The four correlations, keyed ``srcc``, ``krcc``, ``plcc`` (raw) and ``plcc_fitted``.

    Args:
        pred: predictions, shape (N,), N > 4, higher is better.
        mos: mean opinion scores, shape (N,).

    Raises:
        MetricError: one of the four does not exist for these values.
    """
    return {name: metric(pred, mos) for name, metric in CORRELATIONS.items()}


CORRELATIONS = {"srcc": srcc, "krcc": krcc, "plcc": plcc, "plcc_fitted": plcc_fitted}


def logistic(x: Floats, parameters: Floats) -> Floats:
    """The curve ``b2 + (b1 - b2) / (1 + exp(-(x - b3) / b4))``, elementwise, in MOS points.

    Args:
        x: predictions, any shape.
        parameters: b1, b2, b3 and 1 / b4, as named in ``PARAMETERS``, shape (4,).
    """
    upper, lower, middle, steepness = parameters
    return lower + (upper - lower) * special.expit(steepness * (x - middle))


def fit_logistic(
    pred: ArrayLike,
    mos: ArrayLike,
    *,
    start: Floats | None = None,
    tolerance: float = 1e-6,
    max_steps: int = 5000,
) -> Floats:
    """Least-squares parameters of ``logistic`` that map predictions onto MOS, shape (4,).

    The fit starts at [max y, min y, mean x, std x / 4], falling where PLCC is negative, and runs on
    standardised values, so that it does not depend on the units. It looks for the steepness where VQEG has
    1 / |b4|: the same curves, but nothing to divide by zero, and no wall between rising and falling ones.

    Args:
        pred: predictions, shape (N,), N > 4.
        mos: mean opinion scores, shape (N,).
        start: parameters to start from instead (a resample starts at the full sample's).
        tolerance: the fit ends when the squared error falls by a smaller share than this. At 1e-6 a PLCC
            above 0.7 is within 2e-5 of the optimum's.
        max_steps: evaluations of the curve after which the fit has failed.

    Raises:
        MetricError: as ``srcc``, N is too small, or the fit does not converge (it happens where predictions
            say next to nothing of the MOS).

    Source: VQEG (2000), "Final report on the validation of objective models of video quality assessment".
    """
    x, y = _checked(pred, mos)
    if x.size <= len(PARAMETERS):
        raise MetricError(
            f"{x.size} values are too few for the logistic fit; it needs at least {len(PARAMETERS) + 1}"
        )
    mean_x, std_x, mean_y, std_y = x.mean(), x.std(), y.mean(), y.std()
    u, v = (x - mean_x) / std_x, (y - mean_y) / std_y
    if start is None:
        first = np.array([v.max(), v.min(), 0.0, 4.0 if u @ v >= 0 else -4.0])
    else:
        upper, lower, middle, steepness = start
        first = np.array(
            [(upper - mean_y) / std_y, (lower - mean_y) / std_y, (middle - mean_x) / std_x, steepness * std_x]
        )
    # MINPACK itself, as curve_fit calls it: half the time of least_squares, and a bootstrap fits thousands
    with np.errstate(over="ignore", invalid="ignore"):  # in the covariance that leastsq adds
        found, _, _, reason, status = optimize.leastsq(
            lambda p: logistic(u, p) - v,
            first,
            Dfun=lambda p: _logistic_jacobian(u, p),
            full_output=True,
            ftol=tolerance,
            maxfev=max_steps,
        )
    if status not in (1, 2, 3, 4):
        raise MetricError(f"the logistic fit did not converge ({reason.strip()}); read PLCC raw and SRCC")
    upper, lower, middle, steepness = found
    return np.array(
        [upper * std_y + mean_y, lower * std_y + mean_y, middle * std_x + mean_x, steepness / std_x]
    )


def _logistic_jacobian(x: Floats, parameters: Floats) -> Floats:
    """Derivatives of ``logistic``, shape (N, 4)."""
    upper, lower, middle, steepness = parameters
    rise = special.expit(steepness * (x - middle))
    slope = (upper - lower) * rise * (1 - rise)
    return np.stack([rise, 1 - rise, -steepness * slope, (x - middle) * slope], axis=1)


def _pearson(x: Floats, y: Floats) -> float:
    x, y = x - x.mean(), y - y.mean()
    # rounding can put a perfect correlation a hair outside
    return float(np.clip((x / np.linalg.norm(x)) @ (y / np.linalg.norm(y)), -1.0, 1.0))


def _is_constant(values: Floats) -> bool:
    return bool(np.ptp(values) <= 1e-12 * np.abs(values).max())


def _finite(pred: ArrayLike, mos: ArrayLike) -> tuple[Floats, Floats]:
    x, y = np.asarray(pred, dtype=np.float64), np.asarray(mos, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape:
        raise MetricError(f"predictions have shape {x.shape} and MOS {y.shape}; both must be (N,) with one N")
    if not x.size:
        raise MetricError("there are no values; a metric needs some")
    for name, values in (("predictions", x), ("MOS", y)):
        bad = np.flatnonzero(~np.isfinite(values))
        if bad.size:
            raise MetricError(
                f"{bad.size} of {values.size} {name} are not finite (first: {values[bad[0]]} at index "
                f"{bad[0]}); leave them out and say so"
            )
    return x, y


def _checked(pred: ArrayLike, mos: ArrayLike) -> tuple[Floats, Floats]:
    x, y = _finite(pred, mos)
    if x.size < 2:
        raise MetricError("one value has no correlation; at least 2 are needed")
    for name, values in (("predictions", x), ("MOS", y)):
        if _is_constant(values):
            raise MetricError(f"all {values.size} {name} are {values[0]:g}; a constant has no correlation")
    return x, y
