"""Many splits: by hand on a small set and, where HarmonyIQAD's labels are at hand, against RECIPE's table."""

import os
from pathlib import Path

import numpy as np
import pytest

from harmonyiqa.data.manifest import Row
from harmonyiqa.data.splits import split_by_content
from harmonyiqa.errors import UserError
from harmonyiqa.evaluate.null_predictors import method_mean
from harmonyiqa.evaluate.seeds import measure_seeds
from harmonyiqa.metrics import srcc

LABELS = Path(
    os.environ.get("HARMONYIQA_LABELS", Path(__file__).parents[2] / "../shared/data/harmonyiqad/MOSz.xlsx")
)
ROWS = [
    Row(f"{m}{c}.jpg", mos=20.0 * m + (c * 7) % 11, method=str(m), content=str(c))
    for m in range(3)
    for c in range(10)
]


def test_mean_and_deviation_are_those_of_the_single_splits() -> None:
    found = measure_seeds(ROWS, {}, seeds=4, kind="content", metrics=["srcc"])
    each = []
    for seed in range(4):
        split = split_by_content(ROWS, 0.8, 0.0, seed)
        train, test = ([row for row in split if row.split == name] for name in ("train", "test"))
        each.append(srcc(method_mean(train, test), [row.mos for row in test]))
    cell = found[0].cells["srcc"]
    assert (found[0].predictor, found[0].images, found[0].contents) == ("method mean", 6, 2)
    assert (cell.value, cell.deviation) == pytest.approx((np.mean(each), np.std(each, ddof=1)))


def test_given_predictions_are_looked_up_and_a_constant_one_is_an_error_with_its_seed() -> None:
    mos = np.array([row.mos for row in ROWS])
    found = measure_seeds(ROWS, {"perfect": mos, "flat": 0 * mos}, seeds=2, kind="method", metrics=["srcc"])
    perfect, flat = found[0].cells["srcc"], found[1].cells["srcc"]
    assert (perfect.value, perfect.deviation) == pytest.approx((1, 0))
    assert flat.error == "seed 0: all 6 predictions are 0; a constant has no correlation"


def test_one_seed_has_no_deviation() -> None:
    with pytest.raises(UserError, match="seeds 1 has no deviation; give 2 or more"):
        measure_seeds(ROWS, {}, seeds=1, kind="content")


@pytest.mark.slow
@pytest.mark.skipif(not LABELS.exists(), reason="labels of HarmonyIQAD are not here")
@pytest.mark.parametrize(
    ("name", "kind", "deviation", "expected"),
    [
        (
            "method mean",
            "content",
            0.027,
            {"All": (0.715, 0.546, 0.763), "NGIHA": (0.312, 0.236, 0.337), "GIHA": (0.791, 0.622, 0.839)},
        ),
        (
            "content sibling",
            "method",
            0.019,
            {"All": (0.791, 0.601, 0.806), "NGIHA": (0.553, 0.391, 0.560), "GIHA": (0.839, 0.625, 0.829)},
        ),
    ],
)
def test_the_known_leak_of_harmonyiqad(name: str, kind: str, deviation: float, expected: dict) -> None:
    from openpyxl import load_workbook

    rows = []
    for image, mos in load_workbook(LABELS, read_only=True).active.values:
        method, content = image.removesuffix(".jpg").removeprefix("model").split("_")
        group = "NGIHA" if int(method) < 5 else "GIHA"
        rows.append(Row(image=image, method=method, content=content, group=group, mos=float(mos)))
    found = measure_seeds(rows, {}, seeds=200, kind=kind, metrics=("srcc", "krcc", "plcc"))
    for subset, numbers in expected.items():
        (result,) = (each for each in found if (each.predictor, each.subset) == (name, subset))
        values = [cell.value for cell in result.cells.values()]
        assert values == pytest.approx(numbers, abs=deviation)
        if subset == "All":
            assert result.cells["srcc"].deviation == pytest.approx(deviation, abs=0.004)
