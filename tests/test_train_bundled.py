"""The recipe of the bundled model, as far as it goes without photos: what becomes of the trained stages."""

from pathlib import Path

import pytest
import torch

from harmonyiqa import HarmonyIQA
from harmonyiqa.config import StartSettings, TrainableSettings
from harmonyiqa.data.manifest import read_manifest
from harmonyiqa.model.backbone import load_backbone
from harmonyiqa.model.storage import start
from harmonyiqa.train.data import ScoreDataset
from harmonyiqa.train.tower import TowerJudge


@pytest.fixture
def recipe(load_script):
    return load_script("train_bundled")


def test_weights_halfway_between_the_stages_ship_in_half_precision(recipe, tiny_checkpoint, tmp_path) -> None:
    full = TrainableSettings("full", "full")
    stages = [start(StartSettings(str(tiny_checkpoint), max_tiles=1), full, stage=stage) for stage in (1, 2)]
    with torch.no_grad():
        for weight in stages[1].parameters():
            weight.add_(torch.randn(weight.shape))
    for name, model in zip(("sentence", "score"), stages, strict=True):
        model.save_pretrained(tmp_path / name)
    recipe.store(recipe.halfway(tmp_path / "sentence", tmp_path / "score"), tmp_path / "shipped")
    shipped = HarmonyIQA.from_pretrained(tmp_path / "shipped")

    first, second = (dict(model.backbone.named_parameters()) for model in stages)
    for name, weight in shipped.backbone.named_parameters():  # tied weights once
        torch.testing.assert_close(weight, (first[name] + second[name]) / 2, rtol=1e-3, atol=1e-6)
        assert torch.equal(weight, weight.half().to(weight.dtype)), name
    head = stages[1].score_head.state_dict()
    assert all(torch.equal(value, head[name]) for name, value in shipped.score_head.state_dict().items())


def test_calibrated_scores_spread_as_the_labels_and_stay_in_order(recipe, scorer, grey_manifest) -> None:
    """One factor for all, an offset for each mode; the rows with the highest MOS count as untouched."""
    manifest = read_manifest(grey_manifest)
    before = {mode: scores_of(scorer, manifest, mode) for mode in ("nr", "fr")}
    recipe.calibrate(scorer, manifest)
    variance = torch.stack([old.var() for old, _ in before.values()]).mean()
    for mode, (old, mos) in before.items():
        new, _ = scores_of(scorer, manifest, mode)
        assert new[mos == mos.max()].median() == pytest.approx(recipe.UNTOUCHED, abs=0.5), mode
        spread = min(max(float(mos.std() / variance.sqrt()), 1), recipe.MOST_SPREAD)
        torch.testing.assert_close(new - new.mean(), spread * (old - old.mean()), atol=0.5, rtol=0.1)


def scores_of(model, manifest, mode):
    data = ScoreDataset(manifest, "val", model.inputs, mode)
    batch = model.collate([data[i].example for i in range(len(data))])
    return model.predict(batch), data.mos


def test_photos_that_are_ready_are_not_read_again(recipe, tmp_path) -> None:
    first, second = tmp_path / "tower", tmp_path / "stage0"
    first.mkdir()
    for split in ("train", "val"):
        (first / f"photos_{split}.safetensors").write_text(split)
    second.mkdir()
    (second / "photos_val.safetensors").write_text("its own")
    recipe.share_photos(first, second)
    recipe.share_photos(first, second)  # a stage that was cut
    found = {path.name: path.read_text() for path in second.iterdir()}
    assert found == {"photos_train.safetensors": "train", "photos_val.safetensors": "its own"}


def test_the_recipe_can_go_on_from_the_bundled_model() -> None:
    folder = Path(__file__).parents[1] / "harmonyiqa/model/bundled"
    model = load_backbone(str(folder), max_tiles=1, dtype=torch.float32).model
    with torch.no_grad():
        altered, where, ways = TowerJudge.of(model, str(folder)).look(torch.rand(2, 3, 224, 224))
    assert altered.shape == (2,)
    assert where.shape == (2, 14, 14)
    assert ways.shape == (2, 3, 14, 14)
