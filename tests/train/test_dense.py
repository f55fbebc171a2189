import numpy as np
import pytest
import torch
from PIL import Image

from harmonyiqa import HarmonyIQA
from harmonyiqa.config import StartSettings, TrainableSettings
from harmonyiqa.data.manifest import Manifest, Row, read_manifest, write_manifest
from harmonyiqa.errors import UserError
from harmonyiqa.model.storage import start
from harmonyiqa.train.dense import DenseCollator, DenseDataset, DenseScorer

SIDE = 32  # the tiny model's tile: 4 x 4 patches, 2 x 2 image tokens


@pytest.fixture
def manifest(tmp_path) -> Manifest:
    """One photo, altered by 20 in its upper right patch only."""
    reference = np.full((SIDE, SIDE, 3), 90, np.uint8)
    image, mask = reference.copy(), np.zeros((SIDE, SIDE), np.uint8)
    image[:8, 24:] = (220, 40, 40)
    mask[:8, 24:] = 255
    for name, pixels in (("image", image), ("reference", reference), ("mask", mask)):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    row = Row(
        "image.png", "reference.png", mask="mask.png", mos=40.0, split="train", extra={"severity": 20.0}
    )
    write_manifest([row], tmp_path / "m.csv")
    return read_manifest(tmp_path / "m.csv")


@pytest.fixture
def model(tiny_checkpoint) -> DenseScorer:
    plain = start(StartSettings(str(tiny_checkpoint), max_tiles=1), TrainableSettings("full", "full"), 2)
    return DenseScorer.around(plain).eval()


def test_the_map_says_which_patch_of_which_token(model, manifest) -> None:
    shift = DenseDataset(manifest, "train", model.inputs, 4, mode="nr")[0].shift
    assert shift.shape == (4, 4)
    assert int(shift.argmax()) == 1 * 4 + 1  # token of the upper right quarter, its upper right patch
    assert shift.max() > 0.7  # 20 CIEDE2000 are 1.33 units, less the soft edge of resizing


def test_the_models_tokens_stand_in_the_order_of_the_map(model, manifest) -> None:
    features = [
        model.backbone.model.get_image_features(
            model.prepare(Image.open(manifest.resolve(name))).pixel_values
        ).pooler_output[0]
        for name in ("image.png", "reference.png")
    ]
    # attention mixes the patches a little; the altered one's own token changes most
    assert int((features[0] - features[1]).norm(dim=-1).argmax()) == 1


def test_flipping_mirrors_image_and_map_together(model, manifest, monkeypatch) -> None:
    monkeypatch.setattr("harmonyiqa.train.data.random.random", lambda: 0.0)
    item = DenseDataset(manifest, "train", model.inputs, 4, mode="nr", flip=True)[0]
    assert int(item.shift.argmax()) == 0  # upper left token, upper left patch
    assert item.example.pixel_values[0, 0, :8, :8].mean() > item.example.pixel_values[0, 0, :8, 24:].mean()


@pytest.mark.parametrize("mode", ["nr", "fr", "both"])
def test_the_loss_reads_the_images_own_tokens(model, manifest, mode) -> None:
    data = DenseDataset(manifest, "train", model.inputs, 4, mode=mode)
    batch = DenseCollator(model.inputs, sentences=False)([data[i] for i in range(len(data))])
    with torch.no_grad():
        expected = []
        for i in range(len(data)):
            one = DenseCollator(model.inputs, sentences=False)([data[i]])
            hidden = model._hidden(one["input_ids"], one["attention_mask"], one["pixel_values"])
            places = (one["input_ids"][0] == model.inputs.image_token_id).nonzero().flatten()[-4:]
            found = model.shift_head(hidden[0, places])
            score = model.score_loss(hidden, one["labels"], None)["loss"]
            expected.append(score + (found - one["shifts"][0]).pow(2).mean() / 0.1)
        torch.testing.assert_close(model(**batch)["loss"], torch.stack(expected).mean(), rtol=1e-4, atol=1e-4)


def test_what_is_saved_is_a_plain_scorer(model, noise, tmp_path) -> None:
    model.save_pretrained(tmp_path / "m")
    plain = HarmonyIQA.from_pretrained(tmp_path / "m")
    assert not isinstance(plain, DenseScorer)
    assert plain.score(noise) == model.score(noise)


def test_rows_without_a_mask_are_refused(model, grey_manifest) -> None:
    with pytest.raises(UserError, match="needs a mask and a severity"):
        DenseDataset(read_manifest(grey_manifest), "train", model.inputs, 4, mode="nr")
