"""Metrics against SciPy, against independent fits, and what they must refuse."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import optimize, stats

from harmonyiqa.errors import UserError
from harmonyiqa.metrics import (
    MEASURES,
    MetricError,
    fit_logistic,
    fit_logistic5,
    krcc,
    logistic,
    logistic5,
    plcc,
    plcc_fitted,
    plcc_fitted5,
    rmse,
    rmse_fitted,
    srcc,
)

RANKS = arrays(np.int64, 12, elements=st.integers(0, 6))


def related(seed: int, n: int = 200, strength: float = 0.8) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    mos = rng.uniform(20, 80, n)
    return strength * (mos - 50) / 17 + np.sqrt(1 - strength**2) * rng.normal(size=n), mos


def test_worked_example_with_ties() -> None:
    # by hand: ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4
    pred, mos = [1, 2, 2, 3], [10, 20, 30, 40]
    assert srcc(pred, mos) == pytest.approx(4.5 / np.sqrt(4.5 * 5), abs=1e-12)
    assert krcc(pred, mos) == pytest.approx(5 / np.sqrt(5 * 6), abs=1e-12)  # 5 concordant pairs, 1 tie
    assert plcc(pred, mos) == pytest.approx(30 / np.sqrt(2 * 500), abs=1e-12)
    assert rmse([1, 2], [1, 4]) == pytest.approx(np.sqrt(2), abs=1e-12)


@given(RANKS, RANKS)
def test_agree_with_scipy_under_ties(pred: np.ndarray, mos: np.ndarray) -> None:
    if np.ptp(pred) == 0 or np.ptp(mos) == 0:
        return
    assert srcc(pred, mos) == pytest.approx(stats.spearmanr(pred, mos).statistic, abs=1e-12)
    assert krcc(pred, mos) == pytest.approx(stats.kendalltau(pred, mos).statistic, abs=1e-12)
    assert plcc(pred, mos) == pytest.approx(stats.pearsonr(pred, mos).statistic, abs=1e-12)


@given(st.integers(0, 1000))
def test_rank_metrics_only_see_the_order_and_flip_with_the_sign(seed: int) -> None:
    pred, mos = related(seed, n=30)
    assert srcc(np.exp(pred), mos) == pytest.approx(srcc(pred, mos), abs=1e-12)
    assert krcc(np.exp(pred), mos) == pytest.approx(krcc(pred, mos), abs=1e-12)
    for metric in (srcc, krcc, plcc):
        assert metric(-pred, mos) == pytest.approx(-metric(pred, mos), abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_fitted_plcc_matches_an_independent_curve_fit(seed: int) -> None:
    pred, mos = related(seed)
    pred = pred**3  # monotone, not linear

    def vqeg(x: np.ndarray, b1: float, b2: float, b3: float, b4: float) -> np.ndarray:
        return b2 + (b1 - b2) / (1 + np.exp(-(x - b3) / abs(b4)))

    start = [mos.max(), mos.min(), pred.mean(), pred.std() / 4]
    found, _ = optimize.curve_fit(vqeg, pred, mos, start, maxfev=20_000)
    expected = stats.pearsonr(vqeg(pred, *found), mos).statistic
    assert plcc_fitted(pred, mos) == pytest.approx(expected, abs=1e-4)


def test_fit_finds_the_curve_that_made_the_data() -> None:
    pred = np.linspace(-3, 5, 100)
    truth = np.array([75.0, 25.0, 1.2, 1.5])
    assert fit_logistic(pred, logistic(pred, truth)) == pytest.approx(truth, rel=1e-6)
    assert plcc_fitted(pred, logistic(pred, truth)) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_the_5_parameter_fit_is_as_close_as_an_independent_one_and_as_the_4_parameter_one(seed: int) -> None:
    pred, mos = related(seed)
    pred = pred**3

    def sheikh(x: np.ndarray, b1: float, b2: float, b3: float, b4: float, b5: float) -> np.ndarray:
        return b1 * (0.5 - 1 / (1 + np.exp(b2 * (x - b3)))) + b4 * x + b5

    start = [np.ptp(mos), 4 / pred.std(), pred.mean(), 0, mos.mean()]
    found, _ = optimize.curve_fit(sheikh, pred, mos, start, maxfev=20_000)
    expected = stats.pearsonr(sheikh(pred, *found), mos).statistic
    assert plcc_fitted5(pred, mos) == pytest.approx(expected, abs=1e-4)
    assert plcc_fitted5(pred, mos) >= plcc_fitted(pred, mos) - 1e-6


def test_the_5_parameter_fit_finds_a_curve_that_bends_back() -> None:
    pred = np.linspace(-3, 5, 100)
    truth = np.array([60.0, 2.0, 1.2, -4.0, 50.0])
    assert plcc_fitted5(pred, logistic5(pred, truth)) == pytest.approx(1, abs=1e-9)
    assert logistic5(pred, fit_logistic5(pred, logistic5(pred, truth))) == pytest.approx(
        logistic5(pred, truth), abs=1e-4
    )
    assert logistic5(np.array([1.2]), truth) == pytest.approx([-4.0 * 1.2 + 50])  # by hand: half way up


def test_rmse_after_the_fit_is_in_mos_points_whatever_the_scale() -> None:
    pred, mos = related(1)
    assert rmse_fitted(pred, mos) == pytest.approx(rmse_fitted(1000 * pred - 7, mos), abs=1e-6)
    # of a least-squares fit with a free level: PLCC and RMSE say the same
    assert rmse_fitted(pred, mos) == pytest.approx(
        mos.std() * np.sqrt(1 - plcc_fitted(pred, mos) ** 2), rel=1e-4
    )


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_fit_does_not_depend_on_units(scale: float) -> None:
    pred, mos = related(3)
    assert plcc_fitted(pred * scale + 7 * scale, mos) == pytest.approx(plcc_fitted(pred, mos), abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_fit_is_at_least_as_good_as_the_straight_line_and_hides_a_flipped_sign(seed: int) -> None:
    pred, mos = related(seed)
    assert plcc_fitted(pred, mos) >= plcc(pred, mos) - 1e-4
    assert plcc_fitted(-pred, mos) == pytest.approx(plcc_fitted(pred, mos), abs=1e-9)
    assert srcc(-pred, mos) < -0.5  # which is why SRCC is never computed on fitted values


@pytest.mark.parametrize("metric", MEASURES.values(), ids=MEASURES)
@pytest.mark.parametrize(
    ("pred", "mos", "message"),
    [
        ([5.0] * 6, range(6), r"all 6 predictions are 5; a constant has no correlation"),
        ([0.1 + 0.2, 0.3] * 3, range(6), "a constant has no correlation"),  # equal but for rounding
        (range(6), [50] * 6, r"all 6 MOS are 50; a constant"),
        ([1, np.nan, 3], [1, 2, 3], r"1 of 3 predictions are not finite \(first: nan at index 1\)"),
        ([1, 2, 3], [1, np.inf, 3], r"1 of 3 MOS are not finite"),
        ([1, 2], [1, 2, 3], r"shape \(2,\) and MOS \(3,\)"),
        ([[1, 2]], [[1, 2]], r"must be \(N,\)"),
        ([], [], "there are no values"),
        ([1], [1], "one value has no correlation"),
    ],
)
def test_what_has_no_correlation_is_an_error_with_the_reason(metric, pred, mos, message) -> None:
    with pytest.raises(MetricError, match=message):
        metric(list(pred), list(mos))


def test_too_few_values_for_the_fit() -> None:
    with pytest.raises(UserError, match="4 values are too few for the logistic fit; it needs at least 5"):
        plcc_fitted([1, 2, 3, 5], [1, 2, 4, 3])
    with pytest.raises(UserError, match="5 values are too few for the 5-parameter fit; it needs at least 6"):
        plcc_fitted5([1, 2, 3, 5, 6], [1, 2, 4, 3, 7])


def test_a_fit_that_does_not_converge_is_an_error() -> None:
    pred, mos = related(0)
    with pytest.raises(MetricError, match="did not converge"):
        fit_logistic(pred, mos, max_steps=2)
