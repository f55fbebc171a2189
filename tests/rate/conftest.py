"""Small studies, and clients that act as raters."""

import csv
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harmonyiqa.data.manifest import Row, write_manifest
from harmonyiqa.rate.settings import PAIR_TEXTS, StudySettings
from harmonyiqa.rate.store import Store
from harmonyiqa.rate.study import create_study

EXAMPLES = Path(__file__).parents[2] / "examples"
METHODS = ("first", "second", "third")
SCREEN = {
    "screen_width": 1920,
    "screen_height": 1080,
    "window_width": 1280,
    "window_height": 720,
    "pixel_ratio": 1.0,
    "colour_depth": 24,
    "gamut": "srgb",
    "touch": False,
    "dark_steps": 7,
    "light_steps": 8,
}


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of 8 scenes by 3 methods, 48 x 40 pixels, with composites and references."""
    folder = tmp_path_factory.mktemp("scenes")
    rng = np.random.default_rng(0)
    rows = []
    for scene in range(8):
        for name in ("reference", "composite", *METHODS):
            coarse = Image.fromarray(rng.integers(0, 256, (3, 3, 3), dtype=np.uint8))
            kind = "images" if name in METHODS else "partners"
            (folder / kind).mkdir(exist_ok=True)
            coarse.resize((48, 40), Image.Resampling.BICUBIC).save(folder / kind / f"{name}_{scene}.png")
        rows += [
            Row(
                f"images/{method}_{scene}.png",
                reference=f"partners/reference_{scene}.png",
                composite=f"partners/composite_{scene}.png",
                method=method,
                content=f"scene{scene}",
            )
            for method in METHODS
        ]
    write_manifest(rows, folder / "manifest.csv")
    return folder / "manifest.csv"


@pytest.fixture(scope="session")
def big_scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two photos of the examples beside paler versions of them: three do not fit side by side."""
    folder = tmp_path_factory.mktemp("big")
    rows = []
    for name in ("coffee", "dahlia"):
        photo = Image.open(EXAMPLES / "references" / f"{name}.jpg").convert("RGB")
        pale, grey = (
            Image.blend(photo, Image.new("RGB", photo.size, "white"), share) for share in (0.2, 0.4)
        )
        for kind, image in (("reference", photo), ("image", pale), ("composite", grey)):
            image.save(folder / f"{name}_{kind}.png")
        rows.append(Row(f"{name}_image.png", f"{name}_reference.png", f"{name}_composite.png", content=name))
    write_manifest(rows, folder / "manifest.csv")
    return folder / "manifest.csv"


DEFAULTS = {
    "mode": "rating",
    "raters": 2,
    "sessions": 1,
    "training": None,
    "golden": None,
    "repeats": 0,
    "pairs": None,
    "seed": 0,
}


@pytest.fixture(scope="session")
def plain_study(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of the scenes: 2 raters, 1 session, no extras. To be copied, not used."""
    folder = tmp_path_factory.mktemp("plain") / "study"
    create_study(scenes, folder, StudySettings(), **DEFAULTS).close()
    return folder


MakeStudy = Callable[..., Store]


@pytest.fixture
def make_study(scenes: Path, plain_study: Path, tmp_path: Path) -> Iterator[MakeStudy]:
    """Call it to make a study of the scenes, as `plain_study` unless told otherwise."""
    stores: list[Store] = []
    plain_scenes = scenes

    def make(
        settings: StudySettings | None = None,
        name: str = "study",
        scenes: Path = scenes,
        **options: object,
    ) -> Store:
        folder = tmp_path / name
        if settings is None and not options and scenes == plain_scenes and not folder.exists():
            shutil.copytree(plain_study, folder)
            stores.append(Store(folder))
        else:
            texts = PAIR_TEXTS if options.get("mode") == "pairs" else {}
            stores.append(
                create_study(scenes, folder, settings or StudySettings(**texts), **(DEFAULTS | options))
            )
        return stores[-1]

    yield make
    for store in stores:
        store.close()


def secret_of(store: Store, rater: int = 1) -> str:
    """The secret in a rater's link."""
    with (store.folder / "invitations.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))[rater - 1]["link"].rpartition("/")[2]


def admin_secret_of(store: Store) -> str:
    """The secret in the organizer's link."""
    return (store.folder / "admin_link.txt").read_text(encoding="utf-8").strip().rpartition("/")[2]
