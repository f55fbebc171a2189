"""What a training run or scoring will need, from its settings alone: the model is built on the meta device.

Weights, gradients and optimiser state follow from the parameters, which are the very ones that training would have:
built, adapted and frozen by the same code. Activations follow from formulas, given where they are computed; they hold
for sdpa and flash attention, which keep no matrix of attention weights.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn
from transformers import InternVLConfig, InternVLForConditionalGeneration
from transformers.utils import logging as transformers_logging

from harmonyiqa.config import PhotoSettings, StartSettings, TrainableSettings, TrainSettings
from harmonyiqa.errors import UserError
from harmonyiqa.model.architectures import known_architecture
from harmonyiqa.model.backbone import NOT_QUANTIZED, read_config, tokens_per_tile
from harmonyiqa.model.head import MapHead, ScoreHead
from harmonyiqa.model.lora import add_adapters, set_trainable
from harmonyiqa.model.storage import HEADS, base_of
from harmonyiqa.synthesize.regions import find_photos

TEXT_TOKENS = 160  # prompt and sentence: harmony_v1 takes fewer with the tokenizers of InternVL
WORKSPACE = 2**30  # CUDA context, cuBLAS workspace, the allocator's rounding: an allowance, not a measurement
_MAKING = 20  # float32 copies of each composite at the peak of `BatchMaker.draw`; a test holds it
_BLOCK, _NESTED = 64, 256  # NF4: one 8-bit scale a block of weights, one float32 a block of scales


@dataclass(frozen=True)
class Estimate:
    """Sizes of a run.

    Attributes:
        architecture: where the sizes came from.
        parameters: of the whole model, adapters and head included.
        trainable: those that learn.
        image_tokens: LLM tokens of one image at the most tiles.
        question_tokens: LLM tokens of the longest question, text allowed for.
        training: bytes by part at the peak of a training step.
        scoring: bytes by part while a batch is scored.
    """

    architecture: str
    parameters: int
    trainable: int
    image_tokens: int
    question_tokens: int
    training: dict[str, int]
    scoring: dict[str, int]

    @property
    def training_peak(self) -> int:
        """Bytes."""
        return sum(self.training.values())

    @property
    def scoring_peak(self) -> int:
        """Bytes."""
        return sum(self.scoring.values())


def estimate(settings: TrainSettings) -> Estimate:
    """Plan one training stage on one GPU, and scoring with what it trains.

    Args:
        settings: the run.

    Raises:
        UserError: the start model's sizes are not to be had.
    """
    config, source = _architecture(settings.start)
    stage: Literal[1, 2] = 1 if settings.stage == 1 else 2
    photos = settings.photos
    model = blank_model(config, settings.trainable, stage, photos.map_cells if photos else 0)
    tiles = settings.start.max_tiles + (settings.start.max_tiles > 1)  # the thumbnail
    images = 1 if settings.data.mode == "nr" and photos is None else 2
    image_tokens = tiles * tokens_per_tile(config)
    question = images * image_tokens + TEXT_TOKENS
    batch = settings.optim.batch_size
    training = {
        **_state(model, settings),
        **_activations(config, settings, batch * images * tiles, batch * question),
    }
    if photos is not None:
        training |= _composites(config, photos, batch, training)
    return Estimate(
        architecture=source,
        parameters=sum(p.numel() for p in model.parameters()),
        trainable=sum(p.numel() for p in model.parameters() if p.requires_grad),
        image_tokens=image_tokens,
        question_tokens=question,
        training={**training, "workspace": WORKSPACE},
        scoring={
            **_scoring(config, model, settings, images * tiles, question),
            "workspace": WORKSPACE,
        },
    )


def blank_model(
    config: InternVLConfig, trainable: TrainableSettings, stage: Literal[1, 2], map_cells: int = 0
) -> nn.ModuleDict:
    """The model of a training stage without its values: on the meta device, adapters placed, the rest frozen."""
    transformers_logging.disable_progress_bar()
    with torch.device("meta"):
        backbone = InternVLForConditionalGeneration(config)
        lora = {"vision": trainable.vision == "lora", "llm": trainable.llm == "lora"}
        if any(lora.values()):
            add_adapters(backbone, trainable.lora, **lora)
        parts: dict[str, nn.Module] = {"backbone": backbone}
        if stage == 2:
            parts["score_head"] = ScoreHead(config.text_config.hidden_size)
        if map_cells:
            parts["map_head"] = MapHead(config.text_config.hidden_size, map_cells)
    backbone.tie_weights()
    model = nn.ModuleDict(parts)
    set_trainable(model, trainable, stage)
    return model


def _architecture(start: StartSettings) -> tuple[InternVLConfig, str]:
    """The checkpoint's own config.json, or that of its base; without either, the published sizes of its name."""
    try:
        return read_config(*base_of(start.model, start.revision)), start.model
    except UserError:
        raise
    except Exception as error:  # no such folder, no network: several libraries' own kinds
        known = known_architecture(start.model)
        if known is None:
            raise UserError(
                f"{start.model}: its config.json cannot be read, and its sizes are not known by name: "
                f"{str(error).strip().splitlines()[0]}"
            ) from error
        name, config = known
        return config, f"{start.model} (published sizes of {name}: its config.json is not at hand)"


# --- what stays ----------------------------------------------------------------------------------------------------


def _state(model: nn.Module, settings: TrainSettings) -> dict[str, int]:
    """Weights, adapters, gradients and optimiser state, bytes."""
    parameters = dict(model.named_parameters())
    learns = [p for p in parameters.values() if p.requires_grad]
    trained = sum(p.numel() for p in learns)
    adapters = sum(p.numel() for name, p in parameters.items() if "lora_" in name)
    return {
        "frozen weights": sum(
            _weight_bytes(n, p, settings) for n, p in parameters.items() if not p.requires_grad
        ),
        "adapters": 4 * adapters,
        "other trained weights": 4 * (trained - adapters),
        "gradients": 4 * trained,
        "optimizer": _optimizer_bytes(learns, settings),
    }


def _weight_bytes(name: str, parameter: nn.Parameter, settings: TrainSettings) -> int:
    """Of a frozen weight as it is kept."""
    if name.startswith(HEADS):
        return 4 * parameter.numel()
    quantize = settings.start.quantize
    kept = name.removeprefix("backbone.").startswith(NOT_QUANTIZED)
    if quantize == "none" or kept or ".language_model.layers." not in name or parameter.ndim != 2:
        return parameter.numel() * (2 if settings.start.dtype == "bfloat16" else 4)
    if quantize == "8bit":  # one byte each, one float32 scale a row
        return parameter.numel() + 4 * parameter.shape[0]
    blocks = math.ceil(parameter.numel() / _BLOCK)
    tables = 4 * (16 + 256) + 4  # the levels of the weights and of the scales; their mean
    return math.ceil(parameter.numel() / 2) + blocks + 4 * math.ceil(blocks / _NESTED) + tables


def _optimizer_bytes(learns: list[nn.Parameter], settings: TrainSettings) -> int:
    """AdamW's two moments. 8-bit ones have a float32 scale for 256 values; tensors below 4,096 stay in 32 bits.

    Muon has one moment for a matrix, and is planned as if it had two.
    """
    if settings.optim.optimizer in ("adamw", "muon"):
        return sum(8 * p.numel() + 4 for p in learns)  # and a step counter each
    if settings.optim.optimizer == "paged_adamw_8bit":
        return sum(8 * p.numel() for p in learns if p.numel() < 4096)  # the rest is the host's
    small = sum(8 * p.numel() for p in learns if p.numel() < 4096)
    return small + sum(
        2 * p.numel() + 2 * 4 * math.ceil(p.numel() / 256) for p in learns if p.numel() >= 4096
    )


# --- what comes and goes -------------------------------------------------------------------------------------------


def _activations(config: InternVLConfig, settings: TrainSettings, tiles: int, tokens: int) -> dict[str, int]:
    """Bytes at the peak of the backward pass.

    With checkpointing the input of every layer stays and one layer at a time is computed again; without, everything of
    every layer stays.
    """
    half = 4 if settings.optim.precision == "fp32" else 2
    vision, text = config.vision_config, config.text_config
    patches = tiles * (
        1 + math.prod(s // p for s, p in zip(vision.image_size, vision.patch_size, strict=True))
    )
    layers = {
        # tower: (number of layers, bytes of a layer's input, bytes that one layer keeps)
        "vision": (
            vision.num_hidden_layers,
            patches * vision.hidden_size * half,
            patches * _vision_layer(config, half, lora=settings.trainable.vision == "lora"),
        ),
        "LLM": (
            text.num_hidden_layers,
            tokens * text.hidden_size * half,
            tokens * _llm_layer(config, half, lora=settings.trainable.llm == "lora"),
        ),
    }
    if settings.trainable.vision == "frozen":  # no gradient enters, nothing is kept
        layers["vision"] = (0, 0, 0)
    if settings.optim.gradient_checkpointing:
        kept = {f"activations, {tower}": n * size for tower, (n, size, _) in layers.items()}
        once = max(layer for _, _, layer in layers.values())
    else:
        kept = {f"activations, {tower}": n * layer for tower, (n, _, layer) in layers.items()}
        once = 0
    return {
        **kept,
        "activations, one layer again": once,
        "projector and loss": _projector_and_loss(config, tiles, tokens, half),
        "pixels": 4 * tiles * 3 * math.prod(vision.image_size),
        "dequantised layer": _largest_linear(config) * half if settings.start.quantize != "none" else 0,
    }


def _lora(inputs: int, half: int) -> int:
    """What an adapter keeps of `inputs` numbers: a float32 copy, dropout's mask, and its result in half precision."""
    return inputs * (4 + 1 + half)


def _llm_layer(config: InternVLConfig, half: int, *, lora: bool) -> int:
    """Bytes that one token leaves in a layer of the LLM: two RMS norms, attention, gated MLP.

    A norm keeps its input in float32 and its result; attention its rotated queries, keys and values (repeated for
    their group) and its output; the MLP gate, activated gate, up and their product.
    """
    text = config.text_config
    size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    width, queries, keys = text.hidden_size, text.num_attention_heads * size, text.num_key_value_heads * size
    norms = 2 * width * (4 + 2 * half)
    attention = half * (queries + 2 * keys) + half * 4 * queries
    mlp = half * 4 * text.intermediate_size
    adapters = _lora(5 * width + queries + text.intermediate_size, half) if lora else 0
    return norms + attention + mlp + adapters


def _vision_layer(config: InternVLConfig, half: int, *, lora: bool) -> int:
    """Bytes that one patch leaves in a layer of InternViT: two norms, attention, MLP, two layer scales."""
    vision = config.vision_config
    width, inner = vision.hidden_size, vision.intermediate_size
    norms = 2 * width * (4 + half)
    attention = half * 4 * width
    mlp = half * 2 * inner
    scales = half * 2 * width
    adapters = _lora(5 * width + inner, half) if lora else 0
    return norms + attention + mlp + scales + adapters


def _projector_and_loss(config: InternVLConfig, tiles: int, tokens: int, half: int) -> int:
    """Projector: input, normed input, two results. Then the LLM's last states; logits at labelled positions are few."""
    image = tiles * tokens_per_tile(config)
    shuffled = config.vision_config.hidden_size * round(1 / config.downsample_ratio) ** 2
    width = config.text_config.hidden_size
    return image * ((4 + half) * shuffled + 3 * half * width) + tokens * width * (4 + half)


def _composites(
    config: InternVLConfig, photos: PhotoSettings, batch: int, others: dict[str, int]
) -> dict[str, int]:
    """What learning from photos adds: they lie on the GPU, and batches of composites are made there.

    A batch is made before the model reads it, when the activations of `others` are not there yet.
    """
    tokens, width = tokens_per_tile(config), config.text_config.hidden_size
    shifts = batch * tokens * photos.map_cells**2 * 4
    making = _MAKING * batch * 3 * math.prod(config.vision_config.image_size) * 4
    later = sum(size for name, size in others.items() if name.startswith(("activations", "projector")))
    found = {
        "map and its loss": 2 * batch * tokens * width * 4 + 4 * shifts,
        "making composites": max(0, making - later),
    }
    if not Path(photos.folder).is_dir():
        return found | {"photos (folder not at hand)": 0}
    count = len(find_photos(photos.folder, "train", without_map=True))
    stored = count * 4 * photos.size**2  # colours and regions, a byte each
    if photos.luts is not None:
        with np.load(photos.luts) as file:
            stored += 4 * file["tables"].size
    return found | {"photos": stored}


def _largest_linear(config: InternVLConfig) -> int:
    text = config.text_config
    return text.hidden_size * max(text.intermediate_size, text.hidden_size)


def _scoring(
    config: InternVLConfig, model: nn.Module, settings: TrainSettings, tiles: int, tokens: int
) -> dict[str, int]:
    """Bytes while one image is scored: nothing is kept but what a layer works on."""
    half = 2 if settings.start.dtype == "bfloat16" else 4
    vision, text = config.vision_config, config.text_config
    patches = tiles * (
        1 + math.prod(s // p for s, p in zip(vision.image_size, vision.patch_size, strict=True))
    )
    in_vision = patches * half * (4 * vision.hidden_size + 2 * vision.intermediate_size)
    in_llm = tokens * half * (4 * text.hidden_size + 3 * text.intermediate_size)
    weights = sum(p.numel() * (4 if n.startswith(HEADS) else half) for n, p in model.named_parameters())
    return {
        "weights": weights,
        "activations of one image": max(in_vision, in_llm),
        "pixels": 4 * tiles * 3 * math.prod(vision.image_size),
    }
