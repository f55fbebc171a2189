"""Joining by key: what matches, what is counted, what is refused."""

from pathlib import Path

import pytest

from harmonyiqa.data.manifest import Manifest, Row
from harmonyiqa.data.predictions import Prediction
from harmonyiqa.errors import UserError
from harmonyiqa.evaluate.join import common, join


def manifest(*rows: Row) -> Manifest:
    return Manifest(Path("set/manifest.csv"), list(rows))


def said(
    image: str, score: float | None, reference: str | None = None, error: str | None = None
) -> Prediction:
    return Prediction(image, reference, score, "m", error)


A, B, C = (
    Row(image=f"{name}.jpg", reference=f"{name}_ref.jpg", mos=mos)
    for name, mos in zip("abc", (1, 2, 3), strict=True)
)


def test_rows_keep_the_manifests_order_whatever_the_predictions_order() -> None:
    joined = join(manifest(A, B, C), [said("c.jpg", 30), said("a.jpg", 10), said("b.jpg", 20)])
    assert joined.rows == [A, B, C]
    assert joined.scores.tolist() == [10, 20, 30]
    assert joined.mos.tolist() == [1, 2, 3]
    assert (joined.mode, joined.unused, joined.problems) == ("NR", 0, [])


def test_with_a_reference_the_pair_is_the_key() -> None:
    other = Row(image="a.jpg", reference="other.jpg", mos=9)
    joined = join(manifest(A, other), [said("a.jpg", 1, "other.jpg"), said("a.jpg", 2, "a_ref.jpg")])
    assert joined.scores.tolist() == [2, 1]
    assert joined.mode == "FR"


def test_everything_left_out_is_counted_and_named() -> None:
    blank = Row(image="blank.jpg")
    joined = join(
        manifest(A, B, C, blank),
        [said("a.jpg", 1), said("b.jpg", None, error="damaged"), said("x.jpg", 1), said("blank.jpg", 5)],
    )
    assert joined.rows == [A]
    assert joined.unused == 3
    assert joined.problems == [
        "1 rows have no MOS: blank.jpg",
        "1 rows have no prediction: c.jpg",
        "1 rows could not be scored: b.jpg (damaged)",
        "1 predictions belong to no row of the manifest: x.jpg",
    ]


def test_many_problems_are_counted_with_the_first_names_only() -> None:
    rows = [Row(image=f"{i}.jpg", mos=1) for i in range(9)]
    joined = join(manifest(*rows), [said("0.jpg", 1)])
    assert joined.problems == ["8 rows have no prediction: 1.jpg, 2.jpg, 3.jpg, and 5 more"]


def test_predictions_of_another_split_are_no_problem() -> None:
    assert join(manifest(A), [said("a.jpg", 1), said("b.jpg", 2)], known=[A, B]).problems == []


def test_names_that_never_match_are_an_error_that_shows_both() -> None:
    with pytest.raises(UserError, match=r"'a\.jpg'.*'set/a\.jpg'.*score the manifest itself"):
        join(manifest(A), [said("set/a.jpg", 1)])


def test_two_scores_for_one_pair_are_refused_but_a_repeat_is_not() -> None:
    assert join(manifest(A), [said("a.jpg", 1), said("a.jpg", 1)]).scores.tolist() == [1]
    with pytest.raises(UserError, match=r"a\.jpg with reference None has two scores, 1 and 2"):
        join(manifest(A), [said("a.jpg", 1), said("a.jpg", 2)])


def test_common_keeps_rows_that_all_have_scored() -> None:
    table = manifest(A, B, C)
    rows, scores = common(
        {
            "one": join(table, [said("a.jpg", 1), said("b.jpg", 2), said("c.jpg", 3)]),
            "two": join(table, [said("c.jpg", 30), said("a.jpg", 10)]),
        }
    )
    assert rows == [A, C]
    assert {name: values.tolist() for name, values in scores.items()} == {"one": [1, 3], "two": [10, 30]}
    with pytest.raises(UserError, match="a score of each of one, two"):
        common({"one": join(table, [said("a.jpg", 1)]), "two": join(table, [said("b.jpg", 1)])})
