from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from harmonyiqa import HarmonyIQA
from harmonyiqa.cli import main
from harmonyiqa.errors import UserError
from harmonyiqa.scoring.explain import explain, map_path, overlay
from harmonyiqa.scoring.items import Item


@pytest.fixture
def model(tiny_scorer_folder: Path) -> HarmonyIQA:
    model = HarmonyIQA.from_pretrained(tiny_scorer_folder)
    model.add_map_head(2)
    return model


def test_heat_lies_where_the_map_says() -> None:
    image = Image.new("RGB", (90, 60), (0, 160, 0))
    found = torch.zeros(4, 4)
    found[0, 3] = 30.0
    shown = np.asarray(overlay(image, found), int)
    assert shown.shape == (60, 90, 3)
    assert shown[7, 83].sum() > 400  # bright
    assert np.ptp(shown[45, 10]) == 0  # grey


def test_large_images_are_shown_smaller() -> None:
    assert overlay(Image.new("RGB", (4000, 1000)), torch.zeros(2, 2)).size == (1024, 256)


def test_files_stay_in_the_folder_and_keep_their_names(
    model: HarmonyIQA, pictures: Path, tmp_path: Path
) -> None:
    files = sorted(pictures.iterdir())
    names = [str(files[0]), "../up/b.png", "sub/c.jpg"]
    items = [Item(name, None, file, None) for name, file in zip(names, files[: len(names)], strict=True)]
    heat = tmp_path / "heat"
    assert explain(model, items, heat, batch_size=2) == 3
    assert map_path(heat, "../up/b.png") == heat / "up/b.png.png"
    assert map_path(heat, "sub/c.jpg") == heat / "sub/c.jpg.png"
    assert {path for path in heat.rglob("*.png") if path.is_file()} == {
        map_path(heat, name) for name in names
    }


def test_a_model_without_a_map_says_so(
    tiny_scorer_folder: Path, pictures: Path, tmp_path: Path, capsys
) -> None:
    words = ["score", str(pictures), "--model", str(tiny_scorer_folder), "--explain", str(tmp_path / "heat")]
    assert main(words) == 2
    assert "has no map of what was altered" in capsys.readouterr().err
    with pytest.raises(UserError, match="was not trained on photos"):
        explain(
            HarmonyIQA.from_pretrained(tiny_scorer_folder),
            [Item("a", None, next(pictures.iterdir()), None)],
            tmp_path,
        )


def test_the_page_shows_heat_maps(model: HarmonyIQA, pictures: Path, tmp_path: Path, capsys) -> None:
    model.save_pretrained(tmp_path / "model")
    page = tmp_path / "p.html"
    words = ["score", str(pictures), "--model", str(tmp_path / "model"), "--report", str(page)]
    assert main([*words, "--explain", str(tmp_path / "heat")]) == 0
    assert f"heat maps: {tmp_path / 'heat'}" in capsys.readouterr().out
    text = page.read_text(encoding="utf-8")
    assert text.count("looks altered</figcaption>") == 7
    assert text.count("data:image/webp") == 14
