from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harmonyiqa.data.manifest import Row
from harmonyiqa.data.splits import (
    FOLDS,
    contents_in_two_splits,
    folds_by_content,
    folds_by_method,
    leakage,
    split_by_content,
    split_by_method,
)
from harmonyiqa.errors import UserError


def composites(contents: int, methods: int) -> list[Row]:
    """Named like HarmonyIQAD: every method once on every content."""
    return [
        Row(f"model{m}_{c}.jpg", mos=50.0, method=f"model{m}", content=str(c))
        for m in range(methods)
        for c in range(contents)
    ]


@settings(deadline=None)
@given(
    contents=st.integers(10, 60),
    methods=st.integers(1, 5),
    train=st.floats(0.3, 0.7),
    val=st.floats(0.1, 0.2),
    seed=st.integers(0, 2**31),
)
def test_by_content_no_content_stands_in_two_splits(
    contents: int, methods: int, train: float, val: float, seed: int
) -> None:
    rows = composites(contents, methods)
    cut = split_by_content(rows, train, val, seed)
    assert contents_in_two_splits(cut) == {}
    assert [row.image for row in cut] == [row.image for row in rows]
    share = Counter(row.split for row in cut)
    assert share["train"] / len(rows) == pytest.approx(train, abs=0.5 / contents + 1e-9)
    assert share["train"] + share["val"] + share["test"] == len(rows)


@settings(deadline=None)
@given(contents=st.integers(5, 40), seed=st.integers(0, 2**31))
def test_by_method_every_method_is_cut_alike(contents: int, seed: int) -> None:
    cut = split_by_method(composites(contents, 3), 0.7, 0.1, seed)
    per_method = [Counter(row.split for row in cut if row.method == f"model{m}") for m in range(3)]
    assert per_method[0] == per_method[1] == per_method[2]
    assert per_method[0]["test"] == pytest.approx(0.2 * contents, abs=0.5)


def test_by_method_at_four_to_one_most_contents_of_harmonyiqad_stand_in_two_splits() -> None:
    cut = split_by_method(composites(150, 9), 0.8, 0.0, seed=0)
    assert Counter(row.split for row in cut) == {"train": 1080, "test": 270}
    # a scene is whole with probability .8^9 + .2^9 = .134
    assert len(contents_in_two_splits(cut)) == pytest.approx(150 * (1 - 0.134), abs=15)


def test_a_seed_decides() -> None:
    rows = composites(50, 2)
    assert split_by_content(rows, 0.7, 0.1, 3) == split_by_content(rows, 0.7, 0.1, 3)
    assert split_by_content(rows, 0.7, 0.1, 3) != split_by_content(rows, 0.7, 0.1, 4)


def test_contents_do_not_depend_on_the_order_of_rows() -> None:
    rows = composites(30, 2)
    there = {row.content: row.split for row in split_by_content(rows, 0.7, 0.1, 0)}
    back = {row.content: row.split for row in split_by_content(rows[::-1], 0.7, 0.1, 0)}
    assert there == back


def test_shares_of_one_leave_no_test_rows() -> None:
    assert {row.split for row in split_by_content(composites(10, 1), 0.7, 0.3, 0)} == {"train", "val"}


@pytest.mark.parametrize(("train", "val"), [(0.9, 0.2), (0.0, 0.5), (0.5, -0.1)])
def test_impossible_shares_are_refused(train: float, val: float) -> None:
    with pytest.raises(UserError, match=f"--train {train:g} --val {val:g}: shares must not"):
        split_by_content(composites(10, 1), train, val, 0)


def test_too_few_contents_are_refused() -> None:
    with pytest.raises(UserError, match="3 contents are too few: none is left for val"):
        split_by_content(composites(3, 9), 0.7, 0.1, 0)


def test_a_row_without_the_column_is_named() -> None:
    with pytest.raises(UserError, match=r"row 1 \(a.png\) has no content; .* --kind method"):
        split_by_content([Row("a.png", method="m")], 0.7, 0.1, 0)
    with pytest.raises(UserError, match=r"row 1 \(a.png\) has no method; .* --kind content"):
        split_by_method([Row("a.png", content="c")], 0.7, 0.1, 0)


def test_a_content_in_two_splits_is_named_with_both() -> None:
    rows = [Row("a", content="x", split="test"), Row("b", content="x", split="train"), Row("c", content="x")]
    assert contents_in_two_splits(rows) == {"x": ["train", "test"]}


@settings(deadline=None, max_examples=30)
@given(contents=st.integers(10, 60), count=st.integers(2, 6), seed=st.integers(0, 2**31))
@pytest.mark.parametrize("kind", FOLDS)
def test_folds_test_every_image_once(kind: str, contents: int, count: int, seed: int) -> None:
    rows = composites(contents, 3)
    folds = FOLDS[kind](rows, count, 0.1, seed)
    tested = Counter(row.image for fold in folds for row in fold if row.split == "test")
    assert tested == dict.fromkeys((row.image for row in rows), 1)
    sizes = Counter(row.split for row in folds[0])
    assert sizes["val"] == 3 * round(0.1 * contents)
    assert sizes["test"] == pytest.approx(3 * contents / count, abs=3)


def test_folds_by_content_share_no_content() -> None:
    assert all(contents_in_two_splits(fold) == {} for fold in folds_by_content(composites(23, 4), 5, 0.1, 0))


def test_folds_by_method_are_alike_in_every_method() -> None:
    for fold in folds_by_method(composites(150, 9), 5, 0.1, 0):
        counts = {Counter(row.split for row in fold if row.method == f"model{m}")["test"] for m in range(9)}
        assert counts == {30}


@pytest.mark.parametrize(
    ("count", "val", "message"),
    [
        (1, 0.1, "--folds 1 must be at least 2"),
        (11, 0.0, "--folds 11 must be at least 2, and at most the 10 there are"),
        (2, 0.5, "--val 0.5 with --folds 2 must be 0 or more and leave some"),
        (2, -0.1, "--val -0.1 with --folds 2"),
    ],
)
@pytest.mark.parametrize("kind", FOLDS)
def test_impossible_folds_are_refused(kind: str, count: int, val: float, message: str) -> None:
    with pytest.raises(UserError, match=message):
        FOLDS[kind](composites(10, 2), count, val, 0)


def test_leakage_counts_what_a_test_image_has_in_common_with_training() -> None:
    rows = [
        Row("a1", reference="a", content="a", group="NGIHA", split="train"),
        Row("a2", reference="a", content="a", group="NGIHA", split="test"),
        Row("a3", reference="a", content="a", group="GIHA", split="test"),
        Row("b1", reference="b", content="b", group="GIHA", split="test"),
        Row("b1", reference="b", content="b", group="GIHA", split="val"),
        Row("c1", content="c", split="test"),
    ]
    found = leakage(rows)
    assert (found.test, found.seen, found.siblings) == (4, 3, 2)
    assert (found.contents, found.contents_twice, found.images_twice, found.references_twice) == (3, 2, 1, 2)
    assert found.lines() == [
        "2 of 3 contents stand in two splits",
        "3 of 4 test images show a scene that training saw, 2 of them made by a method of the same group",
        "2 references stand in two splits",
        "1 images stand in two splits: the test set is trained on",
    ]


def test_a_clean_split_is_one_line() -> None:
    assert leakage(split_by_content(composites(20, 3), 0.7, 0.1, 0)).lines() == [
        "0 of 20 contents stand in two splits"
    ]
