"""Figures about a model's weights: do the adapters do anything, does gradient reach them, does merging move a score?

`evaluate.probes` says what each should be.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from harmonyiqa.config import TrainableSettings
from harmonyiqa.model.harmonyiqa import HarmonyIQA
from harmonyiqa.model.inputs import Example
from harmonyiqa.model.lora import learns


def autocast(model: HarmonyIQA) -> AbstractContextManager[Any]:
    """bfloat16 where a model just trained holds frozen weights in it beside float32 ones; else nothing."""
    dtypes = {p.dtype for p in model.backbone.parameters() if p.is_floating_point()}
    return torch.autocast(model.device.type, torch.bfloat16) if len(dtypes) > 1 else nullcontext()


def idle_adapters(model: HarmonyIQA) -> tuple[int, int]:
    """How many adapters are all zero in B, so that they add nothing, and how many there are."""
    b = [p for name, p in model.named_parameters() if "lora_B" in name]
    return sum(not p.any() for p in b), len(b)


def without_gradient(
    model: HarmonyIQA, examples: Sequence[Example], mos: Sequence[float]
) -> tuple[list[str], int]:
    """Trainable tensors that one backward pass leaves without gradient, and how many are trainable.

    With adapters: those, projector and head; of a model trained in full: everything that its stage uses. Key biases are
    left out: a softmax does not see a shift of all scores of a query. The model stays as it was.
    """
    settings = model.settings
    frozen_or_full = "frozen" if settings.lora is not None else "full"
    how = TrainableSettings(
        vision="lora" if settings.lora_vision else frozen_or_full,  # type: ignore[arg-type]
        llm="lora" if settings.lora_llm else frozen_or_full,  # type: ignore[arg-type]
    )
    stage = 1 if model.score_head is None else 2
    collate = model.inputs.collate_sentences if stage == 1 else model.inputs.collate_scores
    batch = {key: value.to(model.device) for key, value in collate(examples, mos).items()}
    before = {name: p.requires_grad for name, p in model.named_parameters()}
    training = model.training
    try:
        for name, parameter in model.named_parameters():
            parameter.grad = None
            # the map has no part in the score's loss
            parameter.requires_grad_(learns(name, how, stage) and not name.startswith("map_head."))
        model.eval()
        with torch.enable_grad(), autocast(model):
            model(**batch)["loss"].backward()
        tensors = {
            name: p
            for name, p in model.named_parameters()
            if p.requires_grad and not name.endswith("k_proj.bias")
        }
        silent = [name for name, p in tensors.items() if p.grad is None or not p.grad.any()]
        return silent, len(tensors)
    finally:
        for name, parameter in model.named_parameters():
            parameter.grad = None
            parameter.requires_grad_(before[name])
        model.train(training)


@torch.inference_mode()
def batch_difference(model: HarmonyIQA, examples: Sequence[Example]) -> float:
    """How far a score moves, at most, when an image is scored in one batch with all others instead of alone (MOS)."""
    with autocast(model):
        together = model.predict(model.collate(examples))
        alone = torch.cat([model.predict(model.collate([example])) for example in examples])
    return (together - alone).abs().max().item()


@torch.no_grad()
def merge_difference(model: HarmonyIQA, examples: Sequence[Example]) -> float | None:
    """How far a score moves, at most, when the adapters are added to the weights (MOS).

    None without adapters, and on 4- or 8-bit weights, which are merged into the base in full when the model is saved.
    The weights are put back as they were, bit for bit.
    """
    if model.adapters is None or getattr(model.backbone, "is_quantized", False):
        return None
    batch = model.collate(examples)
    kept = {n: p.detach().clone() for n, p in model.named_parameters() if n.endswith("base_layer.weight")}
    with autocast(model):
        before = model.predict(batch)
        model.adapters.merge_adapter()
        after = model.predict(batch)
    model.adapters.unmerge_adapter()
    for name, parameter in model.named_parameters():
        if name in kept:
            parameter.copy_(kept[name])
    return (before - after).abs().max().item()
