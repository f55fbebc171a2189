"""What a reader is told beside the numbers."""

from dataclasses import replace

import numpy as np
import pytest

from harmonyiqa.data.manifest import Row
from harmonyiqa.errors import UserError
from harmonyiqa.evaluate.join import Joined
from harmonyiqa.evaluate.summary import split_note, summarize, synthetic_mark


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


def joined(rows: list[Row]) -> Joined:
    noise = np.random.default_rng(0).normal(0, 3, len(rows))
    return Joined(rows, np.array([row.mos for row in rows]) + noise, "NR", 0, [])


def test_null_predictors_stand_beside_the_model_with_paired_differences() -> None:
    found = summarize(joined(TEST), "ours", TRAIN, title="t", bootstrap=50)
    assert [r.predictor for r in found.results if r.subset == "All"] == [
        "ours",
        "method mean",
        "content sibling",
    ]
    assert [(d.first, d.second) for d in found.differences] == [
        ("ours", "method mean"),
        ("ours", "content sibling"),
    ]
    assert found.title == "t (MOS)"
    assert any("learn from 20 train rows" in note for note in found.notes)


def test_without_training_rows_or_methods_it_says_why_there_are_no_null_predictors() -> None:
    assert any(
        "for want of train rows" in n for n in summarize(joined(TEST), "m", [], title="t", bootstrap=5).notes
    )
    nameless = [replace(row, method=None) for row in TEST]
    notes = summarize(joined(nameless), "m", TRAIN, title="t", bootstrap=5).notes
    assert any("for want of a method in every row" in note for note in notes)


def test_null_predictors_that_saw_the_evaluated_rows_are_marked() -> None:
    notes = summarize(joined(TRAIN), "m", TRAIN, title="t", bootstrap=5).notes
    assert any("20 of the evaluated rows are among them" in note for note in notes)


def test_synthetic_scores_are_named_in_the_heading() -> None:
    synthetic = make_rows("test", range(5), "synthetic")
    assert summarize(joined(synthetic), "m", [], title="t", bootstrap=5).title == "t (synthetic MOS)"
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
        summarize(Joined([], np.array([]), "", 3, []), "m", [], title="t")
