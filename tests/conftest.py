"""Small random models and made-up images, shared by all rooms."""

import importlib.util
import os
import re
import sys
from collections.abc import Callable

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing may be fetched
os.environ.setdefault("OMP_NUM_THREADS", "1")

from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

from harmonyiqa.config import StartSettings, TrainableSettings
from harmonyiqa.data.manifest import Row, write_manifest

if TYPE_CHECKING:
    from harmonyiqa import HarmonyIQA


settings.register_profile("steady", deadline=None)  # a busy machine is no failure
settings.load_profile("steady")


@pytest.fixture(scope="session")
def load_script() -> Callable[[str], ModuleType]:
    """A file of `scripts/` as a module, by its name without suffix; beside it lie those that it imports."""
    folder = Path(__file__).parents[1] / "scripts"
    sys.path.append(str(folder))

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses look their module up
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A native InternVL checkpoint with random weights, as a user would download one."""
    from harmonyiqa.model.tiny import make_tiny_model

    return make_tiny_model(tmp_path_factory.mktemp("checkpoint") / "tiny")


@pytest.fixture(scope="session")
def tiny_scorer_folder(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved HarmonyIQA of layout full, stage 2, with random weights."""
    import torch

    from harmonyiqa.model.storage import start

    torch.manual_seed(0)  # the same head whichever tests ran before
    model = start(
        StartSettings(str(tiny_checkpoint), max_tiles=1), TrainableSettings("full", "full"), stage=2
    )
    model.settings.mos_std = 40.0  # scores well apart from each other
    model.settings.mos_kind = "synthetic"
    folder = tmp_path_factory.mktemp("scorer") / "tiny"
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def bundled(tiny_scorer_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny scorer in the place of the bundled model."""
    monkeypatch.setattr("harmonyiqa.model.storage.BUNDLED", tiny_scorer_folder)
    return tiny_scorer_folder


@pytest.fixture
def noise() -> np.ndarray:
    """An image of noise, (24, 40, 3) uint8."""
    return np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)


@pytest.fixture(scope="session")
def grey_manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 flat images whose MOS is their lightness: what any working training learns. The reference is white."""
    folder = tmp_path_factory.mktemp("grey")
    Image.new("RGB", (40, 32), "white").save(folder / "white.png")
    rows = []
    for i in range(48):
        level = (i * 53) % 256
        Image.new("RGB", (40, 32), (level, level, level)).save(folder / f"{i}.png")
        split = "train" if i < 32 else "val" if i < 40 else "test"
        mos = 20 + 60 * level / 255
        rows.append(
            Row(
                f"{i}.png",
                "white.png",
                mos=mos,
                content=str(i),
                method="flat",
                split=split,
                mos_kind="synthetic",
            )
        )
    write_manifest(rows, folder / "manifest.csv")
    return folder / "manifest.csv"


@pytest.fixture
def scorer(tiny_scorer_folder: Path) -> "HarmonyIQA":
    """The tiny scorer, loaded."""
    from harmonyiqa import HarmonyIQA

    return HarmonyIQA.from_pretrained(tiny_scorer_folder)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of seven scenes, a to g, no two alike."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed, name in enumerate("abcdefg"):
        coarse = np.random.default_rng(seed).integers(0, 256, (3, 3, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((48, 40), Image.Resampling.BICUBIC).save(folder / f"{name}.png")
    return folder


@pytest.fixture(scope="session")
def small_pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pack of eight photos: regions in `pets`, classes in `street`, and one of `wild` without a map."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    lines = ["image,regions,source,split"]
    for i in range(8):
        source = ("pets", "street")[i % 2]
        small = rng.integers(40, 216, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(small).resize((64, 48), Image.Resampling.BICUBIC).save(root / f"{source}{i}.png")
        labels = np.zeros((48, 64), np.uint8)
        labels[8:28, 10:30] = 3
        labels[30:44, 40:60] = 3 if source == "street" else 7
        Image.fromarray(labels).save(root / f"{source}{i}.regions.png")
        lines.append(f"{source}{i}.png,{source}{i}.regions.png,{source},train")
    Image.fromarray(rng.integers(0, 256, (2, 2, 3), dtype=np.uint8)).resize((64, 48), 0).save(
        root / "wild.png"
    )
    lines.append("wild.png,,wild,train")
    (root / "photos.csv").write_text("\n".join(lines))
    (root / "classes.json").write_text('{"street": ["none"]}')
    return root


@pytest.fixture
def split_pack(small_pack: Path, tmp_path: Path) -> Callable[[str, str], Path]:
    """The small pack with the photos that a pattern matches in another split."""

    def split(photos: str, name: str) -> Path:
        pack = tmp_path / "pack"
        pack.mkdir()
        for file in small_pack.iterdir():
            (pack / file.name).symlink_to(file)
        table = (small_pack / "photos.csv").read_text()
        (pack / "photos.csv").unlink()
        (pack / "photos.csv").write_text(re.sub(rf"(?m)^({photos}\..*),train$", rf"\1,{name}", table))
        return pack

    return split
