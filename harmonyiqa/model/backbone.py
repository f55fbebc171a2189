"""Native InternVL checkpoints: model, tokenizer and image processor from a hub id or a folder. No remote code."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import (
    AutoConfig,
    AutoTokenizer,
    BitsAndBytesConfig,
    GotOcr2ImageProcessorPil,
    InternVLConfig,
    InternVLForConditionalGeneration,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
)
from transformers.utils import is_flash_attn_2_available
from transformers.utils import logging as transformers_logging

from harmonyiqa.errors import UserError
from harmonyiqa.model import tower  # registers its model type

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
LANGUAGE_MODELS = ("llama", "qwen2", "qwen3")  # InternLM2 and InternLM3 are llama in this layout


Quantize = Literal["none", "8bit", "nf4"]
Attention = Literal["auto", "sdpa", "flash_attention_2"]
# Full paths: the short names would skip nothing, and without `lm_head` it would be quantised
NOT_QUANTIZED = ("model.vision_tower", "model.multi_modal_projector", "lm_head")


@dataclass
class Backbone:
    """The three parts of a checkpoint."""

    model: InternVLForConditionalGeneration
    tokenizer: PreTrainedTokenizerBase
    image_processor: GotOcr2ImageProcessorPil


def load_backbone(
    name_or_path: str | Path,
    *,
    max_tiles: int,
    dtype: torch.dtype,
    revision: str | None = None,
    local_files_only: bool = False,
    quantize: Quantize = "none",
    attention: Attention = "sdpa",
) -> Backbone:
    """Load transformers' own InternVL layout.

    Args:
        name_or_path: a hub id or a folder.
        max_tiles: tiles an image at most, the thumbnail not counted.
        dtype: of the weights; of what a quantised layer computes.
        revision: hub branch, tag or commit.
        local_files_only: never ask the hub.
        quantize: "nf4" or "8bit" for the LLM's layers (bitsandbytes).
        attention: "auto" is flash attention where it can run, else sdpa.

    Raises:
        UserError: nothing is there, a file is missing or damaged, it is another kind of model, or flash attention is
            asked for and not installed.
    """
    name = str(name_or_path)
    transformers_logging.disable_progress_bar()  # a second bar beside that of training or scoring
    where: dict[str, Any] = {"revision": revision, "local_files_only": local_files_only}
    try:
        config = read_config(name, **where)
        model, report = InternVLForConditionalGeneration.from_pretrained(
            name,
            config=config,
            dtype=dtype,
            use_safetensors=True,
            output_loading_info=True,
            attn_implementation=_attention(attention, dtype),
            **_quantization(quantize, dtype),
            **where,
        )
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False, **where)
    except UserError:
        raise
    # damage shows as any of these, from five libraries: a missing file, bad JSON, a cut or misshapen tensor file
    except Exception as error:
        raise UserError(f"cannot load a model from {name}: {str(error).strip().splitlines()[0]}") from error
    wrong = {kind: sorted(keys) for kind, keys in report.items() if keys}
    if wrong:
        kind, keys = next(iter(wrong.items()))
        raise UserError(
            f"{name} does not hold the model that its config.json describes: {kind} {keys[0]} (of {len(keys)})"
        )
    return Backbone(model.eval(), tokenizer, image_processor(config.vision_config.image_size[0], max_tiles))


def _quantization(quantize: Quantize, dtype: torch.dtype) -> dict[str, Any]:
    if quantize == "none":
        return {}
    skip = list(NOT_QUANTIZED)
    if quantize == "8bit":
        return {"quantization_config": BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=skip)}
    # FSDP shards flat tensors of one type, so there the 4-bit values are stored as that type
    sharded = os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true"
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        bnb_4bit_quant_storage=dtype if sharded else torch.uint8,
        llm_int8_skip_modules=skip,
    )
    return {"quantization_config": config}


def _attention(attention: Attention, dtype: torch.dtype) -> str:
    flash = is_flash_attn_2_available() and torch.cuda.is_available()
    if attention == "flash_attention_2" and not flash:
        raise UserError(
            "attention: 'flash_attention_2' needs the flash-attn package and a GPU; take 'auto' or 'sdpa'"
        )
    return "flash_attention_2" if flash and attention != "sdpa" and dtype != torch.float32 else "sdpa"


def read_config(
    name_or_path: str | Path, revision: str | None = None, *, local_files_only: bool = False
) -> InternVLConfig:
    """The settings of a native InternVL checkpoint; its weights are not touched, and no code of it is run.

    Raises:
        UserError: it is another kind of model, or its language model is of a kind that has no LoRA places here.
    """
    name = str(name_or_path)
    where = {"revision": revision, "local_files_only": local_files_only}
    kind = PreTrainedConfig.get_config_dict(name, **where)[0].get("model_type")
    if kind == "internvl_chat":
        raise UserError(
            f"{name} is in OpenGVLab's own layout, which needs remote code: run `harmonyiqa convert {name} FOLDER` "
            "and give that folder, or take the checkpoint whose name ends in -hf"
        )
    if kind not in (InternVLConfig.model_type, tower.StemInternVLConfig.model_type):
        raise UserError(
            f"{name} is a {kind!r} model, not transformers' native 'internvl'; "
            "take a checkpoint whose name ends in -hf"
        )
    config = AutoConfig.from_pretrained(name, trust_remote_code=False, **where)
    language = config.text_config.model_type
    if language not in LANGUAGE_MODELS:
        raise UserError(
            f"{name}: its language model is of kind {language!r}; supported: {', '.join(LANGUAGE_MODELS)}"
        )
    return config


def image_processor(tile_size: int, max_tiles: int) -> GotOcr2ImageProcessorPil:
    """InternVL's preprocessing on Pillow: the torchvision one differs by up to 0.26 units, too much for colour.

    Args:
        tile_size: side of a tile in pixels.
        max_tiles: tiles at most; above one a thumbnail of the whole image is added.
    """
    return GotOcr2ImageProcessorPil(
        size={"height": tile_size, "width": tile_size},
        crop_to_patches=max_tiles > 1,
        max_patches=max_tiles,
        image_mean=list(IMAGENET_MEAN),
        image_std=list(IMAGENET_STD),
    )


def tokens_per_tile(config: InternVLConfig) -> int:
    """Image tokens of one tile: patches a side, squared, shrunk by pixel shuffle."""
    side = config.vision_config.image_size[0] // config.vision_config.patch_size[0]
    return int((side * config.downsample_ratio) ** 2)
