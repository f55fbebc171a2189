"""How well predictions agree with people: SRCC, KRCC, PLCC raw, PLCC and RMSE after a logistic fit; and AUC.

Every metric but AUC takes two arrays of shape (N,), finite, predictions first. A correlation of a constant array
does not exist: that raises ``MetricError`` and is never turned into 0 or NaN. Rank correlations are computed
on raw predictions only: a fitted curve may fall, and would hide a flipped sign.
"""

from collections.abc import Callable
from contextlib import suppress

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special, stats

from harmonyiqa.errors import UserError

Floats = NDArray[np.float64]

# of the two curves, in order; steepness is 1 / b4 of VQEG's notation and b2 of Sheikh's
PARAMETERS = ("upper", "lower", "middle", "steepness")
PARAMETERS5 = ("height", "steepness", "middle", "slope", "level")


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


def auc(better: Floats, worse: Floats) -> float:
    """The chance that one of the better images scores above one of the worse, a tie counting half.

    This is the area under the ROC curve (Hanley and McNeil, Radiology 143, 1982).

    Args:
        better: scores (n,) of the images that should score high.
        worse: scores (m,) of those that should score low.

    Raises:
        MetricError: if one of the two has no image.
    """
    if not len(better) or not len(worse):
        raise MetricError("one of the two kinds has no image")
    wins = stats.mannwhitneyu(better, worse, method="asymptotic").statistic
    return float(wins / (len(better) * len(worse)))


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
    return _pearson_of_fit(logistic(x, fit_logistic(x, y)), y)


def plcc_fitted5(pred: ArrayLike, mos: ArrayLike) -> float:
    """Pearson's correlation of the MOS with the predictions mapped through ``fit_logistic5``.

    Never much below ``plcc_fitted``: the curve has a straight line to spare, and may bend back. Range about 0
    to 1.

    Args:
        pred: predictions, shape (N,), N > 5.
        mos: mean opinion scores, shape (N,).

    Raises:
        MetricError: as ``plcc_fitted``.
    """
    x, y = _checked(pred, mos)
    return _pearson_of_fit(logistic5(x, fit_logistic5(x, y)), y)


def rmse_fitted(pred: ArrayLike, mos: ArrayLike) -> float:
    """``rmse`` in MOS points of the predictions mapped through ``fit_logistic``, on any scale before. Range >= 0.

    Args:
        pred: predictions, shape (N,), N > 4.
        mos: mean opinion scores, shape (N,).

    Raises:
        MetricError: as ``srcc``, or the fit failed.
    """
    x, y = _checked(pred, mos)
    return rmse(logistic(x, fit_logistic(x, y)), y)


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


CORRELATIONS = {"srcc": srcc, "krcc": krcc, "plcc": plcc, "plcc_fitted": plcc_fitted}
# everything that a table can show of one predictor on one set of rows
MEASURES = {**CORRELATIONS, "plcc_fitted5": plcc_fitted5, "rmse_fitted": rmse_fitted}


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
    upper, lower, middle, steepness = _least_squares(
        logistic, _logistic_jacobian, u, v, first, tolerance, max_steps
    )
    return np.array(
        [upper * std_y + mean_y, lower * std_y + mean_y, middle * std_x + mean_x, steepness / std_x]
    )


def logistic5(x: Floats, parameters: Floats) -> Floats:
    """The curve ``b1 (1/2 - 1 / (1 + exp(b2 (x - b3)))) + b4 x + b5``, elementwise, in MOS points.

    Args:
        x: predictions, any shape.
        parameters: b1 to b5, as named in ``PARAMETERS5``, shape (5,).
    """
    height, steepness, middle, slope, level = parameters
    return height * (special.expit(steepness * (x - middle)) - 0.5) + slope * x + level


def fit_logistic5(
    pred: ArrayLike, mos: ArrayLike, *, tolerance: float = 1e-6, max_steps: int = 1000
) -> Floats:
    """Least-squares parameters of ``logistic5`` that map predictions onto MOS, shape (5,).

    The best of several fits, since this curve has local optima: one starts where ``fit_logistic`` ends, and so
    is at least as close; three at the straight line, with a bend low, in the middle and high.

    Args:
        pred: predictions, shape (N,), N > 5.
        mos: mean opinion scores, shape (N,).
        tolerance: the fit ends when the squared error falls by a smaller share than this.
        max_steps: evaluations of the curve after which a fit has failed.

    Raises:
        MetricError: as ``fit_logistic``; the fit failed if none of the several converged.

    Source: Sheikh, Sabir, Bovik (2006), "A statistical evaluation of recent full reference image quality
    assessment algorithms", section III-C.
    """
    x, y = _checked(pred, mos)
    if x.size <= len(PARAMETERS5):
        raise MetricError(
            f"{x.size} values are too few for the 5-parameter fit; it needs at least {len(PARAMETERS5) + 1}"
        )
    mean_x, std_x, mean_y, std_y = x.mean(), x.std(), y.mean(), y.std()
    u, v = (x - mean_x) / std_x, (y - mean_y) / std_y
    line = float(u @ v) / u.size
    starts = [np.array([1.0, 4.0, middle, line, 0.0]) for middle in (-1.0, 0.0, 1.0)]
    with suppress(MetricError):
        upper, lower, middle, steepness = fit_logistic(u, v)
        starts.append(np.array([upper - lower, steepness, middle, 0.0, (upper + lower) / 2]))
    found, failure = [], None
    for first in starts:
        try:
            found.append(_least_squares(logistic5, _logistic5_jacobian, u, v, first, tolerance, max_steps))
        except MetricError as error:
            failure = error
    if failure and not found:
        raise failure
    height, steepness, middle, slope, level = min(
        found, key=lambda each: float(np.sum((logistic5(u, each) - v) ** 2))
    )
    slope *= std_y / std_x
    return np.array(
        [
            height * std_y,
            steepness / std_x,
            middle * std_x + mean_x,
            slope,
            level * std_y + mean_y - slope * mean_x,
        ]
    )


def _least_squares(
    curve: Callable[[Floats, Floats], Floats],
    jacobian: Callable[[Floats, Floats], Floats],
    x: Floats,
    y: Floats,
    first: Floats,
    tolerance: float,
    max_steps: int,
) -> Floats:
    # MINPACK itself, as curve_fit calls it: half the time of least_squares, and a bootstrap fits thousands
    with np.errstate(over="ignore", invalid="ignore"):  # in the covariance that leastsq adds
        found, _, _, reason, status = optimize.leastsq(
            lambda p: curve(x, p) - y,
            first,
            Dfun=lambda p: jacobian(x, p),
            full_output=True,
            ftol=tolerance,
            maxfev=max_steps,
        )
    if status not in (1, 2, 3, 4):
        raise MetricError(f"the logistic fit did not converge ({reason.strip()}); read PLCC raw and SRCC")
    return np.asarray(found)


def _logistic_jacobian(x: Floats, parameters: Floats) -> Floats:
    """Derivatives of ``logistic``, shape (N, 4)."""
    upper, lower, middle, steepness = parameters
    rise = special.expit(steepness * (x - middle))
    slope = (upper - lower) * rise * (1 - rise)
    return np.stack([rise, 1 - rise, -steepness * slope, (x - middle) * slope], axis=1)


def _logistic5_jacobian(x: Floats, parameters: Floats) -> Floats:
    """Derivatives of ``logistic5``, shape (N, 5)."""
    height, steepness, middle, _, _ = parameters
    rise = special.expit(steepness * (x - middle))
    bend = height * rise * (1 - rise)
    return np.stack([rise - 0.5, (x - middle) * bend, -steepness * bend, x, np.ones_like(x)], axis=1)


def _pearson_of_fit(fitted: Floats, mos: Floats) -> float:
    if _is_constant(fitted):
        raise MetricError("the logistic fit is flat, so its PLCC does not exist; read PLCC raw and SRCC")
    return _pearson(fitted, mos)


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
