"""`harmonyiqa harmonize` as a user types it."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harmonyiqa import cli
from harmonyiqa.config import AictSettings
from harmonyiqa.data.manifest import read_manifest
from harmonyiqa.data.predictions import read_predictions
from harmonyiqa.harmonize.classical import METHODS
from harmonyiqa.harmonize.network import AICT
from harmonyiqa.report.harmonized import PHOTO, Scene, Version, standings


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """Three composites in two folders with masks and real photos."""
    folder = tmp_path / "set"
    for seed, name in enumerate(["a.png", "b.png", "more/c.jpg"]):
        random = np.random.default_rng(seed)
        coarse = random.integers(60, 220, (4, 4, 3), dtype=np.uint8)
        photo = np.asarray(Image.fromarray(coarse).resize((48, 40), Image.Resampling.BICUBIC))
        mask = np.zeros((40, 48), np.uint8)
        mask[10:30, 12:36] = 255
        composite = np.where(mask[..., None] > 0, photo * 0.6, photo).astype(np.uint8)
        for kind, array in (("images", composite), ("masks", mask), ("photos", photo)):
            path = folder / kind / (Path(name).with_suffix(".png") if kind != "images" else name)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(path)
    return folder


@pytest.fixture
def aict(tmp_path: Path, monkeypatch) -> Path:
    """A small random AICT in the place of the bundled one."""
    AICT(AictSettings(low_resolution=16)).save_pretrained(tmp_path / "aict")
    monkeypatch.setattr("harmonyiqa.harmonize.network.BUNDLED", tmp_path / "aict")
    return tmp_path / "aict"


def _run(folder: Path, out: Path, *words: str) -> int:
    given = ["harmonize", str(folder / "images"), "--mask", str(folder / "masks"), "--out", str(out)]
    return cli.main([*given, *words])


def test_results_have_the_names_sizes_and_colours_of_the_method(scenes, tmp_path, capsys) -> None:
    out = tmp_path / "out"
    assert _run(scenes, out, "--method", "mkl", "--report", str(out / "page.html")) == 0
    found = np.asarray(Image.open(out / "a.png"))
    composite, mask = (np.asarray(Image.open(scenes / kind / "a.png")) for kind in ("images", "masks"))
    np.testing.assert_array_equal(found, METHODS["mkl"](composite, mask))
    assert Image.open(out / "more/c.jpg").size == (48, 40)
    rows = read_manifest(out / "manifest.csv")
    assert [(row.image, row.method, row.content) for row in rows.rows] == [
        ("a.png", "mkl", "a"),
        ("b.png", "mkl", "b"),
        ("more/c.jpg", "mkl", "more/c"),
    ]
    assert rows.resolve(rows.rows[2].mask or "").samefile(scenes / "masks/more/c.png")
    assert "3 results" in capsys.readouterr().out
    page = (out / "page.html").read_text()
    assert page.count('class="slider"') == 3
    assert "http" not in page.replace("http-equiv", "")


def test_a_cut_run_goes_on(scenes, tmp_path, capsys) -> None:
    out = tmp_path / "out"
    assert _run(scenes, out, "--method", "reinhard") == 0
    (out / "b.png").unlink()
    before = (out / "a.png").stat().st_mtime_ns
    assert _run(scenes, out, "--method", "reinhard") == 0
    assert "3 results, 2 of them from an earlier run" in capsys.readouterr().out
    assert (out / "a.png").stat().st_mtime_ns == before
    assert (out / "b.png").exists()
    assert _run(scenes, out, "--method", "mkl") == 2
    assert "holds results of other settings (method)" in capsys.readouterr().err


def test_one_bad_image_is_a_row_and_the_others_are_made(scenes, tmp_path, capsys) -> None:
    out = tmp_path / "out"
    (scenes / "masks/a.png").unlink()
    Image.new("L", (48, 40)).save(scenes / "masks/b.png")
    Image.new("L", (40, 48), 255).save(scenes / "masks/more/c.png")
    (scenes / "images/d.png").write_text("text")
    Image.new("L", (48, 40), 255).save(scenes / "masks/d.png")
    assert _run(scenes, out, "--method", "reinhard") == 1
    with (out / "errors.csv").open() as file:
        reasons = {Path(row["image"]).name: row["error"] for row in csv.DictReader(file)}
    assert "has no mask" in reasons["a.png"]
    assert "the mask is empty" in reasons["b.png"]
    assert "the mask is 40 x 48, the image 48 x 40" in reasons["c.jpg"]
    assert "no BMP, JPEG, PNG" in reasons["d.png"]
    assert "failed: reinhard:" in capsys.readouterr().out


def test_aict_keeps_the_background_and_takes_a_full_mask(scenes, aict, tmp_path) -> None:
    Image.new("L", (48, 40), 255).save(scenes / "masks/b.png")
    assert _run(scenes, tmp_path / "out") == 0
    for name in ("a.png", "b.png"):
        composite, mask, found = (
            np.asarray(Image.open(folder / name))
            for folder in (scenes / "images", scenes / "masks", tmp_path / "out")
        )
        np.testing.assert_array_equal(found[mask == 0], composite[mask == 0])
        assert not np.array_equal(found, composite)


def test_all_makes_a_ranked_sheet(scenes, aict, bundled, tmp_path, capsys) -> None:
    out = tmp_path / "out"
    assert _run(scenes, out, "--method", "all", "--reference", str(scenes / "photos")) == 0
    rows = read_manifest(out / "manifest.csv").rows
    assert len(rows) == 3 * 8
    scores = {p.image: p.score for p in read_predictions(out / "scores.csv")}
    assert set(scores) == {row.image for row in rows}
    page = (out / "index.html").read_text()
    assert page.index(PHOTO) > 0
    first = page[page.index("<h2>a.png</h2>") : page.index("<h2>b.png</h2>")]
    methods = [part.split("</span>")[0] for part in first.split('<div class="line"><span>')[1:]]
    want = sorted((m for m in scores if m.endswith("/a.png")), key=lambda m: scores[m] or 0, reverse=True)
    shown = [m.replace("composite (copy)", "copy") for m in methods if m != PHOTO]
    assert shown == [name.split("/")[0] for name in want]
    assert "| method" in capsys.readouterr().out


def test_all_without_a_network_leaves_aict_out(scenes, bundled, tmp_path, monkeypatch, caplog) -> None:
    monkeypatch.setattr("harmonyiqa.harmonize.network.BUNDLED", tmp_path / "none")
    assert _run(scenes, tmp_path / "out", "--method", "all") == 0
    assert "aict is left out" in caplog.text
    assert not (tmp_path / "out/aict").exists()


def test_a_manifest_is_harmonized_too(scenes, tmp_path) -> None:
    assert _run(scenes, tmp_path / "one", "--method", "copy", "--reference", str(scenes / "photos")) == 0
    manifest = str(tmp_path / "one/manifest.csv")
    words = ["harmonize", manifest, "--method", "mkl", "--out", str(tmp_path / "two"), "--suffix", ".png"]
    assert cli.main(words) == 0
    rows = read_manifest(tmp_path / "two/manifest.csv")
    assert {row.method for row in rows.rows} == {"mkl"}
    assert all((rows.root / row.image).suffix == ".png" for row in rows.rows)
    assert rows.resolve(rows.rows[0].reference or "").samefile(scenes / "photos/a.png")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--method", "magic"], "choose from all, aict, copy"),
        (["--suffix", ".gif"], "suffix '.gif'"),
        (["--report", "page.txt"], "must end in .html"),
        (["--method", "aict", "--model", "nowhere"], "there is no model folder nowhere"),
    ],
)
def test_wrong_usage_is_said_before_anything_is_made(scenes, tmp_path, words, said, capsys) -> None:
    assert _run(scenes, tmp_path / "out", *words) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_does_not_fit_together_is_said(scenes, tmp_path, capsys) -> None:
    assert cli.main(["harmonize", str(scenes / "images"), "--out", str(tmp_path / "o")]) == 2
    assert "give --mask" in capsys.readouterr().err
    assert _run(scenes, scenes / "images", "--method", "copy") == 2
    assert "holds the composites" in capsys.readouterr().err


def test_standings_compare_with_the_composite_of_the_same_scene() -> None:
    path = Path("x")
    scenes = [
        Scene("1", path, (Version("copy", path, 40), Version("mkl", path, 50)), path, 80),
        Scene("2", path, (Version("copy", path, 60), Version("mkl", path, 55), Version("idt", path))),
    ]
    photo, mkl, copy = standings(scenes)
    assert (photo.method, photo.scenes, photo.mean, photo.change, photo.best) == (PHOTO, 1, 80, 40, 0)
    assert (mkl.method, mkl.mean, mkl.change, mkl.best) == ("mkl", 52.5, 2.5, 1)
    assert (copy.method, copy.mean, copy.change, copy.best) == ("copy", 50, 0, 1)
