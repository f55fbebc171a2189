"""Null predictors by hand; `test_seeds.py` has them on HarmonyIQAD's real labels."""

import pytest

from harmonyiqa.data.manifest import Row
from harmonyiqa.errors import UserError
from harmonyiqa.evaluate.null_predictors import content_mean, content_sibling, method_mean, null_predictors


def row(method: str, content: str, mos: float | None = None, group: str = "g") -> Row:
    return Row(image=f"{method}_{content}.jpg", method=method, content=content, mos=mos, group=group)


TRAIN = [row("a", "1", 60), row("a", "2", 40), row("b", "1", 34), row("b", "2", 26), row("c", "1", 90, "h")]


def test_method_mean_by_hand() -> None:
    found = method_mean(TRAIN, [row("a", "9"), row("b", "1"), row("new", "1")])
    assert found == pytest.approx([50, 30, 50])  # a method never seen: the mean of all five


def test_content_mean_by_hand() -> None:
    found = content_mean(
        TRAIN, [row("x", "1"), row("a", "1", group="h"), row("a", "9"), row("a", "9", group="new")]
    )
    assert found == pytest.approx([(60 + 34) / 2, 90, (60 + 40 + 34 + 26) / 4, 50])


def test_content_sibling_by_hand() -> None:
    # residuals in group g: content 1 has +10 (a) and +4 (b), content 2 has -10 and -4; c is of group h
    found = content_sibling(TRAIN, [row("a", "1"), row("b", "2"), row("a", "9"), row("a", "1", group="h")])
    assert found == pytest.approx([50 + 0.8 * 7, 30 - 0.8 * 7, 50, 50])


def test_no_pixel_and_no_test_score_is_looked_at() -> None:
    blind = [row("a", "1"), row("b", "9")]
    told = [row("a", "1", 99), row("b", "9", 1)]
    for predictor in (method_mean, content_mean, content_sibling):
        assert (predictor(TRAIN, blind) == predictor(TRAIN, told)).all()


def test_without_shared_contents_the_sibling_is_the_method_mean() -> None:
    rows = [row("a", "8"), row("b", "9")]
    assert (content_sibling(TRAIN, rows) == method_mean(TRAIN, rows)).all()


def test_only_what_the_columns_allow() -> None:
    assert list(null_predictors(TRAIN, TRAIN)) == ["method mean", "content mean", "content sibling"]
    assert list(null_predictors(TRAIN, [row("a", "9")])) == ["method mean", "content sibling"]  # no sibling
    nameless = [Row(image="x.jpg", mos=1, method="a")]
    assert list(null_predictors(nameless, nameless)) == ["method mean"]
    assert null_predictors([Row(image="x.jpg", mos=1)], TRAIN) == {}
    assert null_predictors([], TRAIN) == {}


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ([], "no training rows"),
        ([Row(image="x.jpg", mos=1)], "x.jpg has no method"),
        ([Row(image="x.jpg", method="a")], "x.jpg has no MOS"),
    ],
)
def test_training_rows_must_be_complete(train: list[Row], message: str) -> None:
    with pytest.raises(UserError, match=message):
        method_mean(train, TRAIN)
