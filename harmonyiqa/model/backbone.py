"""Native InternVL checkpoints: model, tokenizer and image processor from a hub id or a folder. No remote code."""

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import (
    AutoConfig,
    AutoTokenizer,
    GotOcr2ImageProcessorPil,
    InternVLConfig,
    InternVLForConditionalGeneration,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from harmonyiqa.errors import UserError
from harmonyiqa.model import tower  # noqa: F401  # registers its model type

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


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
) -> Backbone:
    """Load transformers' own InternVL layout.

    Raises:
        UserError: nothing is there, a file is missing or damaged, or it is another kind of model.
    """
    name = str(name_or_path)
    transformers_logging.disable_progress_bar()  # a second bar beside that of training or scoring
    where = {"revision": revision, "local_files_only": local_files_only}
    try:
        config = AutoConfig.from_pretrained(name, **where)
        if not isinstance(config, InternVLConfig):
            raise UserError(
                f"{name} is a {config.model_type!r} model, not transformers' native 'internvl'; "
                "take a checkpoint whose name ends in -hf"
            )
        model, report = InternVLForConditionalGeneration.from_pretrained(
            name, config=config, dtype=dtype, use_safetensors=True, output_loading_info=True, **where
        )
        tokenizer = AutoTokenizer.from_pretrained(name, **where)
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
