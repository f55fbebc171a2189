"""QLoRA and half-precision bases, on the CPU: bitsandbytes runs there."""

from dataclasses import replace

import pytest
import torch
from PIL import Image
from torch import nn

from harmonyiqa import HarmonyIQA
from harmonyiqa.config import (
    DataSettings,
    LoraSettings,
    OptimSettings,
    StartSettings,
    TrainableSettings,
    TrainSettings,
)
from harmonyiqa.errors import UserError
from harmonyiqa.model.backbone import load_backbone
from harmonyiqa.model.lora import set_trainable
from harmonyiqa.model.storage import start
from harmonyiqa.train.scorer import _arguments, train_scorer

bitsandbytes = pytest.importorskip("bitsandbytes")
LORA = TrainableSettings(lora=LoraSettings(dropout=0.0))


def _model(checkpoint, **settings) -> HarmonyIQA:
    torch.manual_seed(0)
    model = start(StartSettings(str(checkpoint), max_tiles=1, **settings), LORA, 2)
    set_trainable(model, LORA, 2)
    return model.train()


def _batch(model: HarmonyIQA, noise) -> dict[str, torch.Tensor]:
    picture = Image.fromarray(noise)
    return model.inputs.collate_scores(
        [model.prepare(picture), model.prepare(picture, picture)], [40.0, 70.0]
    )


@pytest.mark.parametrize("quantize", ["nf4", "8bit"])
def test_one_step_lowers_the_loss_and_trains_projector_and_head(tiny_checkpoint, noise, quantize) -> None:
    model = _model(tiny_checkpoint, quantize=quantize)
    kind = bitsandbytes.nn.Linear4bit if quantize == "nf4" else bitsandbytes.nn.Linear8bitLt
    layers = dict(model.backbone.model.language_model.layers[0].named_modules())
    for name in ("self_attn.q_proj", "self_attn.o_proj", "mlp.down_proj"):
        assert isinstance(layers[f"{name}.base_layer"], kind), name
    inner = model.backbone
    kept = [inner.lm_head, inner.model.multi_modal_projector.linear_1]
    kept.append(inner.model.vision_tower.encoder.layer[0].mlp.fc1.base_layer)
    assert all(type(layer) is nn.Linear for layer in kept)

    batch = _batch(model, noise)
    learns = {n: p for n, p in model.named_parameters() if p.requires_grad}
    before = {n: p.detach().clone() for n, p in learns.items()}
    optimizer = torch.optim.AdamW(learns.values(), lr=1e-3)
    loss = model(**batch)["loss"]
    loss.backward()
    optimizer.step()
    with torch.no_grad():
        assert model(**batch)["loss"] < loss
    changed = {n for n, p in learns.items() if not torch.equal(p, before[n])}
    assert {n for n in learns if "lora_A" not in n} == changed - {n for n in learns if "lora_A" in n}
    assert any("multi_modal_projector" in n for n in changed)
    assert any("score_head" in n for n in changed)


def test_what_is_saved_holds_the_base_in_full_not_its_four_bits(tiny_checkpoint, tmp_path) -> None:
    model = _model(tiny_checkpoint, quantize="nf4")
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_B" in name:
                p.normal_(std=0.05)
    model.save_pretrained(tmp_path / "m")
    saved = load_backbone(tmp_path / "m", max_tiles=1, dtype=torch.float32).model
    base = load_backbone(tiny_checkpoint, max_tiles=1, dtype=torch.float32).model
    layer = model.backbone.model.language_model.layers[1].mlp.up_proj
    update = layer.lora_B["default"].weight @ layer.lora_A["default"].weight * layer.scaling["default"]
    expected = base.model.language_model.layers[1].mlp.up_proj.weight + update
    torch.testing.assert_close(saved.model.language_model.layers[1].mlp.up_proj.weight, expected)


def test_a_half_precision_base_trains_in_float32(tiny_checkpoint, noise) -> None:
    model = _model(tiny_checkpoint, dtype="bfloat16")
    for name, p in model.named_parameters():
        assert p.dtype == (torch.float32 if p.requires_grad else torch.bfloat16), name
    with torch.autocast("cpu", torch.bfloat16):
        model(**_batch(model, noise))["loss"].backward()
        score = model.eval().predict(model.collate([model.prepare(Image.fromarray(noise))]))
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    assert score.dtype == torch.float32


def test_settings_that_do_not_go_together_are_refused(tiny_checkpoint, grey_manifest, tmp_path) -> None:
    with pytest.raises(UserError, match="freezes the LLM's weights"):
        start(StartSettings(str(tiny_checkpoint), quantize="nf4"), TrainableSettings("full", "full"), 2)
    settings = TrainSettings(
        2,
        str(tmp_path / "r"),
        DataSettings(str(grey_manifest)),
        start=StartSettings(str(tiny_checkpoint), dtype="bfloat16"),
        optim=OptimSettings(precision="fp32"),
    )
    with pytest.raises(UserError, match=r"set optim\.precision to bf16"):
        train_scorer(settings)
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="flash-attn"):
            start(StartSettings(str(tiny_checkpoint), attention="flash_attention_2"), LORA, 2)


def test_the_eight_bit_optimizers_are_trainers_own(tmp_path) -> None:
    settings = TrainSettings(2, str(tmp_path), DataSettings("m.csv"))
    for name in ("adamw_8bit", "paged_adamw_8bit"):
        asked = replace(settings, optim=OptimSettings(precision="fp32", optimizer=name))
        assert _arguments(asked, 100).optim.value == name
    assert _arguments(replace(settings, optim=OptimSettings(precision="fp32")), 100).optim.value.startswith(
        "adamw_torch"
    )
