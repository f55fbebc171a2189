"""Null predictors by hand and, where HarmonyIQAD's labels are at hand, against values measured on them."""

import os
from pathlib import Path

import numpy as np
import pytest

from harmonyiqa.data.manifest import Row
from harmonyiqa.errors import UserError
from harmonyiqa.evaluate.null_predictors import content_sibling, method_mean, null_predictors
from harmonyiqa.metrics import krcc, plcc, srcc

LABELS = Path(
    os.environ.get("HARMONYIQA_LABELS", Path(__file__).parents[2] / "../shared/data/harmonyiqad/MOSz.xlsx")
)


def row(method: str, content: str, mos: float | None = None, group: str = "g") -> Row:
    return Row(image=f"{method}_{content}.jpg", method=method, content=content, mos=mos, group=group)


TRAIN = [row("a", "1", 60), row("a", "2", 40), row("b", "1", 34), row("b", "2", 26), row("c", "1", 90, "h")]


def test_method_mean_by_hand() -> None:
    found = method_mean(TRAIN, [row("a", "9"), row("b", "1"), row("new", "1")])
    assert found == pytest.approx([50, 30, 50])  # a method never seen: the mean of all five


def test_content_sibling_by_hand() -> None:
    # residuals in group g: content 1 has +10 (a) and +4 (b), content 2 has -10 and -4; c is of group h
    found = content_sibling(TRAIN, [row("a", "1"), row("b", "2"), row("a", "9"), row("a", "1", group="h")])
    assert found == pytest.approx([50 + 0.8 * 7, 30 - 0.8 * 7, 50, 50])


def test_no_pixel_and_no_test_score_is_looked_at() -> None:
    blind = [row("a", "1"), row("b", "9")]
    told = [row("a", "1", 99), row("b", "9", 1)]
    for predictor in (method_mean, content_sibling):
        assert (predictor(TRAIN, blind) == predictor(TRAIN, told)).all()


def test_without_shared_contents_the_sibling_is_the_method_mean() -> None:
    rows = [row("a", "8"), row("b", "9")]
    assert (content_sibling(TRAIN, rows) == method_mean(TRAIN, rows)).all()


def test_only_what_the_columns_allow() -> None:
    assert list(null_predictors(TRAIN, TRAIN)) == ["method mean", "content sibling"]
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


@pytest.mark.skipif(not LABELS.exists(), reason="labels of HarmonyIQAD are not here")
@pytest.mark.parametrize(
    ("predictor", "by_content", "expected", "deviation"),
    [
        (method_mean, True, (0.715, 0.546, 0.763), 0.027),
        (content_sibling, False, (0.791, 0.601, 0.806), 0.019),
    ],
)
def test_reproduces_the_known_leak_of_harmonyiqad(predictor, by_content, expected, deviation) -> None:
    from openpyxl import load_workbook

    rows = []
    for name, mos in load_workbook(LABELS, read_only=True).active.values:
        method, content = name.removesuffix(".jpg").removeprefix("model").split("_")
        group = "NGIHA" if int(method) < 5 else "GIHA"
        rows.append(Row(image=name, method=method, content=content, group=group, mos=float(mos)))
    rng = np.random.default_rng(0)
    found = []
    for _ in range(30):
        drawn = {str(content) for content in rng.permutation(np.arange(1, 151))[:30]}
        held = {method: {str(c) for c in rng.permutation(np.arange(1, 151))[:30]} for method in "012345678"}
        in_test = [row.content in (drawn if by_content else held[str(row.method)]) for row in rows]
        train = [row for row, inside in zip(rows, in_test, strict=True) if not inside]
        test = [row for row, inside in zip(rows, in_test, strict=True) if inside]
        pred, mos = predictor(train, test), [row.mos for row in test]
        found.append([metric(pred, mos) for metric in (srcc, krcc, plcc)])
    assert np.mean(found, axis=0) == pytest.approx(expected, abs=deviation)
