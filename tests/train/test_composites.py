from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate.data_loader import BatchSamplerShard
from PIL import Image
from torch.utils.data import BatchSampler, SequentialSampler

from harmonyiqa import HarmonyIQA
from harmonyiqa.config import PhotoSettings, StartSettings, TrainableSettings
from harmonyiqa.errors import UserError
from harmonyiqa.model.head import MapHead
from harmonyiqa.model.storage import start
from harmonyiqa.synthesize.severity import mos_of
from harmonyiqa.train.composites import CompositeDataset, composite_maker, composites

TILE, CELLS, GRID = 32, 2, 4  # the tiny model's tile; 2 x 2 image tokens of 2 x 2 cells


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Path) -> HarmonyIQA:
    plain = start(StartSettings(str(tiny_checkpoint), max_tiles=1), TrainableSettings("full", "full"), 2)
    plain.settings = replace(plain.settings, mos_mean=50.0, mos_std=13.0)
    plain.add_map_head(CELLS)
    return plain.eval()


@pytest.fixture(scope="module")
def data(small_pack: Path, model: HarmonyIQA, tmp_path_factory: pytest.TempPathFactory) -> CompositeDataset:
    cache = tmp_path_factory.mktemp("run")
    settings = PhotoSettings(
        str(small_pack), images=24, size=48, reference_every=2, held_out=["hue"], map_cells=CELLS
    )
    made = composites(settings, cache, model.inputs, tile=TILE, batch_size=4, seed=1, stage=2)
    assert (cache / "photos_train.safetensors").exists()
    return made


def test_as_many_batches_as_asked_for_and_no_held_out_family(data: CompositeDataset) -> None:
    assert len(data) == 6
    assert "hue" not in data.maker.families
    assert "gamma" in data.maker.families


def test_a_held_out_collection_is_never_seen(small_pack: Path, tmp_path: Path) -> None:
    settings = PhotoSettings(str(small_pack), images=8, size=48, held_out_sources=["street"])
    maker = composite_maker(settings, tmp_path, "train", tile=TILE, seed=0)
    plan = maker.plan(64)
    seen = maker.bank.sources[torch.cat([plan.regions, plan.donors])]
    assert {maker.bank.names[int(source)] for source in seen} == {"pets", "wild"}
    for held_out, message in (
        (["sea"], "names 'sea'; there are pets, "),
        (maker.bank.names, "leaves nothing"),
    ):
        with pytest.raises(UserError, match=message):
            composite_maker(
                replace(settings, held_out_sources=held_out), tmp_path, "train", tile=TILE, seed=0
            )
    with pytest.raises(UserError, match="names 'hues'; there are exposure"):
        composite_maker(replace(settings, held_out=["hues"]), tmp_path, "train", tile=TILE, seed=0)


def test_a_batch_is_the_same_whenever_it_is_made(data: CompositeDataset) -> None:
    first, other, again = data[3], data[4], data[3]
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["pixel_values"][:4], other["pixel_values"][:4])


def test_every_second_batch_shows_the_reference(data: CompositeDataset, model: HarmonyIQA) -> None:
    nr, fr = data[0], data[1]
    image = model.inputs.image_token_id
    assert (nr["input_ids"] == image).sum(1).tolist() == [4] * 4
    assert (fr["input_ids"] == image).sum(1).tolist() == [8] * 4
    assert len(nr["pixel_values"]) == 4
    assert len(fr["pixel_values"]) == 8


def test_the_processes_of_a_step_ask_the_same_kind_of_question(
    data: CompositeDataset, model: HarmonyIQA
) -> None:
    pair = CompositeDataset(data.maker, model.inputs, 12, 1, 3, data.grid, 2, together=2)
    batches = BatchSampler(SequentialSampler(pair), 1, drop_last=False)
    kinds = [
        [len(pair[index]["pixel_values"]) for (index,) in BatchSamplerShard(batches, 2, process)]
        for process in range(2)
    ]
    assert kinds == [[1, 1, 2, 1, 1, 2]] * 2  # pictures: the image alone, or the reference as well


def test_beside_the_reference_whole_photos_change_as_far_as_regions(
    data: CompositeDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data.maker, "recipe", replace(data.maker.recipe, decoy=1, reach=0, compressed=0))
    alone = data.maker.batch(0, 4)
    assert (alone.image - alone.reference).abs().mul(alone.alpha == 0).amax() < 0.01
    batch = data[1]
    reference, image = batch["pixel_values"].unflatten(0, (-1, 2)).unbind(1)
    difference = (image - reference).abs().mean(1).unflatten(1, (GRID, -1)).unflatten(3, (GRID, -1))
    assert difference.mean((2, 4))[batch["shifts"] == 0].amax() > 0.1


def test_labels_and_map_say_one_thing(data: CompositeDataset) -> None:
    for index in range(len(data)):
        batch = data[index]
        untouched = batch["labels"] > mos_of(0.05)
        assert (batch["shifts"][untouched] < 0.01).all()
        assert (batch["shifts"][~untouched].amax((1, 2)) > 0).all()


def test_the_map_lies_over_the_picture(data: CompositeDataset) -> None:
    """Altered cells are those that differ from the reference."""
    found = 0
    for index in range(1, len(data), 2):
        batch = data[index]
        reference, image = batch["pixel_values"].unflatten(0, (-1, 2)).unbind(1)
        difference = (image - reference).abs().mean(1)
        cells = difference.unflatten(1, (GRID, -1)).unflatten(3, (GRID, -1)).mean((2, 4))
        for ours, theirs in zip(batch["shifts"], cells, strict=True):
            outside, inside = theirs[ours == 0], theirs[ours > 1.5]
            if len(outside) and len(inside) and outside.max() < 1e-6:  # no whole-photo change
                assert inside.min() > 0
                found += 1
    assert found


def test_the_map_head_puts_each_tokens_cells_in_its_place(model: HarmonyIQA) -> None:
    head = MapHead(3, cells=2)
    torch.nn.init.zeros_(head.linear.weight)
    head.linear.bias.data = torch.arange(4.0)
    head.linear.weight.data[:, 0] = 10  # the first feature says which token it is
    tokens = torch.zeros(1, 4, 3)
    tokens[0, :, 0] = torch.arange(4)
    expected = [[0, 1, 10, 11], [2, 3, 12, 13], [20, 21, 30, 31], [22, 23, 32, 33]]
    assert head(tokens)[0].tolist() == expected


def test_the_models_tokens_stand_in_the_order_of_the_map(model: HarmonyIQA) -> None:
    plain = Image.new("RGB", (TILE, TILE), (90, 90, 90))
    altered = plain.copy()
    altered.paste((220, 40, 40), (TILE * 3 // 4, 0, TILE, TILE // 4))
    features = [
        model.backbone.model.get_image_features(model.prepare(image).pixel_values).pooler_output[0]
        for image in (plain, altered)
    ]
    # attention mixes the patches a little; the altered one's own token changes most
    assert int((features[0] - features[1]).norm(dim=-1).argmax()) == 1


@pytest.mark.parametrize("index", [0, 1])
def test_the_loss_is_the_scores_and_that_of_the_images_own_map(
    model: HarmonyIQA, data: CompositeDataset, index: int
) -> None:
    batch = data[index]
    assert model.map_head is not None
    with torch.no_grad():
        hidden = model._hidden(batch["input_ids"], batch["attention_mask"], batch["pixel_values"])
        places = (batch["input_ids"][0] == model.inputs.image_token_id).nonzero().flatten()[-4:]
        error = model.map_head(hidden[:, places]) - batch["shifts"] / 15
        score = model(**{name: value for name, value in batch.items() if name != "shifts"})["loss"]
        expected = score + error.pow(2).mean() / 0.1
        torch.testing.assert_close(model(**batch)["loss"], expected, rtol=1e-4, atol=1e-4)


def test_a_scenes_two_images_are_compared_too(model: HarmonyIQA, data: CompositeDataset, monkeypatch) -> None:
    monkeypatch.setattr(data.maker, "recipe", replace(data.maker.recipe, paired=True))
    ranked = CompositeDataset(data.maker, model.inputs, 2, 8, 2, GRID, 2, ranked=True)
    alone, beside_a_reference = ranked[0], ranked[1]
    assert "pairs" not in beside_a_reference  # these questions are not paired
    better, worse = alone["pairs"].unbind(1)
    assert len(better)
    assert torch.equal(better, worse + 4)
    assert (alone["labels"][better] - alone["labels"][worse] > 1).all()
    with torch.no_grad():
        found = model(**alone)
        plain = model(**{name: value for name, value in alone.items() if name != "pairs"})["loss"]
    apart = (found["scores"][better] - found["scores"][worse]) / model.settings.mos_std
    expected = torch.log1p(torch.exp(-apart)).mean()
    torch.testing.assert_close(found["loss"] - plain, expected, rtol=1e-3, atol=1e-4)
    with pytest.raises(UserError, match="off where"):
        PhotoSettings("photos", images=1, ranked=True)


def test_sentences_say_the_same_scores(model: HarmonyIQA, data: CompositeDataset) -> None:
    spoken = CompositeDataset(data.maker, model.inputs, 2, 4, data.every, GRID, 1)
    for index in range(2):
        ours, scores = spoken[index], data[index]
        assert torch.equal(ours["pixel_values"], scores["pixel_values"])
        for ids, mos in zip(ours["labels"], scores["labels"], strict=True):
            said = model.inputs.tokenizer.decode(ids[ids >= 0])
            assert model.inputs.prompt.parse_score(said) == pytest.approx(float(mos), abs=0.005)


@pytest.mark.parametrize("index", [0, 1])
def test_stage_1_adds_the_map_to_the_sentence(
    tiny_checkpoint: Path, data: CompositeDataset, index: int
) -> None:
    model = start(StartSettings(str(tiny_checkpoint), max_tiles=1), TrainableSettings("full", "full"), 1)
    model.add_map_head(CELLS)
    batch = CompositeDataset(data.maker, model.inputs, 2, 4, data.every, GRID, 1)[index]
    words = {name: value for name, value in batch.items() if name != "shifts"}
    assert model.map_head is not None
    with torch.no_grad():
        hidden = model._hidden(batch["input_ids"], batch["attention_mask"], batch["pixel_values"])
        places = (batch["input_ids"][0] == model.inputs.image_token_id).nonzero().flatten()[-4:]
        error = (model.map_head(hidden[:, places]) - batch["shifts"] / 15).pow(2).mean() / 0.1
        torch.testing.assert_close(
            model(**batch)["loss"], model(**words)["loss"] + error, rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("index", [0, 1])
def test_stage_0_learns_score_sentence_and_map_at_once(
    model: HarmonyIQA, tiny_checkpoint: Path, data: CompositeDataset, index: int
) -> None:
    batch, alone, words = (
        CompositeDataset(data.maker, model.inputs, 2, 4, data.every, GRID, stage)[index]
        for stage in (0, 2, 1)
    )
    speaker = start(StartSettings(str(tiny_checkpoint), max_tiles=1), TrainableSettings("full", "full"), 1)
    del words["shifts"]
    with torch.no_grad():
        ours, expected = model(**batch), model(**alone)
        # the head reads the state before the score, whatever is said after it
        torch.testing.assert_close(ours["scores"], expected["scores"], rtol=1e-4, atol=1e-4)
        said = speaker(**words)["loss"]
    torch.testing.assert_close(ours["loss"], expected["loss"] + said, rtol=1e-4, atol=1e-4)


def test_the_map_is_saved_with_the_model(model: HarmonyIQA, noise, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "m")
    again = HarmonyIQA.from_pretrained(tmp_path / "m")
    batch = again.collate([again.prepare(Image.fromarray(noise))] * 2)
    found = again.predict_map(batch)
    assert found.shape == (2, GRID, GRID)
    assert (found >= 0).all()
    assert torch.equal(found, model.predict_map(batch))
    assert again.score(noise) == model.score(noise)


def test_a_model_without_a_map_says_so(tiny_checkpoint: Path, noise) -> None:
    model = start(StartSettings(str(tiny_checkpoint), max_tiles=1), TrainableSettings("full", "full"), 2)
    with pytest.raises(UserError, match="has no map of what was altered"):
        model.predict_map(model.collate([model.prepare(Image.fromarray(noise))]))


def test_both_heads_come_from_another_model(model: HarmonyIQA, tiny_checkpoint: Path, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "m")
    settings = StartSettings(str(tiny_checkpoint), max_tiles=1, head=str(tmp_path / "m"))
    taken = start(settings, TrainableSettings("full", "full"), 2)
    assert taken.settings.map_cells == CELLS
    for name in ("score_head", "map_head"):
        ours, theirs = (getattr(m, name).state_dict() for m in (taken, model))
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_tiles_are_refused(tiny_checkpoint: Path, data: CompositeDataset) -> None:
    model = start(StartSettings(str(tiny_checkpoint), max_tiles=6), TrainableSettings("full", "full"), 2)
    with pytest.raises(UserError, match="max_tiles 1"):
        CompositeDataset(data.maker, model.inputs, 1, 1, 1, GRID, 2)
