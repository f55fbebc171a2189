"""Made-up photos: soft fields of colour with some grain, each with two regions."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SIZE = 64


def save_photo(path: Path, seed: int, *, colorful: bool = True) -> None:
    """A photo of SIZE x SIZE and its map of an ellipse (value 1) and a box (value 2)."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(30, 226, (5, 5, 3), np.uint8)
    if not colorful:
        coarse = np.repeat(coarse[..., :1], 3, axis=2)
    field = Image.fromarray(coarse).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    grain = rng.normal(0, 4, (SIZE, SIZE, 1))
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    labels = np.zeros((SIZE, SIZE), np.uint8)
    labels[(y > 0.7) & (x > 0.2) & (x < 0.6)] = 2
    center, radius = rng.uniform(0.35, 0.5, 2), rng.uniform(0.15, 0.25, 2)
    labels[((y - center[0]) / radius[0]) ** 2 + ((x - center[1]) / radius[1]) ** 2 < 1] = 1
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(np.asarray(field) + grain, 0, 255).astype(np.uint8)).save(path)
    Image.fromarray(labels).save(path.with_name(path.stem + ".regions.png"))


@pytest.fixture(scope="session")
def photo_pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 photos of two sources and two splits, with a photos.csv."""
    root = tmp_path_factory.mktemp("pack")
    with (root / "photos.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "regions", "source", "split"])
        for seed in range(40):
            source = "few" if seed < 8 else "many"
            save_photo(root / source / f"{seed}.png", seed)
            split = "test" if seed % 4 == 0 else "train"
            table.writerow([f"{source}/{seed}.png", f"{source}/{seed}.regions.png", source, split])
    return root


@pytest.fixture(scope="session")
def make_photo() -> Callable[..., None]:
    return save_photo
