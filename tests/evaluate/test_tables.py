"""Subsets, within-method means, errors in cells, paired differences."""

import numpy as np
import pytest

from harmonyiqa.data.manifest import Row
from harmonyiqa.evaluate.tables import difference, measure, measure_within, measurement, subsets
from harmonyiqa.metrics import MEASURES, srcc


def make_rows(contents: int = 20, seed: int = 0) -> list[Row]:
    rng = np.random.default_rng(seed)
    level = {"a": 60.0, "b": 50.0, "c": 35.0}
    return [
        Row(
            image=f"{method}{content}.jpg",
            mos=level[method] + float(rng.normal(0, 6)),
            method=method,
            group="low" if method == "c" else "high",
            content=str(content),
        )
        for content in range(contents)
        for method in level
    ]


ROWS = make_rows()
MOS = np.array([row.mos for row in ROWS])
NOISY = MOS + np.random.default_rng(1).normal(0, 6, len(ROWS))
MEASURED = measurement(ROWS, bootstrap=200)


def test_every_subset_equals_the_plain_metric_on_its_rows() -> None:
    results = measure(MEASURED, {"noisy": NOISY}, subsets(ROWS))
    assert [(result.subset, result.images, result.contents) for result in results] == [
        ("All", 60, 20),
        ("high", 40, 20),
        ("low", 20, 20),
    ]
    for result, mask in zip(results, subsets(ROWS).values(), strict=True):
        expected = {name: metric(NOISY[mask], MOS[mask]) for name, metric in MEASURES.items()}
        assert {name: cell.value for name, cell in result.cells.items()} == expected
        for name, cell in result.cells.items():
            assert cell.value is not None, name
            assert cell.low is not None
            assert cell.high is not None
            assert cell.low < cell.value < cell.high


def test_within_method_is_the_mean_over_methods_and_knows_no_method_mean() -> None:
    method_only = np.array([{"a": 60.0, "b": 50.0, "c": 35.0}[str(row.method)] for row in ROWS])
    noisy, method = measure_within(MEASURED, {"noisy": NOISY, "method": method_only}, "method")
    per_method = [
        srcc(NOISY[mask], MOS[mask])
        for name in "abc"
        if (mask := np.array([r.method == name for r in ROWS])).any()
    ]
    assert noisy.cells["srcc"].value == pytest.approx(np.mean(per_method))
    assert noisy.cells["srcc"].low is not None
    assert method.cells["srcc"].value is None
    assert method.cells["srcc"].error == "method a: all 20 predictions are 60; a constant has no correlation"
    assert measure_within(measurement([Row(image="x", mos=1)], bootstrap=1), {}, "method") == []


def test_within_content_is_the_mean_over_contents_whose_scores_differ() -> None:
    rows = [*ROWS, Row(image="alone.jpg", mos=50.0, content="alone", method="a")]
    scores = np.append(NOISY, 1.0)
    scene_only = np.array([hash(row.content) % 97 for row in rows], dtype=float)
    measured = measurement(rows, bootstrap=300)
    noisy, scene = measure_within(measured, {"noisy": scores, "scene": scene_only}, "content")
    masks = [np.array([row.content == str(c) for row in rows]) for c in range(20)]
    each = [srcc(scores[mask], measured.mos[mask]) for mask in masks]
    assert (noisy.images, noisy.contents) == (60, 20)
    cell = noisy.cells["srcc"]
    assert cell.value == pytest.approx(np.mean(each))
    # the interval of a mean of 20 values
    assert cell.high - cell.low == pytest.approx(2 * 1.96 * np.std(each) / np.sqrt(20), rel=0.2)
    assert "content 0: all 3 predictions are" in scene.cells["srcc"].error


def test_a_constant_predictor_is_an_error_in_every_cell_and_the_rest_goes_on() -> None:
    results = measure(MEASURED, {"flat": np.full(len(ROWS), 7.0), "noisy": NOISY}, {"All": np.ones(60, bool)})
    flat, noisy = results
    assert {cell.error for cell in flat.cells.values()} == {
        "all 60 predictions are 7; a constant has no correlation"
    }
    assert noisy.cells["srcc"].error is None


def test_one_content_has_no_interval() -> None:
    rows = [Row(image=f"{i}.jpg", mos=float(i), content="same") for i in range(10)]
    (result,) = measure(
        measurement(rows, bootstrap=20), {"p": np.arange(10.0) ** 2}, {"All": np.ones(10, bool)}
    )
    assert result.cells["srcc"].value == 1
    assert result.cells["srcc"].low is None


def test_without_contents_every_image_is_drawn_alone() -> None:
    rows = [*ROWS[:-1], Row(image="last.jpg", mos=ROWS[-1].mos)]
    measured = measurement(rows, bootstrap=5)
    assert not measured.clustered
    assert measured.resamples.clusters == 60
    assert measure(measured, {"noisy": NOISY}, subsets(rows))[0].contents is None


def test_a_predictor_differs_from_itself_by_exactly_nothing() -> None:
    cell = difference(MEASURED, ("x", NOISY), ("y", NOISY)).cell
    assert (cell.value, cell.low, cell.high) == (0, 0, 0)


def test_pairing_makes_a_difference_sharper_than_two_intervals() -> None:
    worse = NOISY + np.random.default_rng(2).normal(0, 4, len(ROWS))
    found = difference(MEASURED, ("noisy", NOISY), ("worse", worse))
    swapped = difference(MEASURED, ("worse", worse), ("noisy", NOISY))
    (alone,) = measure(MEASURED, {"noisy": NOISY}, {"All": np.ones(60, bool)}, metrics=["srcc"])
    assert found.cell.value == pytest.approx(srcc(NOISY, MOS) - srcc(worse, MOS))
    assert found.cell.low == pytest.approx(-swapped.cell.high)
    assert found.cell.high - found.cell.low < 1.4 * (alone.cells["srcc"].high - alone.cells["srcc"].low)


def test_a_difference_on_some_rows_and_one_that_does_not_exist() -> None:
    mask = np.array([row.method == "c" for row in ROWS])
    found = difference(MEASURED, ("noisy", NOISY), ("flipped", -NOISY), subset="c", mask=mask)
    assert found.cell.value == pytest.approx(2 * srcc(NOISY[mask], MOS[mask]))
    assert difference(MEASURED, ("x", NOISY), ("y", 0 * NOISY)).cell.error == (
        "all 60 predictions are 0; a constant has no correlation"
    )
