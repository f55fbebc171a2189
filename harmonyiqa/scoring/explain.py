"""Heat maps: where an image looks altered, and how far, laid over it."""

from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from harmonyiqa.files import atomic_path
from harmonyiqa.images import DEFAULT_MAX_PIXELS
from harmonyiqa.model.inputs import Example
from harmonyiqa.scoring.caller import Caller
from harmonyiqa.scoring.engine import batches, progress
from harmonyiqa.scoring.items import Item
from harmonyiqa.scoring.locations import open_location
from harmonyiqa.scoring.processes import gather

if TYPE_CHECKING:
    from harmonyiqa import HarmonyIQA

FULL = 30.0  # CIEDE2000 at which the colours end: the same in every picture
_SIDE = 1024  # pixels, the longer side of a heat map at most
_OPACITY = 0.85


def explain(
    model: "HarmonyIQA",
    items: Iterable[Item],
    folder: str | Path,
    *,
    total: int | None = None,
    batch_size: int | None = None,
    workers: int = 0,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> int:
    """Write a heat map of every item that can be read: dark where nothing stands out, bright where it does.

    Args:
        model: one with a map head, on its device.
        items: images, with or without a reference.
        folder: where the pictures go, each at its `map_path`.
        total: how many items there are, if known.
        batch_size: images a model call at most; default: as many as the device's token budget holds.
        workers: processes that decode.
        max_pixels: the most pixels an image may have.

    Returns:
        How many were written, by all processes.

    Raises:
        UserError: the model has no map head.
    """
    written = 0
    caller = Caller(model)

    def maps(examples: list[Example], _: list[Hashable | None]) -> Sequence[torch.Tensor]:
        return list(model.predict_map(model.collate(examples)).cpu())

    work = batches(caller, items, total=total, batch_size=batch_size, workers=workers, max_pixels=max_pixels)
    with progress("explaining", total) as bar:
        for batch in work:
            ready = batch()
            item_at = dict(ready.items)
            unshared = [None] * len(ready.examples)
            outcomes = caller.run(ready.examples, unshared, maps)
            for position, found in zip(ready.positions, outcomes, strict=True):
                if isinstance(found, str):
                    continue
                item = item_at[position]
                path = map_path(folder, item.image)
                path.parent.mkdir(parents=True, exist_ok=True)
                image = open_location(item.image_path, item.image, max_pixels=max_pixels)
                with atomic_path(path) as part:
                    overlay(image, found).save(part, "PNG")
                written += 1
            bar.update(len(ready.items))
    return sum(gather(written))


def map_path(folder: str | Path, image: str) -> Path:
    """Where the heat map of an image lies: named as the image with `.png` behind, and never outside the folder."""
    path = PurePath(image)
    inside = (part for part in path.parts if part not in ("..", path.anchor))
    return Path(folder, *inside).with_name(f"{path.name}.png")


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
