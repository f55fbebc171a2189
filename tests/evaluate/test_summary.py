"""What a reader is told beside the numbers."""

from dataclasses import replace

import numpy as np
import pytest

from harmonyiqa.data.manifest import Row
from harmonyiqa.errors import UserError
from harmonyiqa.evaluate.summary import split_note, summarize, summarize_seeds, synthetic_mark


def make_rows(split: str, contents: range, mos_kind: str | None = None) -> list[Row]:
    return [
        Row(
            image=f"{content}{method}.jpg",
            mos=base + content % 7,
            method=method,
            content=str(content),
            split=split,
            mos_kind=mos_kind,
        )
        for content in contents
        for method, base in (("a", 40.0), ("b", 60.0))
    ]


TRAIN, TEST = make_rows("train", range(10)), make_rows("test", range(10, 22))


def summary(rows: list[Row], train: list[Row], bootstrap: int = 5):
    noise = np.random.default_rng(0).normal(0, 3, (2, len(rows)))
    mos = np.array([row.mos for row in rows])
    return summarize(
        rows, {"ours": mos + noise[0], "theirs": mos + noise[1]}, train, title="t", bootstrap=bootstrap
    )


def test_null_predictors_stand_beside_the_models_and_the_first_is_compared_with_all() -> None:
    found = summary(TEST, TRAIN, bootstrap=50)
    nulls = ["method mean", "content sibling"]
    assert [r.predictor for r in found.results if r.subset == "All"] == ["ours", "theirs", *nulls]
    assert [(d.first, d.second) for d in found.differences] == [("ours", n) for n in ["theirs", *nulls]]
    assert {r.subset for r in found.results} == {"All", "within method", "within content"}
    assert [ranking.predictor for ranking in found.rankings] == ["ours", "theirs"]
    assert found.title == "t (MOS)"
    assert any("learn from 20 train rows" in note for note in found.notes)
    assert any("No image has a sibling in training" in note for note in found.notes)


def test_over_seeds_it_says_how_it_split() -> None:
    found = summarize_seeds(TRAIN + TEST, {}, title="t", seeds=3, kind="method")
    assert [r.predictor for r in found.results] == ["method mean", "content mean", "content sibling"]
    assert any("3 random splits" in note and "scenes stand in both parts" in note for note in found.notes)


def test_without_training_rows_or_methods_it_says_why_there_are_no_null_predictors() -> None:
    assert any("for want of train rows" in n for n in summary(TEST, []).notes)
    nameless = [replace(row, method=None, content=None) for row in TEST]
    notes = summary(nameless, [replace(row, method=None, content=None) for row in TRAIN]).notes
    assert any("for want of a method or a content in every row" in note for note in notes)


def test_null_predictors_that_saw_the_evaluated_rows_are_marked() -> None:
    notes = summary(TRAIN, TRAIN).notes
    assert any("20 of the evaluated rows are among them" in note for note in notes)


def test_synthetic_scores_are_named_in_the_heading() -> None:
    synthetic = make_rows("test", range(5), "synthetic")
    assert summary(synthetic, []).title == "t (synthetic MOS)"
    assert synthetic_mark(synthetic + TEST) == "partly synthetic "


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (TRAIN + TEST, "Split: test; content-disjoint: 0 of 22 contents stand in two splits."),
        (
            make_rows("train", range(10)) + make_rows("test", range(8, 12)),
            "Split: test; NOT content-disjoint, test scenes were seen in training: "
            "2 of 12 contents stand in two splits.",
        ),
        ([replace(row, split=None) for row in TRAIN], "Split: none, all rows are evaluated."),
        (
            [replace(row, content=None) for row in TRAIN],
            "Split: test. The manifest names no contents, so shared scenes cannot be counted.",
        ),
    ],
)
def test_the_split_and_its_leak_are_stated(rows: list[Row], expected: str) -> None:
    assert split_note(rows, "test") == expected


def test_nothing_to_measure_is_an_error() -> None:
    with pytest.raises(UserError, match="no row has both a MOS and a score"):
        summarize([], {}, [], title="t")
