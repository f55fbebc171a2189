"""Sizes from the meta device are those of the real model; those of 8B are what arithmetic by hand gives."""

from dataclasses import replace
from itertools import accumulate

import pytest
import torch
from PIL import Image
from torch.profiler import ProfilerActivity, profile

from harmonyiqa import cli
from harmonyiqa.config import (
    DataSettings,
    LoraSettings,
    OptimSettings,
    PhotoSettings,
    StartSettings,
    TrainableSettings,
    TrainSettings,
)
from harmonyiqa.errors import UserError
from harmonyiqa.model.architectures import known_architecture
from harmonyiqa.model.estimate import _MAKING, blank_model, estimate
from harmonyiqa.model.lora import set_trainable
from harmonyiqa.model.storage import start
from harmonyiqa.synthesize.bank import build_bank
from harmonyiqa.synthesize.batch import BatchMaker
from harmonyiqa.synthesize.recipe import Recipe
from harmonyiqa.train.composites import composites
from harmonyiqa.train.scorer import _first as first_model

TINY = OptimSettings(precision="fp32", batch_size=1, gradient_checkpointing=False)
QLORA = TrainSettings(
    2,
    "out",
    DataSettings("m.csv"),
    start=StartSettings("models/InternVL2-8B-hf", dtype="bfloat16", quantize="nf4"),
    optim=OptimSettings(batch_size=1),
)


@pytest.mark.parametrize("stage", [1, 2])
@pytest.mark.parametrize(
    "trainable",
    [TrainableSettings(), TrainableSettings("full", "frozen"), TrainableSettings("frozen", "lora", False)],
    ids=["lora", "full-vision", "llm-lora"],
)
def test_parameters_gradients_and_optimizer_of_the_tiny_model_are_exact(
    tiny_checkpoint, noise, trainable, stage
) -> None:
    settings = TrainSettings(
        stage,
        "out",
        DataSettings("m.csv"),
        StartSettings(str(tiny_checkpoint), max_tiles=1),
        trainable,
        TINY,
    )
    planned = estimate(settings)
    model = start(settings.start, trainable, stage)
    set_trainable(model, trainable, stage)
    learns = [p for p in model.parameters() if p.requires_grad]
    assert planned.parameters == sum(p.numel() for p in model.parameters())
    assert planned.trainable == sum(p.numel() for p in learns)
    frozen = sum(p.nbytes for p in model.parameters() if not p.requires_grad)
    assert planned.training["frozen weights"] == frozen
    trained = planned.training["adapters"] + planned.training["other trained weights"]
    assert trained == sum(p.nbytes for p in learns)

    collate = model.inputs.collate_sentences if stage == 1 else model.inputs.collate_scores
    model.train()(**collate([model.prepare(Image.fromarray(noise))], [63.4]))["loss"].backward()
    optimizer = torch.optim.AdamW(learns)
    optimizer.step()
    reached = [p for p in learns if p.grad is not None]
    assert planned.training["gradients"] == sum(p.grad.nbytes for p in reached if p.grad is not None)
    held = sum(t.nbytes for state in optimizer.state.values() for t in state.values())
    assert planned.training["optimizer"] == held


def test_learning_from_photos_is_planned_too(tiny_checkpoint, small_pack, tmp_path) -> None:
    photos = PhotoSettings(str(small_pack), images=8, size=48, reference_every=1, map_cells=2)
    start_settings, optim = StartSettings(str(tiny_checkpoint), max_tiles=1), replace(TINY, batch_size=4)
    settings = TrainSettings(
        0, str(tmp_path), DataSettings("m.csv"), start_settings, optim=optim, photos=photos
    )
    planned = estimate(settings)
    model = first_model(settings).train()
    learns = [p for p in model.parameters() if p.requires_grad]
    assert planned.parameters == sum(p.numel() for p in model.parameters())
    assert planned.trainable == sum(p.numel() for p in learns)
    assert any("map_head" in name for name, p in model.named_parameters() if p.requires_grad)

    data = composites(
        photos,
        tmp_path,
        model.inputs,
        tile=32,
        batch_size=optim.batch_size,
        seed=0,
        stage=0,
    )
    bank = data.maker.bank
    assert planned.training["photos"] == 9 * 4 * 48**2 >= bank.rgb.nbytes + bank.labels.nbytes
    batch = data[0]
    assert batch["input_ids"].shape[1] <= planned.question_tokens
    assert batch["pixel_values"].nbytes == planned.training["pixels"]
    model(**batch)["loss"].backward()
    optimizer = torch.optim.AdamW(learns)
    optimizer.step()
    assert planned.training["gradients"] == sum(p.grad.nbytes for p in learns if p.grad is not None)
    held = sum(t.nbytes for state in optimizer.state.values() for t in state.values())
    assert planned.training["optimizer"] == held

    elsewhere = replace(settings, photos=replace(photos, folder=str(tmp_path / "nothing")))
    assert "photos (folder not at hand)" in estimate(elsewhere).training


def test_composites_are_made_in_the_memory_planned(small_pack) -> None:
    maker = BatchMaker(build_bank(small_pack, "train", 96), 96, Recipe(reach=1.0))
    maker.draw(2)  # what is made once is no part of it
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        maker.draw(16)
    changes = [e for e in profiled.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = accumulate(e.nbytes() for e in sorted(changes, key=lambda e: e.start_ns()))
    copies = max(held) / (16 * 3 * 96 * 96 * 4)
    assert _MAKING / 2 < copies < _MAKING


def test_image_tokens_are_what_the_processor_makes(tiny_checkpoint, noise) -> None:
    settings = StartSettings(str(tiny_checkpoint), max_tiles=6)
    model = start(settings, TrainableSettings(), 2)
    example = model.prepare(Image.new("RGB", (300, 200)))  # 3 x 2 tiles
    planned = estimate(TrainSettings(2, "out", DataSettings("m.csv"), settings, optim=TINY))
    assert example.question.count(model.inputs.image_token_id) == planned.image_tokens == 7 * 4
    assert len(example.question) + len(model.inputs.answer) < planned.question_tokens


def test_parameters_of_8b_are_those_counted_by_hand() -> None:
    known = known_architecture("OpenGVLab/InternVL2-8B")
    assert known is not None
    layer = 3 * 1024 * 1024 + 3 * 1024 + 1024 * 1024 + 1024  # attention
    layer += 2 * 1024 * 4096 + 4096 + 1024 + 4 * 1024 + 2 * 1024  # MLP, two norms, two scales
    vision = 24 * layer + 1024 + (3 * 14 * 14 + 1) * 1024 + (32 * 32 + 1) * 1024
    projector = 2 * 4096 + 2 * (4096 * 4096 + 4096)
    block = 2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14336 + 2 * 4096
    llm = 32 * block + 4096 + 2 * 92553 * 4096
    head = 4096 * 2048 + 2048 + 2048 + 1
    lora_vision = 24 * 8 * (4 * 2 * 1024 + 2 * (1024 + 4096))
    lora_llm = 32 * 8 * (2 * (4096 + 4096) + 2 * (4096 + 1024) + 3 * (4096 + 14336))
    model = blank_model(known[1], TrainableSettings(lora=LoraSettings(rank=8)), 2)
    assert all(p.is_meta for p in model.parameters())
    whole = vision + projector + llm + head + lora_vision + lora_llm
    assert sum(p.numel() for p in model.parameters()) == whole
    learns = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert learns == lora_vision + lora_llm + projector + head


@pytest.mark.parametrize("mode", ["nr", "fr"])
def test_8b_stage_2_qlora_with_six_tiles_is_planned_under_24_gb(mode) -> None:
    planned = estimate(replace(QLORA, data=DataSettings("m.csv", mode=mode)))
    assert planned.image_tokens == 7 * 256
    assert sum(planned.training.values()) == planned.training_peak < 24e9
    assert all(size >= 0 for size in planned.training.values())


def test_what_saves_memory_is_planned_to_save_it() -> None:
    def peak(**changes: object) -> int:
        optim = {k: v for k, v in changes.items() if hasattr(QLORA.optim, k)}
        first = {k: v for k, v in changes.items() if hasattr(QLORA.start, k)}
        return estimate(
            replace(QLORA, optim=replace(QLORA.optim, **optim), start=replace(QLORA.start, **first))  # type: ignore[arg-type]
        ).training_peak

    assert peak() < peak(quantize="8bit") < peak(quantize="none")
    assert peak(optimizer="paged_adamw_8bit") < peak(optimizer="adamw_8bit") < peak()
    assert peak(optimizer="muon") == peak(optimizer="adamw")
    assert peak() < peak(gradient_checkpointing=False)
    assert peak() < peak(batch_size=2)


def test_bytes_of_a_quantised_weight_are_bitsandbytes_own() -> None:
    functional = pytest.importorskip("bitsandbytes.functional")
    from harmonyiqa.model.estimate import _weight_bytes

    weight = torch.nn.Parameter(torch.randn(384, 512))
    packed, state = functional.quantize_4bit(weight.data, quant_type="nf4", compress_statistics=True)
    parts = [packed, state.absmax, state.code, state.state2.absmax, state.state2.code, state.offset]
    name = "backbone.model.language_model.layers.0.mlp.up_proj.weight"
    assert _weight_bytes(name, weight, QLORA) == sum(part.nbytes for part in parts)
    assert _weight_bytes("backbone.lm_head.weight", weight, QLORA) == 2 * weight.numel()


def test_the_command_says_yes_or_no(capsys) -> None:
    words = ["estimate", "--config", "configs/internvl2_8b_stage2.yaml"]
    assert cli.main([*words, "--gpu", "24"]) == 0
    shown = capsys.readouterr().out
    assert "published sizes of InternVL2-8B" in shown
    assert "24 GB yes" in shown
    assert cli.main([*words, "--gpu", "4"]) == 0
    assert "4 GB NO" in capsys.readouterr().out
    assert cli.main([*words, "--gpu", "-1"]) == 2


def test_a_model_whose_sizes_are_unknown_is_refused() -> None:
    settings = replace(QLORA, start=StartSettings("nobody/nothing"))
    with pytest.raises(UserError, match="sizes are not known by name"):
        estimate(settings)
