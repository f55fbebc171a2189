from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harmonyiqa import HarmonyIQA
from harmonyiqa.config import StartSettings, TrainableSettings
from harmonyiqa.model.storage import start
from harmonyiqa.model.tiny import make_tiny_model


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random tiny scorer with a score head, whose scores are spread over the scale."""
    folder = tmp_path_factory.mktemp("models")
    checkpoint = make_tiny_model(folder / "checkpoint")
    everything = TrainableSettings(vision="full", llm="full")
    model = start(StartSettings(model=str(checkpoint), max_tiles=1), everything, stage=2)
    model.settings.mos_std = 40.0
    model.settings.mos_kind = "synthetic"
    model.save_pretrained(folder / "tiny")
    return folder / "tiny"


@pytest.fixture
def scorer(model_folder: Path) -> HarmonyIQA:
    return HarmonyIQA.from_pretrained(model_folder)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of seven scenes, a to g, no two alike."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed, name in enumerate("abcdefg"):
        coarse = np.random.default_rng(seed).integers(0, 256, (3, 3, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((48, 40), Image.Resampling.BICUBIC).save(folder / f"{name}.png")
    return folder
