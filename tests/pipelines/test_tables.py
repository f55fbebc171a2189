"""`harmonyiqa tables` and the script that reproduces them, from files to pages."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from harmonyiqa import cli
from harmonyiqa.data.manifest import Row, write_manifest
from harmonyiqa.data.predictions import Prediction, write_predictions
from harmonyiqa.errors import UserError
from harmonyiqa.evaluate.tables import Cell, Evaluation, Result
from harmonyiqa.pipelines.tables import tables
from harmonyiqa.report.tables import to_json, write_text


def rows_of(prefix: str, contents: int, reference: str | None = None) -> list[Row]:
    rng = np.random.default_rng(0)
    return [
        Row(
            f"{prefix}model{method}_{content}.png",
            reference=reference and reference.format(content),
            mos=40.0 + 5 * method + float(rng.normal(0, 6)),
            method=f"model{method}",
            group="NGIHA" if method < 2 else "GIHA",
            content=str(content),
            split="train" if content < contents // 2 else "test",
        )
        for content in range(contents)
        for method in range(4)
    ]


def predict(rows: list[Row], path: Path, model: str, noise: float, full_reference: bool = False) -> str:
    errors = np.random.default_rng(1).normal(0, noise, len(rows)).tolist()
    write_predictions(
        [
            Prediction(row.image, row.reference if full_reference else None, (row.mos or 0) + error, model)
            for row, error in zip(rows, errors, strict=True)
        ],
        path,
    )
    return str(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    harmony, csiq = rows_of("h/", 16, "r/{}.png"), rows_of("c/", 8)
    write_manifest(harmony, tmp_path / "harmonyiqad.csv")
    write_manifest(csiq, tmp_path / "csiq.csv")
    predict(harmony, tmp_path / "psnr.csv", "psnr", 8, full_reference=True)
    predict(harmony, tmp_path / "nr.csv", "run7", 4)
    predict(harmony, tmp_path / "lora.csv", "run8", 9)
    predict(csiq, tmp_path / "csiq_nr.csv", "run7", 3)
    cross = [Result("harmonyiqa", "LIVE -> CSIQ", 866, 30, {"srcc": Cell(0.9, 0.85, 0.93)})]
    write_text(to_json(Evaluation("t", [], cross)), tmp_path / "cross.json")
    return tmp_path


def test_every_file_goes_into_its_tables(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder / "out"
    words = [
        "tables",
        "--manifest",
        str(folder / "harmonyiqad.csv"),
        "--predictions",
        str(folder / "psnr.csv"),
    ]
    words += [f"HarmonyIQA={folder / 'nr.csv'}", f"lora_both={folder / 'lora.csv'}"]
    words += [f"harmonyiqa={folder / 'csiq_nr.csv'}", "--others", f"csiq={folder / 'csiq.csv'}"]
    words += ["--cross", str(folder / "cross.json"), "--seeds", "2", "--bootstrap", "20", "--out", str(out)]
    assert cli.main([*words, "--notes", "made by hand"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith((out / "tables.md").read_text(encoding="utf-8"))
    parts = dict(zip(["", "II", "III", "IV", "V", "VI"], printed.split("\n## Table "), strict=True))

    def ours(table: str, method: str) -> list[str]:
        lines = [[cell.strip() for cell in line.split("|")] for line in parts[table].splitlines()]
        return [cells[3] for cells in lines if cells[1:2] == [method]]

    assert all("[" in cell for cell in ours("II", "PSNR"))
    assert ours("II", "FSIM") == ["-"] * 3
    assert ours("III", "HarmonyIQA (NR)") == ours("IV", "LoRA on both + projector + score head")
    assert all("[" in cell for cell in ours("IV", "LoRA on both"))
    assert "lora" not in parts["III"]
    assert ["[" in cell for cell in ours("V", "HarmonyIQA (NR)")] == [True, False, False]
    assert ours("VI", "HarmonyIQA")[0] == "0.900 [0.850, 0.930]"
    assert len(ours("II", "method mean")) == 3
    assert "content-disjoint: 0 of 16 contents stand in two splits" in printed
    assert "over random splits per method, as in the paper (2 seeds, 4:1)" in printed
    assert "- made by hand\n" in printed
    names = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert {"tables.md", "tables.tex", "tables.csv", "tables.html", "figures/fig3a_mos.svg"} <= names
    assert "figures/01_harmonyiqa_NR_scatter.svg" in names


def test_several_files_of_one_row_are_seeds(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [f"harmonyiqa={folder / name}" for name in ("nr.csv", "lora.csv")]
    tables(str(folder / "harmonyiqad.csv"), files, seeds=0, bootstrap=5)
    line = next(
        line for line in capsys.readouterr().out.splitlines() if line.startswith("| HarmonyIQA (NR) ")
    )
    assert line.count(" +- ") == 3


@pytest.mark.parametrize(
    ("predictions", "others", "message"),
    [
        (["strange.csv"], [], r"strange.csv predicts 'x.png', which is in none of .*harmonyiqad.csv"),
        (["nr.csv"], ["iqa=csiq.csv"], "other 'iqa=csiq.csv' must be SET=FILE with SET one of csiq, tid2013"),
        (["two.csv"], [], "two.csv names a and b, so its row is not known; give ROW=two.csv"),
        (["mixed.csv"], [], "mixed.csv has scores with and without reference"),
        (["nr.csv"], ["csiq=unrated.csv"], r"unrated.csv: no row \(split all\) has a mos"),
        (["nr.csv"], ["csiq=harmonyiqad.csv"], "fits harmonyiqad and csiq alike"),
    ],
)
def test_a_file_without_a_place_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, predictions: list[str], others: list[str], message: str
) -> None:
    monkeypatch.chdir(folder)
    one, other = rows_of("h/", 16, "r/{}.png")[-2:]
    write_manifest([Row("x.png")], "unrated.csv")
    write_predictions([Prediction("x.png", None, 1, "m")], "strange.csv")
    write_predictions([Prediction(one.image, None, 1, "a"), Prediction(other.image, None, 1, "b")], "two.csv")
    write_predictions(
        [Prediction(one.image, None, 1, "a"), Prediction(other.image, other.reference, 1, "a")], "mixed.csv"
    )
    with pytest.raises(UserError, match=message):
        tables("harmonyiqad.csv", predictions, others, bootstrap=5)


def test_cross_results_that_are_none_are_refused(folder: Path) -> None:
    with pytest.raises(UserError, match=r"nr\.csv is not an evaluation that harmonyiqa wrote as JSON"):
        tables(
            str(folder / "harmonyiqad.csv"),
            [str(folder / "nr.csv")],
            cross=[str(folder / "nr.csv")],
            bootstrap=5,
        )


@pytest.fixture
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("reproduce_tables")


def test_the_script_goes_from_labels_to_the_page_and_does_no_step_twice(
    tmp_path: Path, script, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    rows = [
        Row(
            row.image,
            reference=row.reference,
            mos=row.mos,
            method=row.method,
            group=row.group,
            content=row.content,
        )
        for row in rows_of("h_", 10, "r_{}.png")
    ]
    for name in {row.image for row in rows} | {str(row.reference) for row in rows}:
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(tmp_path / name)
    ran = []
    real = script.harmonyiqa

    def run(words: list[str]) -> int:
        ran.append(" ".join(words[:2]) if words[0] == "data" else words[0])
        if words[:2] == ["data", "harmonyiqad"]:  # the reader is tested in its own room
            write_manifest(rows, Path(words[words.index("--out") + 1]))
            return 0
        return real([*words, "--bootstrap", "5", "--seeds", "2"] if words[0] == "tables" else words)

    monkeypatch.setattr(script, "harmonyiqa", run)
    labels = tmp_path / "MOSz.xlsx"
    labels.write_text("labels")
    # the manifest's paths start from its own folder
    words = [str(labels), "--out", str(tmp_path), "--split", "content", "--metrics", "psnr,mse", "--models"]
    assert script.main(words) == 0
    assert ran == ["data harmonyiqad", "data split", "baselines", "tables"]
    html = (tmp_path / "tables.html").read_text(encoding="utf-8")
    assert "harmonyiqa data split --manifest" in html
    assert "0.5696" in html

    ran.clear()
    script.main(words)
    assert ran == ["tables"]
    ran.clear()
    labels.write_text("others")
    script.main(words)
    assert ran == ["data harmonyiqad", "data split", "baselines", "tables"]
    assert json.loads((tmp_path / "steps.json").read_text())
