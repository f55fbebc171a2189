import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from harmonyiqa.evaluate.intervals import draw
from harmonyiqa.evaluate.separation import pairs_within, resample_auc, right
from harmonyiqa.metrics import MetricError, auc

scores = st.lists(st.integers(0, 6).map(float), min_size=1, max_size=30).map(np.array)


@given(scores, scores)
def test_auc_is_scikit_learns_ties_included(better, worse) -> None:
    truth = np.repeat([1, 0], [len(better), len(worse)])
    assert auc(better, worse) == pytest.approx(roc_auc_score(truth, np.concatenate([better, worse])))


def test_a_resample_is_the_auc_of_the_rows_drawn() -> None:
    rng = np.random.default_rng(0)
    values, kind = rng.integers(0, 8, 60).astype(float), rng.integers(0, 3, 60)
    resamples = draw((np.arange(60) // 4).tolist(), 20, seed=1)
    found = resample_auc(values, kind == 0, kind == 1, resamples)
    for one, counts in zip(found, resamples.draws, strict=True):
        rows = np.repeat(np.arange(60), counts[resamples.cluster])
        rows = rows[kind[rows] < 2]
        assert one == pytest.approx(roc_auc_score(kind[rows] == 0, values[rows]))


def test_a_resample_without_one_kind_has_no_value() -> None:
    resamples = draw(["a", "b"], 200, seed=0)
    found = resample_auc(np.array([1.0, 0.0]), np.array([True, False]), np.array([False, True]), resamples)
    assert set(found[np.isfinite(found)]) == {1.0}
    assert 0 < np.isnan(found).sum() < 200


def test_no_image_of_one_kind_is_an_error() -> None:
    with pytest.raises(MetricError, match="no image"):
        auc(np.array([1.0]), np.array([]))


def test_pairs_stay_within_a_scene_and_beyond_the_gap() -> None:
    scene = np.array(["a", "a", "a", "b", "b"])
    truth = np.array([0.0, 3.0, 5.0, 9.0, 9.0])
    higher, lower = pairs_within(scene, truth, 3)
    assert sorted(zip(higher, lower, strict=True)) == [(1, 0), (2, 0)]
    assert right(np.array([1.0, 2.0, 1.0, 0, 0]), higher, lower).tolist() == [1.0, 0.5]
