"""Heat maps: where an image looks altered, and how far, laid over it."""

from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from harmonyiqa.files import atomic_path
from harmonyiqa.images import DEFAULT_MAX_PIXELS, open_rgb
from harmonyiqa.scoring.engine import batches, gather
from harmonyiqa.scoring.items import Item

if TYPE_CHECKING:
    from harmonyiqa import HarmonyIQA

FULL = 30.0  # CIEDE2000 at which the colours end: the same in every picture
_SIDE = 1024  # pixels, the longer side of a heat map at most
_OPACITY = 0.85


def explain(
    model: "HarmonyIQA",
    items: Sequence[Item],
    folder: str | Path,
    *,
    batch_size: int = 16,
    workers: int = 0,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> dict[str, Path]:
    """Write a heat map of every item that can be read: dark where nothing stands out, bright where it does.

    Args:
        model: one with a map head, on its device.
        items: images, with or without a reference.
        folder: where the pictures go, each named as its image with `.png` behind.
        batch_size: images a model call.
        workers: processes that decode.
        max_pixels: the most pixels an image may have.

    Returns:
        The file of each image by its name.

    Raises:
        UserError: the model has no map head.
    """
    written = {}
    for ready in batches(
        model, items, "explaining", batch_size=batch_size, workers=workers, max_pixels=max_pixels
    ):
        if ready.batch is None:
            continue
        for index, found in zip(ready.indexes, model.predict_map(ready.batch).cpu(), strict=True):
            item = items[index]
            path = Path(folder, *_within(item.image)).with_name(f"{PurePath(item.image).name}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(path) as part:
                overlay(open_rgb(item.image_path, max_pixels=max_pixels), found).save(part, "PNG")
            written[item.image] = path
    return gather(written)


def overlay(image: Image.Image, found: torch.Tensor) -> Image.Image:
    """An image under its map.

    Args:
        image: RGB.
        found: (G, G) CIEDE2000, as `HarmonyIQA.predict_map` gives it.

    Returns:
        RGB, 1,024 pixels on the longer side at most.
    """
    image = image.copy()
    image.thumbnail((_SIDE, _SIDE))
    heat = Image.fromarray(found.float().numpy()).resize(image.size, Image.Resampling.BICUBIC)
    share: NDArray[np.float32] = np.clip(np.asarray(heat) / FULL, 0, 1)
    colors = matplotlib.colormaps["inferno"](share)[..., :3] * 255
    opacity = _OPACITY * share[..., None] ** 0.5
    grey = np.asarray(image.convert("L"), np.float32)[..., None]  # its own colours would pass for heat
    return Image.fromarray(np.uint8(grey * 0.7 * (1 - opacity) + colors * opacity))


def _within(name: str) -> tuple[str, ...]:
    """The parts of a name that stay inside a folder."""
    path = PurePath(name)
    return tuple(part for part in path.parts if part not in ("..", path.anchor))
