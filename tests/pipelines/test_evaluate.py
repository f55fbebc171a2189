"""`harmonyiqa evaluate` and the tiny table, from files to printed table and exit status."""

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from harmonyiqa.config import StartSettings, TrainableSettings
from harmonyiqa.data.manifest import Row, read_manifest, write_manifest
from harmonyiqa.data.predictions import Prediction, read_predictions, write_predictions
from harmonyiqa.data.split_files import RUN_FILE, split_of, write_split
from harmonyiqa.errors import UserError
from harmonyiqa.metrics import MEASURES
from harmonyiqa.pipelines.evaluate import evaluate

METHODS = {"hue": 45.0, "gamma": 55.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic set: 4 training contents, 6 test contents, two methods, noise for images."""
    folder = tmp_path_factory.mktemp("set")
    rng = np.random.default_rng(0)
    rows = []
    for content in range(10):
        pixels = rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{content}.png")
        for method, level in METHODS.items():
            mos = level + float(rng.normal(0, 8))
            changed = np.clip(pixels * (mos / 80), 0, 255).astype(np.uint8)
            Image.fromarray(changed).save(folder / f"{content}_{method}.png")
            rows.append(
                Row(
                    image=f"{content}_{method}.png",
                    reference=f"{content}.png",
                    mos=mos,
                    method=method,
                    content=str(content),
                    split="train" if content < 4 else "test",
                    mos_kind="synthetic",
                    extra={"decoy": "hue" if content % 2 else None},
                )
            )
    write_manifest(rows, folder / "manifest.csv")
    noise = rng.normal(0, 6, len(rows))
    scored = [
        Prediction(row.image, None, (row.mos or 0) + each, "ours")
        for row, each in zip(rows, noise.tolist(), strict=True)
    ]
    write_predictions(scored, folder / "predictions.csv")
    write_predictions([replace(scored[8], score=None, error="damaged"), *scored[10:]], folder / "partly.csv")
    write_predictions([replace(row, score=5.0) for row in scored], folder / "flat.csv")
    flipped = [replace(row, score=-(row.score or 0) + i % 3, model="flipped") for i, row in enumerate(scored)]
    write_predictions(flipped, folder / "flipped.csv")
    return folder


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Folders of a stage-1 and a stage-2 model with random weights."""
    from harmonyiqa.model.storage import start
    from harmonyiqa.model.tiny import make_tiny_model

    folder = tmp_path_factory.mktemp("models")
    base = make_tiny_model(folder / "base")
    settings = StartSettings(model=str(base), max_tiles=1)
    for stage in (1, 2):
        start(settings, TrainableSettings(), stage).save_pretrained(folder / f"stage{stage}")
    return str(folder / "stage1"), str(folder / "stage2")


def test_table_json_and_markdown_say_the_same(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = evaluate(
        str(folder / "manifest.csv"),
        predictions=str(folder / "predictions.csv"),
        bootstrap=50,
        out_json=str(tmp_path / "o.json"),
        out_markdown=str(tmp_path / "o.md"),
    )
    printed = capsys.readouterr().out
    assert status == 0
    assert printed == (tmp_path / "o.md").read_text(encoding="utf-8")
    assert printed.startswith("# manifest.csv, test rows (synthetic MOS)\n")
    assert "content-disjoint: 0 of 10 contents stand in two splits" in printed
    assert "learn from 8 train rows" in printed

    table = read_manifest(folder / "manifest.csv")
    scores = {row.image: row.score for row in read_predictions(folder / "predictions.csv")}
    test = table.split("test").rows
    pair = [scores[row.image] or 0 for row in test], [row.mos or 0 for row in test]
    expected = {name: metric(*pair) for name, metric in MEASURES.items()}
    found = json.loads((tmp_path / "o.json").read_text(encoding="utf-8"))
    ours = found["results"][0]
    assert (ours["predictor"], ours["subset"], ours["images"], ours["contents"]) == ("ours, NR", "All", 12, 6)
    assert {name: cell["value"] for name, cell in ours["cells"].items()} == expected
    assert [each["second"] for each in found["differences"]] == [
        "method mean",
        "content sibling",
    ]


def test_rows_without_a_score_are_said_and_make_the_status_one(
    folder: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    files = {"manifest": str(folder / "manifest.csv"), "predictions": str(folder / "partly.csv")}
    assert evaluate(**files, bootstrap=5) == 1
    printed = capsys.readouterr().out
    for line in ("1 rows have no prediction: 4_gamma.png", "1 rows could not be scored: 4_hue.png (damaged)"):
        assert f"- {line}\n" in printed
        assert line in caplog.text
    assert "| 10     | 5 " in printed


def test_a_constant_model_is_an_error_cell_not_a_number(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate(str(folder / "manifest.csv"), predictions=str(folder / "flat.csv"), bootstrap=5)
    printed = capsys.readouterr().out
    ours = next(line for line in printed.splitlines() if line.startswith("| All") and "ours" in line)
    assert ours.count("error (1)") == 3
    assert "- error (1): all 12 predictions are 5; a constant has no correlation\n" in printed


def test_two_files_are_compared_on_the_images_that_both_have_scored(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {"manifest": str(folder / "manifest.csv"), "predictions": str(folder / "predictions.csv")}
    assert evaluate(**files, against=str(folder / "partly.csv"), bootstrap=20) == 1
    printed = capsys.readouterr().out
    assert "- 10 rows that both have scored, of 12.\n" in printed
    other = f"ours, NR ({folder / 'partly.csv'})"
    assert f"| ours, NR - {other} " in printed
    assert "+0.000 [+0.000, +0.000]" in printed
    evaluate(**files, against=str(folder / "flipped.csv"), bootstrap=20)
    line = next(
        line for line in capsys.readouterr().out.splitlines() if line.startswith("| ours, NR - flipped")
    )
    assert line.count(", p ") == 2


def test_many_seeds_give_mean_and_deviation_with_and_without_a_model(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(str(folder / "manifest.csv"), seeds=3) == 0
    printed = capsys.readouterr().out
    assert "| All  | method mean " in printed
    assert " +- " in printed
    assert "3 random splits (seeds 0 to 2), 80% for training, by content" in printed
    predictions = str(folder / "predictions.csv")
    assert evaluate(str(folder / "manifest.csv"), predictions, seeds=3, kind="method") == 0
    assert "| All  | ours, NR " in capsys.readouterr().out


def test_splits_and_null_manifests_can_be_chosen(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {"manifest": str(folder / "manifest.csv"), "predictions": str(folder / "predictions.csv")}
    evaluate(**files, split="all", bootstrap=5)
    printed = capsys.readouterr().out
    assert "| 20     | 10 " in printed
    assert "8 of the evaluated rows are among them" in printed
    rows = [Row(image="elsewhere.png", method=method, mos=1.0, content="z") for method in METHODS]
    write_manifest(rows, folder / "other.csv")
    evaluate(**files, null_manifest=str(folder / "other.csv"), bootstrap=5)
    assert "learn from 2 train rows" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "give --predictions FILE or --model MODEL, one of the two"),
        ({"predictions": "predictions.csv", "model": "m"}, "one of the two"),
        ({"seeds": 2, "split": "test"}, "seeds 2 and split 'test' contradict each other"),
        ({"predictions": "predictions.csv", "bootstrap": 0}, "bootstrap 0 must be at least 1"),
        ({"predictions": "predictions.csv", "split": "val"}, "no row of split 'val'"),
        ({"predictions": "nothing.csv"}, "nothing.csv does not exist"),
        ({"predictions": "two.csv"}, "holds predictions of ours, theirs; give one model a file"),
    ],
)
def test_wrong_use_is_one_clear_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: dict, message: str
) -> None:
    monkeypatch.chdir(folder)
    write_predictions([Prediction("a", None, 1, "ours"), Prediction("b", None, 1, "theirs")], "two.csv")
    with pytest.raises(UserError, match=message):
        evaluate("manifest.csv", **arguments)


def test_a_model_is_scored_and_measured_in_one_go(
    folder: Path, stages: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    for no_reference, mode in ((False, "FR"), (True, "NR")):
        status = evaluate(
            str(folder / "manifest.csv"), model=stages[1], no_reference=no_reference, bootstrap=5
        )
        assert status == 0
        assert f"stage2, {mode} " in capsys.readouterr().out


def test_a_model_judged_on_its_training_images_says_so_in_log_and_table(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], stages: tuple[str, str], caplog
) -> None:
    model = tmp_path / "model"
    shutil.copytree(stages[1], model)
    write_split(split_of(read_manifest(folder / "manifest.csv").rows, "seen"), model / RUN_FILE)
    for rows, count in (("train", 8), ("test", 0)):
        caplog.clear()
        evaluate(str(folder / "manifest.csv"), model=str(model), split=rows, bootstrap=5)
        said = f"was trained on {count} of these {count} images"
        assert (said in caplog.text) == (said in capsys.readouterr().out) == bool(count)


def test_the_tiny_table_has_one_line_a_predictor_and_the_three_comparisons(
    folder: Path,
    stages: tuple[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    load_script: Callable[[str], ModuleType],
) -> None:
    script = load_script("tiny_table")

    # random weights write no sentence with a number: their text scores are stood in for
    said = script.score_all

    def score_all(*arguments):
        found = said(*arguments)
        for name in (script.TEXT_NR, script.TEXT_FR):
            assert len(found[name]) == 12
            found[name] = [replace(row, score=float(i), error=None) for i, row in enumerate(found[name])]
        return found

    script.score_all = score_all
    out = tmp_path / "o.json"
    assert script.main(str(folder / "manifest.csv"), *stages, bootstrap=20, out_json=str(out)) == 0
    printed = capsys.readouterr().out
    assert "(synthetic MOS)" in printed
    assert "6 of them decoys" in printed
    lines = [line.split("|")[1].strip() for line in printed.splitlines() if line.startswith("| ")]
    assert lines == [
        "predictor",
        "stage 1, text, NR",
        "stage 1, text, FR",
        "stage 2, NR",
        "stage 2, FR",
        "CIEDE2000, whole image",
        "PSNR, whole image",
        "method mean",
        "content sibling",
        "difference",
        "stage 2, FR - CIEDE2000, whole image",
        "stage 2, NR - stage 1, text, NR",
        "stage 2, NR - method mean",
        "stage 2, NR - content sibling",
    ]
    found = json.loads(out.read_text(encoding="utf-8"))
    assert [each["subset"] for each in found["differences"]] == ["decoys", "All", "All", "All"]
    assert found["differences"][0]["cell"]["error"] is None
