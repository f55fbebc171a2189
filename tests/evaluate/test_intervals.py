"""The counted bootstrap against resamples that are really built, and the intervals' coverage."""

import numpy as np
import pytest

from harmonyiqa.errors import UserError
from harmonyiqa.evaluate.intervals import RESAMPLED, draw, interval, resample_srcc
from harmonyiqa.metrics import CORRELATIONS


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
    expected = [CORRELATIONS[metric](pred[rows], mos[rows]) for rows in built]
    tolerance = 5e-3 if metric == "plcc_fitted" else 1e-12  # its resamples are fitted less closely
    assert RESAMPLED[metric](pred, mos, resamples) == pytest.approx(expected, abs=tolerance)


def test_blocks_of_work_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    pred, mos = ties(50, seed=4)
    resamples = draw([i // 3 for i in range(50)], 30, seed=0)
    whole = {name: metric(pred, mos, resamples) for name, metric in RESAMPLED.items()}
    monkeypatch.setattr("harmonyiqa.evaluate.intervals._BLOCK", 130)
    for name, metric in RESAMPLED.items():
        assert metric(pred, mos, resamples) == pytest.approx(whole[name], abs=1e-12)


def test_a_cluster_comes_whole_and_a_subset_sees_the_same_draws() -> None:
    resamples = draw(["a", "a", "b", "c", "b"], 20, seed=0)
    (_, counts), *_ = resamples.counts()
    assert (counts[:, 0] == counts[:, 1]).all()
    assert (counts[:, 2] == counts[:, 4]).all()
    assert (resamples.draws.sum(axis=1) == 3).all()
    chosen = np.array([False, True, True, False, False])
    (_, some), *_ = resamples.rows(chosen).counts()
    assert (some == counts[:, chosen]).all()
    assert resamples.rows(chosen).clusters == 2


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
