import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from harmonyiqa import HarmonyIQA
from harmonyiqa.errors import UserError


@pytest.fixture(scope="module")
def model(tiny_scorer_folder) -> HarmonyIQA:
    return HarmonyIQA.from_pretrained(tiny_scorer_folder)


def test_the_public_constants() -> None:
    assert HarmonyIQA.lower_better is False
    assert HarmonyIQA.score_range == (0, 100)


def test_one_in_float_out_list_in_list_out(model, noise) -> None:
    one = model.score(noise)
    assert isinstance(one, float)
    assert model.score([noise, noise]) == [one, one]


def test_every_kind_of_picture_scores_the_same(model, noise, tmp_path) -> None:
    Image.fromarray(noise).save(tmp_path / "a.png")
    tensor = torch.from_numpy(noise).permute(2, 0, 1) / 255
    expected = model.score(noise)
    assert model.score(tmp_path / "a.png") == expected
    assert model.score(str(tmp_path / "a.png")) == expected
    assert model.score(Image.fromarray(noise)) == expected
    assert model.score(tensor) == expected
    assert model.score(tensor[None]) == [expected]


def test_a_reference_changes_the_score_and_one_serves_all(model, noise) -> None:
    flat = np.zeros_like(noise)
    with_reference = model.score([noise, flat], reference=flat)
    assert with_reference == model.score([noise, flat], reference=[flat, flat])
    assert with_reference[0] != model.score(noise)


def test_bad_input_raises_in_the_api(model, noise) -> None:
    with pytest.raises(UserError, match="2 images but 3 references"):
        model.score([noise] * 2, reference=[noise] * 3)
    with pytest.raises(UserError, match=r"shape \(1, 8, 8\)"):
        model.score(torch.zeros(1, 8, 8))
    with pytest.raises(UserError, match=r"nowhere\.png"):
        model.score("nowhere.png")


def test_batch_and_padding_do_not_move_a_score(model, noise) -> None:
    picture = Image.fromarray(noise)
    alone = model.predict(model.collate([model.prepare(picture)]))
    mixed = model.predict(model.collate([model.prepare(picture), model.prepare(picture, picture)]))
    assert alone[0].item() == pytest.approx(mixed[0].item(), abs=1e-4)


def test_predict_is_the_head_on_the_slot_in_mos_units(model, noise) -> None:
    batch = model.collate([model.prepare(Image.fromarray(noise))])
    with torch.no_grad():
        whole = model.backbone(
            input_ids=batch.input_ids, pixel_values=batch.pixel_values, output_hidden_states=True
        )
        slot = whole.hidden_states[-1][:, -1]
        expected = model.score_head(slot) * 40 + 50  # the fixture's mean and deviation
    torch.testing.assert_close(model.predict(batch), expected)


def test_stage_1_loss_is_transformers_own(tiny_checkpoint, noise) -> None:
    from harmonyiqa.config import StartSettings, TrainableSettings
    from harmonyiqa.model.storage import start

    model = start(
        StartSettings(str(tiny_checkpoint), max_tiles=1), TrainableSettings("full", "full"), stage=1
    ).eval()
    picture = Image.fromarray(noise)
    batch = model.inputs.collate_sentences(
        [model.prepare(picture), model.prepare(picture, picture)], [63.4, 9.5]
    )
    ours = model(**batch)["loss"]
    theirs = model.backbone(**batch).loss  # full logits
    torch.testing.assert_close(ours, theirs)


def test_stage_2_loss_is_mse_of_the_normalised_score(model, noise) -> None:
    batch = model.inputs.collate_scores([model.prepare(Image.fromarray(noise))] * 2, [40.0, 70.0])
    out = model(**batch)
    expected = F.mse_loss((out["scores"] - 50) / 40, torch.tensor([-0.25, 0.5]))
    torch.testing.assert_close(out["loss"], expected)


def test_no_lm_head_runs_in_stage_2(model, noise) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("lm_head was called")

    handle = model.backbone.lm_head.register_forward_pre_hook(refuse)
    try:
        model.score(noise)
        model(**model.inputs.collate_scores([model.prepare(Image.fromarray(noise))], [50.0]))
    finally:
        handle.remove()


def test_a_random_model_writes_no_score_and_none_is_invented(tiny_checkpoint, noise) -> None:
    from harmonyiqa.config import StartSettings, TrainableSettings
    from harmonyiqa.model.storage import start

    model = start(
        StartSettings(str(tiny_checkpoint), max_tiles=1), TrainableSettings("full", "full"), stage=1
    ).eval()
    with pytest.raises(UserError, match="holds no score"):
        model.score(noise)
    with pytest.raises(UserError, match="no score head"):
        model.predict(model.collate([model.prepare(Image.fromarray(noise))]))
