"""What the bundled model's evaluation adds to areas and pairs, and its command."""

import json
from itertools import product

import numpy as np
import pytest
from jsonargparse import auto_cli
from PIL import Image

from harmonyiqa.data.manifest import Row, write_manifest


@pytest.fixture
def script(load_script):
    return load_script("evaluate_bundled")


@pytest.mark.parametrize(("shift", "expected"), [(0, 1.0), (2, 1 / 3), (4, 0.0)])
def test_the_brightest_part_as_large_as_the_region_is_laid_over_it(script, shift, expected) -> None:
    mask = np.zeros((8, 8), bool)
    mask[2:6, :4] = True
    heat = np.roll(mask * 5.0, shift, 1) + 0.1
    heat[7, 7] = -3  # a constant or a cold spot changes nothing
    assert script._overlap(heat, mask) == pytest.approx(expected)


def test_statistics_of_a_region_tell_it_from_its_surroundings(script) -> None:
    rgb = np.full((24, 24, 3), 0.5)
    inside = np.zeros((24, 24), bool)
    inside[8:16, 8:16] = True
    plain = script._statistics(rgb, inside)
    rgb[inside] = (0.9, 0.2, 0.2)
    assert np.isfinite(plain).all()
    assert np.abs(script._statistics(rgb, inside) - plain).max() > 20
    assert script._statistics(rgb, ~np.zeros_like(inside)).shape == plain.shape  # no outside


def test_models_are_named_with_commas_and_some_scenes_will_do(
    script, tiny_scorer_folder, tmp_path, capsys
) -> None:
    rows = []
    for scene, kind in product(range(6), ("untouched", "strong")):
        name = f"{kind}{scene}.png"
        rgb = np.random.default_rng(scene).integers(60, 200, (32, 32, 3), dtype=np.uint8)
        if kind == "strong":
            rgb[8:24, 8:24] //= 2
        Image.fromarray(rgb).save(tmp_path / name)
        severity = 15.0 if kind == "strong" else 0.0
        extra = {"severity": severity, "source": "pets"}
        rows.append(
            Row(name, mask="mask.png", method="exposure", group=kind, content=f"pets-{scene}", extra=extra)
        )
    inside = np.zeros((32, 32), np.uint8)
    inside[8:24, 8:24] = 255
    Image.fromarray(inside).save(tmp_path / "mask.png")
    write_manifest(rows, tmp_path / "manifest.csv")
    words = [str(tmp_path), "--models", f"{tiny_scorer_folder},{tiny_scorer_folder}/", "--every", "2"]
    words += ["--bootstrap", "20", "--out", str(tmp_path / "out")]
    assert auto_cli(script.main, args=words, as_positional=True) == 0
    assert "6 images" in capsys.readouterr().out
    found = json.loads((tmp_path / "out/table.json").read_text())["separated"]
    assert set(found) == {
        "mean colours, mask given",
        "histograms, mask given",
        f"{tiny_scorer_folder.name}, NR",
    }
    assert found["mean colours, mask given"]["all"]["untouched / strong"][0] == 1.0
