"""``harmonyiqa score`` from its arguments to its files."""

from pathlib import Path
from typing import Any

import pytest

from harmonyiqa import HarmonyIQA
from harmonyiqa.cli import main
from harmonyiqa.data.predictions import read_predictions
from harmonyiqa.errors import UserError
from harmonyiqa.pipelines.score import score


def test_a_folder_to_table_file_and_page(
    tiny_scorer_folder: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, report = tmp_path / "new" / "scores.csv", tmp_path / "scores.html"
    assert score([str(pictures)], model=str(tiny_scorer_folder), out=str(out), report=str(report)) == 0
    printed = capsys.readouterr().out
    assert "7 scored, 0 failed, mean" in printed
    assert (
        "model tiny, trained on synthetic scores (measured colour differences), not on people's votes"
        in printed
    )
    scorer = HarmonyIQA.from_pretrained(tiny_scorer_folder)
    rows = read_predictions(out)
    assert [row.image for row in rows] == [str(path) for path in sorted(pictures.iterdir())]
    assert [row.score for row in rows] == pytest.approx([scorer.score(row.image) for row in rows], abs=1e-3)
    assert report.read_text(encoding="utf-8").count("data:image/webp") == 7


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_one_bad_image_is_a_row_and_status_1(
    tiny_scorer_folder: Path, pictures: Path, tmp_path: Path, suffix: str
) -> None:
    (pictures / "c.png").write_text("text")
    out = tmp_path / f"scores{suffix}"
    assert score([str(pictures)], model=str(tiny_scorer_folder), out=str(out)) == 1
    rows = read_predictions(out)
    assert [row.error is None for row in rows] == [True, True, False, True, True, True, True]
    assert str(rows[2].error).startswith(f"{pictures / 'c.png'} is no BMP, JPEG")


def test_a_manifest_is_scored_against_its_references_unless_told_not_to(
    tiny_scorer_folder: Path, pictures: Path, tmp_path: Path
) -> None:
    manifest = pictures / "manifest.csv"
    manifest.write_text("image,reference\nc.png,a.png\nb.png,a.png\n")
    for no_reference in (False, True):
        out = tmp_path / "scores.csv"
        status = score(
            [str(manifest)], model=str(tiny_scorer_folder), out=str(out), no_reference=no_reference
        )
        assert status == 0
        assert [(row.image, row.reference) for row in read_predictions(out)] == [
            ("c.png", None if no_reference else "a.png"),
            ("b.png", None if no_reference else "a.png"),
        ]


def test_the_page_of_a_manifest_finds_its_pictures(
    tiny_scorer_folder: Path, pictures: Path, tmp_path: Path
) -> None:
    manifest, report = pictures / "manifest.csv", tmp_path / "page.html"
    manifest.write_text("image,reference\nc.png,a.png\n")
    score([str(manifest)], model=str(tiny_scorer_folder), report=str(report))
    assert report.read_text(encoding="utf-8").count("data:image/webp") == 2


def test_a_missing_partner_is_a_row_that_names_it(
    tiny_scorer_folder: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    references = tmp_path / "references"
    references.mkdir()
    (references / "a.png").write_bytes((pictures / "a.png").read_bytes())
    paths = [str(pictures / "a.png"), str(pictures / "b.png")]
    assert score(paths, reference=str(references), model=str(tiny_scorer_folder)) == 1
    printed = capsys.readouterr().out
    assert f"{pictures / 'b.png'}: no reference named b.* in {references}" in printed
    assert "1 scored (1 against a reference), 1 failed" in printed


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"paths": ["nowhere"]}, "nowhere does not exist"),
        ({"paths": ["empty"]}, "folder empty holds no image"),
        ({"paths": ["pictures"], "reference": "nowhere"}, "nowhere does not exist"),
        ({"paths": ["pictures"], "batch_size": 0}, "batch_size 0 must be at least 1"),
        ({"paths": ["pictures"], "workers": -1}, "workers -1 must be at least 0"),
        ({"paths": ["pictures"], "max_pixels": 0}, "max_pixels 0 must be at least 1"),
        ({"paths": ["pictures"], "out": "a.xlsx"}, r"out 'a.xlsx' must end in one of .csv .jsonl .parquet"),
        ({"paths": ["pictures"], "report": "a.pdf"}, r"report 'a.pdf' must end in one of .html .htm"),
        ({"paths": ["pictures"], "out": "good.csv/a.csv"}, "out 'good.csv/a.csv' cannot be written"),
        ({"paths": ["good.csv"], "out": "good.csv"}, "out 'good.csv' would overwrite an input"),
        ({"paths": ["good.csv", "pictures"]}, "good.csv is a manifest: score it alone"),
        ({"paths": ["good.csv"], "reference": "pictures"}, "good.csv names its own references"),
        ({"paths": ["wrong.csv"]}, "unknown column 'imgae', did you mean 'image'"),
        ({"paths": ["gone.csv"]}, "gone.csv does not exist"),
        (
            {"paths": ["pictures"], "reference": "pictures/a.png", "no_reference": True},
            "reference 'pictures/a.png' and no_reference contradict each other",
        ),
        ({"paths": ["pictures"], "device": "abacus"}, "device 'abacus' cannot be used here"),
        ({"paths": ["pictures"], "model": "empty"}, r"empty"),
    ],
)
def test_wrong_usage_is_said_before_anything_is_scored(
    pictures: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    settings: dict[str, Any],
    message: str,
) -> None:
    monkeypatch.chdir(pictures.parent)
    Path("empty").mkdir()
    Path("good.csv").write_text("image\npictures/a.png\n")
    Path("wrong.csv").write_text("imgae\npictures/a.png\n")
    with pytest.raises(UserError, match=message):
        score(**settings)
    assert capsys.readouterr().out == ""


def test_on_the_command_line(
    tiny_scorer_folder: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [str(pictures / "a.png"), str(pictures / "b.png")]
    assert main(["score", *files, "--model", str(tiny_scorer_folder)]) == 0
    assert "2 scored, 0 failed" in capsys.readouterr().out
    assert main(["score", str(tmp_path / "nowhere.png")]) == 2
    assert (
        capsys.readouterr()
        .err.strip()
        .endswith("nowhere.png does not exist; give image files, folders or a manifest")
    )
