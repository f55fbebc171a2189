from dataclasses import replace
from pathlib import Path

import pytest
import torch

from harmonyiqa import HarmonyIQA
from harmonyiqa.config import PhotoSettings, StartSettings, TrainableSettings
from harmonyiqa.errors import UserError
from harmonyiqa.model.storage import start
from harmonyiqa.synthesize.severity import mos_of
from harmonyiqa.train.dense import CompositeDataset, DenseScorer, composites

TILE, PATCH, GRID = 32, 8, 4  # the tiny model's: 4 x 4 patches, 2 x 2 image tokens


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Path) -> DenseScorer:
    plain = start(StartSettings(str(tiny_checkpoint), max_tiles=1), TrainableSettings("full", "full"), 2)
    plain.settings = replace(plain.settings, mos_mean=50.0, mos_std=13.0)
    return DenseScorer.around(plain).eval()


@pytest.fixture(scope="module")
def data(small_pack: Path, model: DenseScorer, tmp_path_factory: pytest.TempPathFactory) -> CompositeDataset:
    cache = tmp_path_factory.mktemp("run") / "photos.safetensors"
    settings = PhotoSettings(str(small_pack), images=24, size=48, reference_every=2, held_out=["hue"])
    made = composites(settings, cache, model.inputs, tile=TILE, patch=PATCH, batch_size=4, seed=1)
    assert cache.exists()
    return made


def test_as_many_batches_as_asked_for_and_no_held_out_family(data: CompositeDataset) -> None:
    assert len(data) == 6
    assert "hue" not in data.maker.families
    assert "gamma" in data.maker.families


def test_a_batch_is_the_same_whenever_it_is_made(data: CompositeDataset) -> None:
    first, other, again = data[3], data[4], data[3]
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["pixel_values"][:4], other["pixel_values"][:4])


def test_every_second_batch_shows_the_reference(data: CompositeDataset, model: DenseScorer) -> None:
    nr, fr = data[0], data[1]
    image = model.inputs.image_token_id
    assert (nr["input_ids"] == image).sum(1).tolist() == [4] * 4
    assert (fr["input_ids"] == image).sum(1).tolist() == [8] * 4
    assert len(nr["pixel_values"]) == 4
    assert len(fr["pixel_values"]) == 8


def test_labels_and_map_say_one_thing(data: CompositeDataset) -> None:
    for index in range(len(data)):
        batch = data[index]
        untouched = batch["labels"] > mos_of(0.05)
        assert (batch["shifts"][untouched] < 0.01).all()
        assert (batch["shifts"][~untouched].amax((1, 2)) > 0).all()


def test_the_map_says_which_patch_of_which_token(data: CompositeDataset) -> None:
    """Beside the picture itself: the altered patches are those that differ from the reference."""
    found = 0
    for index in range(1, len(data), 2):
        batch = data[index]
        reference, image = batch["pixel_values"].unflatten(0, (-1, 2)).unbind(1)
        difference = (image - reference).abs().mean(1)
        patches = difference.unflatten(1, (GRID, PATCH)).unflatten(3, (GRID, PATCH)).mean((2, 4))
        tokens = torch.stack([patches[:, i::2, j::2] for i in range(2) for j in range(2)], -1).flatten(1, 2)
        for ours, theirs in zip(batch["shifts"], tokens, strict=True):
            outside, inside = theirs[ours == 0], theirs[ours > 0.1]
            if len(outside) and len(inside) and outside.max() < 1e-6:  # no whole-photo change
                assert inside.min() > 0
                found += 1
    assert found


@pytest.mark.parametrize("index", [0, 1])
def test_the_loss_reads_the_images_own_tokens(model: DenseScorer, data: CompositeDataset, index: int) -> None:
    batch = data[index]
    with torch.no_grad():
        hidden = model._hidden(batch["input_ids"], batch["attention_mask"], batch["pixel_values"])
        places = (batch["input_ids"][0] == model.inputs.image_token_id).nonzero().flatten()[-4:]
        found = model.shift_head(hidden[:, places])
        score = model.score_loss(hidden, batch["labels"], None)["loss"]
        expected = score + (found - batch["shifts"]).pow(2).mean() / 0.1
        torch.testing.assert_close(model(**batch)["loss"], expected, rtol=1e-4, atol=1e-4)


def test_what_is_saved_is_a_plain_scorer(model: DenseScorer, noise, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "m")
    plain = HarmonyIQA.from_pretrained(tmp_path / "m")
    assert not isinstance(plain, DenseScorer)
    assert plain.score(noise) == model.score(noise)


def test_tiles_are_refused(tiny_checkpoint: Path, data: CompositeDataset) -> None:
    model = start(StartSettings(str(tiny_checkpoint), max_tiles=6), TrainableSettings("full", "full"), 2)
    with pytest.raises(UserError, match="max_tiles 1"):
        CompositeDataset(data.maker, model.inputs, 1, 1, 1, GRID)
