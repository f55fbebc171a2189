"""The counted bootstrap against resamples that are really built, and the intervals' coverage."""

import numpy as np
import pytest

from harmonyiqa.errors import UserError
from harmonyiqa.evaluate.intervals import (
    RESAMPLED,
    _both_below,
    draw,
    interval,
    resample_means,
    resample_srcc,
)
from harmonyiqa.metrics import MEASURES, fit_logistic, fit_logistic5, logistic, logistic5, plcc, rmse


def ties(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    mos = rng.uniform(20, 80, n).round()
    return (mos + rng.normal(0, 15, n)).round(-1), mos


@pytest.mark.parametrize("metric", RESAMPLED)
@pytest.mark.parametrize("clusters", [None, 12])
def test_counting_equals_building_every_resample(metric: str, clusters: int | None) -> None:
    pred, mos = ties(60, seed=1)
    names = np.arange(60) if clusters is None else np.random.default_rng(2).integers(clusters, size=60)
    resamples = draw(names.tolist(), 40, seed=3)
    built = [np.repeat(np.arange(60), row) for row in resamples.draws[:, resamples.cluster]]
    measure = MEASURES[metric]
    if metric == "plcc_fitted5":  # these two keep the curve of all rows
        pred, measure = logistic5(pred, fit_logistic5(pred, mos)), plcc
    elif metric == "rmse_fitted":
        pred, measure = logistic(pred, fit_logistic(pred, mos)), rmse
    expected = [measure(pred[rows], mos[rows]) for rows in built]
    pred, _ = ties(60, seed=1)
    tolerance = 5e-3 if metric == "plcc_fitted" else 1e-12  # its resamples are fitted less closely
    assert RESAMPLED[metric](pred, mos, resamples) == pytest.approx(expected, abs=tolerance)


def test_blocks_of_work_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    pred, mos = ties(50, seed=4)
    resamples = draw([i // 3 for i in range(50)], 30, seed=0)
    whole = {name: metric(pred, mos, resamples) for name, metric in RESAMPLED.items()}
    for name in ("_BLOCK", "_PAIRS_BLOCK"):
        monkeypatch.setattr(f"harmonyiqa.evaluate.intervals.{name}", 130)
    for name, metric in RESAMPLED.items():
        assert metric(pred, mos, resamples) == pytest.approx(whole[name], abs=1e-12)


@pytest.mark.parametrize("tied", [False, True])
def test_many_rows_are_taken_to_first_order_and_the_interval_stays(
    monkeypatch: pytest.MonkeyPatch, tied: bool
) -> None:
    rng = np.random.default_rng(8)
    mos = rng.uniform(20, 80, 600)
    pred = mos + rng.normal(0, 12, 600)
    if tied:
        pred, mos = pred.round(-1), mos.round(-1)
    resamples = draw([i // 3 for i in range(600)], 500, seed=0)
    exact = {
        name: interval(RESAMPLED[name](pred, mos, resamples)) for name in ("srcc", "krcc", "plcc_fitted")
    }
    monkeypatch.setattr("harmonyiqa.evaluate.intervals.LARGE", 100)
    for name, whole in exact.items():
        found = interval(RESAMPLED[name](pred, mos, resamples))
        width = whole.high - whole.low
        assert (found.low, found.high) == pytest.approx((whole.low, whole.high), abs=0.06 * width)


@pytest.mark.parametrize("n", [1, 2, 3, 64, 77])
def test_rows_below_in_both_values_are_counted(n: int) -> None:
    x, y = np.random.default_rng(n).integers(0, 9, (2, n)).astype(float)
    assert _both_below(x, y).tolist() == [int(((x < a) & (y < b)).sum()) for a, b in zip(x, y, strict=True)]


def test_means_of_a_resample_by_hand() -> None:
    values = np.arange(10.0).reshape(5, 2)
    resamples = draw(["a", "a", "b", "c", "b"], 20, seed=0)
    for row, found in zip(resamples.draws, resample_means(values, resamples), strict=True):
        assert found == pytest.approx(np.repeat(values, row[resamples.cluster], axis=0).mean(axis=0))


def test_a_cluster_comes_whole_and_a_subset_sees_the_same_draws() -> None:
    resamples = draw(["a", "a", "b", "c", "b"], 20, seed=0)
    assert resamples.cluster.tolist() == [0, 0, 1, 2, 1]
    assert (resamples.draws.sum(axis=1) == 3).all()
    some = resamples.rows(np.array([False, True, True, False, False]))
    assert some.draws is resamples.draws
    assert some.clusters == 2


def test_the_seed_decides() -> None:
    names = list(range(20))
    assert (draw(names, 5, seed=1).draws == draw(names, 5, seed=1).draws).all()
    assert (draw(names, 5, seed=1).draws != draw(names, 5, seed=2).draws).any()


def test_interval_is_central_and_needs_nearly_all_resamples() -> None:
    values = np.arange(1001.0)
    found = interval(np.random.default_rng(0).permutation(values))
    assert found is not None
    assert (found.low, found.high) == pytest.approx((25, 975))
    values[:50] = np.nan
    assert interval(values) is not None
    values[:52] = np.nan
    assert interval(values) is None


def test_constant_resamples_have_no_value() -> None:
    resamples = draw([0, 1], 50, seed=0)  # half of the draws hold one row twice
    found = resample_srcc(np.array([1.0, 2.0]), np.array([1.0, 2.0]), resamples)
    alone = (resamples.draws == 2).any(axis=1)
    assert np.isnan(found[alone]).all()
    assert found[~alone] == pytest.approx(1)


@pytest.mark.parametrize("metric", ["srcc", "krcc", "plcc"])
def test_clustering_widens_the_interval_where_scenes_are_alike(metric: str) -> None:
    rng = np.random.default_rng(5)
    scene = np.repeat(np.arange(25), 8)
    shared = rng.normal(size=25)[scene] * 10  # errors that a whole scene has in common
    mos = 50 + 10 * rng.normal(size=25)[scene] + rng.normal(size=200)
    pred = mos + shared

    def width(clusters: list[int]) -> float:
        found = interval(RESAMPLED[metric](pred, mos, draw(clusters, 400, seed=0)))
        assert found is not None
        return found.high - found.low

    assert width(scene.tolist()) > 1.7 * width(list(range(200)))


@pytest.mark.slow
def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    truth = 6 / np.pi * np.arcsin(0.7 / 2)  # SRCC of a bivariate normal, Pearson (1907)
    rng = np.random.default_rng(6)
    held = 0
    for seed in range(150):
        x = rng.normal(size=150)
        y = 0.7 * x + np.sqrt(1 - 0.49) * rng.normal(size=150)
        found = interval(resample_srcc(x, y, draw(list(range(150)), 400, seed)))
        held += found is not None and found.low <= truth <= found.high
    assert 0.89 <= held / 150 <= 0.99


def test_no_resamples_is_refused() -> None:
    with pytest.raises(UserError, match="bootstrap 0 is not a number of resamples"):
        draw([1, 2], 0, seed=0)
