"""`harmonyiqa harmonize-eval` as a user types it."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harmonyiqa import cli
from harmonyiqa.data.manifest import Row, write_manifest
from harmonyiqa.evaluate.harmonization import fidelity


@pytest.fixture
def composites(tmp_path: Path) -> Path:
    """Four composites of two iHarmony4 subsets, one of them larger, and a decoy."""
    rows = []
    for i in range(4):
        random = np.random.default_rng(i)
        size = (60, 44) if i == 3 else (48, 40)
        photo = np.asarray(
            Image.fromarray(random.integers(60, 220, (4, 4, 3), dtype=np.uint8)).resize(
                size, Image.Resampling.BICUBIC
            )
        )
        mask = np.zeros(photo.shape[:2], np.uint8)
        mask[10:30, 12:36] = 255
        composite = np.where(mask[..., None] > 0, photo * 0.6, photo).astype(np.uint8)
        for kind, array in (("image", composite), ("mask", mask), ("real", photo)):
            Image.fromarray(array).save(tmp_path / f"{i}_{kind}.png")
        group = "HCOCO" if i < 2 else "HAdobe5k"
        rows.append(
            Row(
                f"{i}_image.png",
                f"{i}_real.png",
                mask=f"{i}_mask.png",
                group=group,
                split="test",
                method="composite",
                extra={"light": "dim" if i % 2 else "dark", "severity": 3.0 * i},
            )
        )
    rows.append(
        Row(
            "0_real.png", "0_real.png", mask="0_mask.png", group="HCOCO", split="test", extra={"decoy": "hue"}
        )
    )
    write_manifest(rows, tmp_path / "m.csv")
    return tmp_path / "m.csv"


def _run(manifest: Path, *words: str) -> int:
    return cli.main(["harmonize-eval", "--manifest", str(manifest), *words])


def test_figures_are_those_of_the_protocol_with_published_rows_beside(composites, tmp_path, capsys) -> None:
    files = {
        "--out": tmp_path / "rows.csv",
        "--out_json": tmp_path / "m.json",
        "--out_markdown": tmp_path / "t.md",
    }
    words = [str(word) for pair in files.items() for word in pair]
    assert _run(composites, "--methods", "copy", "mkl", *words) == 0
    shown = capsys.readouterr().out
    assert shown == (tmp_path / "t.md").read_text()
    with (tmp_path / "rows.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8  # the decoy has no truth
    parts = [np.asarray(Image.open(tmp_path / f"0_{kind}.png")) for kind in ("image", "real", "mask")]
    want = fidelity(*parts, "aict")
    assert float(rows[0]["fmse"]) == pytest.approx(want.fmse)
    means = json.loads((tmp_path / "m.json").read_text())["means"]
    by = {(m["subset"], m["method"]): m for m in means}
    assert by["HCOCO", "copy"]["images"] == 2
    fmse = [float(r["fmse"]) for r in rows if r["method"] == "copy"]
    assert by["All", "copy"]["fmse"] == pytest.approx(np.mean(fmse))
    assert by["All", "mkl"]["fmse"] != by["All", "copy"]["fmse"]
    line = next(line for line in shown.splitlines() if line.startswith("| HCOCO") and "AICT" in line)
    assert [cell.strip() for cell in line.split("|")[3:8]] == ["paper", "240.62", "12.30", "39.83", "0.9936"]
    assert "table 1 of Meng et al." in shown


def test_results_stand_against_their_composites_by_kind(composites, tmp_path, capsys) -> None:
    out = tmp_path / "m.json"
    kinds = ["--by", "light", "severity:2,5"]
    assert _run(composites, "--methods", "copy", "mkl", "reinhard", *kinds, "--out_json", str(out)) == 0
    shown = capsys.readouterr().out
    told = json.loads(out.read_text())
    fmse = {(m["subset"], m["method"]): m["fmse"] for m in told["means"]}
    found = {(g["subset"], g["method"]): g for g in told["gains"]}
    assert found["All", "mkl"]["share"]["value"] == pytest.approx(fmse["All", "mkl"] / fmse["All", "copy"])
    counts = {subset: each["images"] for (subset, method), each in found.items() if method == "mkl"}
    assert counts == {
        "HCOCO": 2,
        "HAdobe5k": 2,
        "light dark": 2,
        "light dim": 2,
        "severity to 2": 1,
        "severity over 2 to 5": 1,
        "severity over 5": 2,
        "All": 4,
    }
    share = found["All", "mkl"]["share"]
    assert f"| {share['value']:.3f} [{share['low']:.3f}, {share['high']:.3f}] |" in shown


def test_a_limit_takes_rows_from_all_over_the_manifest(composites, tmp_path) -> None:
    assert _run(composites, "--limit", "2", "--out", str(tmp_path / "rows.csv")) == 0
    with (tmp_path / "rows.csv").open() as file:
        assert [row["image"] for row in csv.DictReader(file)] == ["0_image.png", "2_image.png"]


@pytest.mark.parametrize(
    ("words", "table"),
    [
        (["--size", "256"], "table 7"),
        (["--group", "HAdobe5k", "--size", "1024"], "table 8"),
        (["--group", "HAdobe5k", "--over", "50x41"], None),
        (["--protocol", "idih"], None),
        (["--protocol", "dovenet"], None),
    ],
)
def test_the_right_table_stands_beside(composites, words, table, capsys) -> None:
    assert _run(composites, *words) == 0
    shown = capsys.readouterr().out
    assert ("of Meng et al." in shown) == (table is not None)
    assert table is None or table in shown
    if "--over" in words:
        assert "| All    | composite (ours) | 1 " in shown


def test_scores_can_be_asked_for_and_need_no_truth(composites, bundled, tmp_path, capsys) -> None:
    rows = [Row(f"{i}_image.png", mask=f"{i}_mask.png") for i in range(2)]
    write_manifest(rows, tmp_path / "real.csv")
    assert _run(tmp_path / "real.csv", "--methods", "copy", "--score", "nr") == 0
    shown = capsys.readouterr().out
    assert "HarmonyIQA" in shown
    assert "fMSE" not in shown
    assert _run(tmp_path / "real.csv", "--methods", "copy") == 2
    assert "0_image.png has no reference (2 such rows)" in capsys.readouterr().err
    assert _run(composites, "--score", "fr", "--limit", "1") == 0
    assert "fMSE" in capsys.readouterr().out


def test_a_row_that_fails_is_named(composites, tmp_path, capsys) -> None:
    Image.new("L", (48, 40)).save(tmp_path / "0_mask.png")
    (tmp_path / "1_real.png").unlink()
    assert _run(composites, "--out", str(tmp_path / "rows.csv")) == 1
    shown = capsys.readouterr().out
    assert "failed: composite: 0_image.png: the mask is empty" in shown
    assert "1_real.png does not exist" in shown
    assert "| All      | composite (ours) | 2 " in shown


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--methods", "magic"], "'magic' is unknown"),
        (["--over", "4k"], "over '4k' must be like 4096x2160"),
        (["--group", "HElse"], "no row is left"),
        (["--by", "light"], "by light splits the second table, which needs copy"),
        (["--methods", "copy", "--by", "colour"], "by colour: not every row has"),
        (["--methods", "copy", "--by", "light:3"], "by light:3: could not convert"),
        (["--bootstrap", "0"], "bootstrap 0 must be at least 1"),
        (["--size", "5"], "size 5 must be at least 11"),
        (["--protocol", "mine"], "protocol"),
    ],
)
def test_wrong_usage_is_status_2(composites, words, said, capsys) -> None:
    assert _run(composites, *words) == 2
    assert said in capsys.readouterr().err
