"""Training examples of AICT, composite, mask and real photo: manifest rows, or composites made while it trains."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import Dataset

from harmonyiqa.config import AictDataSettings
from harmonyiqa.data.manifest import Manifest, evenly
from harmonyiqa.data.truth import with_truth
from harmonyiqa.errors import UserError
from harmonyiqa.harmonize.network import low_resolution
from harmonyiqa.harmonize.pictures import read_mask
from harmonyiqa.images import open_rgb
from harmonyiqa.synthesize.batch import BatchMaker

_TRIES = 10  # crops, until one shows some of the foreground


@dataclass(frozen=True)
class Triplet:
    """One composite, all parts uint8 and of one size.

    Attributes:
        image: (H, W, 3).
        mask: (H, W), 255 is the foreground.
        real: (H, W, 3).
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    real: NDArray[np.uint8]


class TripletDataset(Dataset[Triplet]):
    """The rows of one split that have a truth.

    Args:
        manifest: rows with mask and reference; the image is the composite.
        split: which of its splits.
        settings: size, crop and flip.
        augment: whether to crop and flip.
        limit: take only this many rows, spread evenly; 0 takes all.

    Raises:
        UserError: the split has no such row.
    """

    def __init__(
        self, manifest: Manifest, split: str, settings: AictDataSettings, *, augment: bool, limit: int = 0
    ) -> None:
        self.manifest = with_truth(manifest.split(split))
        self.rows = evenly(self.manifest.rows, limit)
        self.settings = settings
        self.augment = augment

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Triplet:
        row = self.rows[index]
        if row.mask is None or row.reference is None:  # `with_truth` leaves none
            raise UserError(f"{row.image} has no mask or reference")
        image, real = (
            open_rgb(self.manifest.resolve(name)) for name in (row.composite or row.image, row.reference)
        )
        mask = Image.fromarray(read_mask(self.manifest.resolve(row.mask)))
        if not image.size == real.size == mask.size:
            sizes = ", ".join(f"{part.width} x {part.height}" for part in (image, real, mask))
            raise UserError(f"{row.image}: image, reference and mask must be of one size, not {sizes}")
        longest = max(image.size)
        if 0 < self.settings.max_side < longest:
            scale = self.settings.max_side / longest
            size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
            image, real, mask = (part.resize(size, Image.Resampling.BILINEAR) for part in (image, real, mask))
        triplet = Triplet(np.asarray(image), np.asarray(mask), np.asarray(real))
        return self._augmented(triplet) if self.augment else triplet

    def _augmented(self, triplet: Triplet) -> Triplet:
        box = _crop(triplet.mask, self.settings.min_crop)
        step = -1 if self.settings.flip and random.random() < 0.5 else 1
        return Triplet(*(part[box][:, ::step] for part in (triplet.image, triplet.mask, triplet.real)))


def _crop(mask: NDArray[np.uint8], least: float) -> tuple[slice, slice]:
    """A random box of at least a share of each side that shows some foreground; the whole photo if none is found."""
    for _ in range(_TRIES):
        box = tuple(_part(length, least) for length in mask.shape)
        if mask[box].any():
            return box[0], box[1]
    return slice(None), slice(None)


def _part(length: int, least: float) -> slice:
    size = random.randint(max(1, round(length * least)), length)
    start = random.randint(0, length - size)
    return slice(start, start + size)


class MadeTriplets(Dataset[list[Triplet]]):
    """Batches of composites, made when they are asked for; number i is the same whenever and wherever it is made.

    Args:
        maker: makes them. Only shifts of a photo's own region have a truth: the photo without the shift, changed as a
            whole where the recipe says so. Pastes, twins and wear are left out, and so are statistics of another photo
            that may be of any severity: they would be half of the squared error.
        batches: how many there are.
        size: images in each.
    """

    def __init__(self, maker: BatchMaker, batches: int, size: int) -> None:
        self.maker, self.batches, self.size = maker, batches, size
        self.recipe = replace(
            maker.recipe, untouched=0.1, paste=0, natural=0, compressed=0, paired=False, worn=0
        )

    def __len__(self) -> int:
        return self.batches

    def __getitem__(self, index: int) -> list[Triplet]:
        made = self.maker.batch(index, self.size, self.recipe)
        images, masks, reals = (
            (part * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
            for part in (made.image, made.alpha, made.fitting)
        )
        return [Triplet(*parts) for parts in zip(images, masks[..., 0], reals, strict=True)]


class TripletCollator:
    """Triplets of any sizes, or lists of them, to a batch for `AictLoss`.

    Args:
        side: the network's resolution.
    """

    def __init__(self, side: int) -> None:
        self.side = side

    def __call__(self, items: Sequence[Triplet | list[Triplet]]) -> dict[str, Any]:
        """Small tensors first, stacked: the training loop counts the images of a batch by the first tensor."""
        triplets = [t for item in items for t in ([item] if isinstance(item, Triplet) else item)]
        parts = {
            "images": [t.image for t in triplets],
            "masks": [t.mask for t in triplets],
            "reals": [t.real for t in triplets],
        }
        batch: dict[str, Any] = {
            f"small_{name}": torch.cat([low_resolution(part, self.side) for part in values])
            for name, values in parts.items()
        }
        for name, values in parts.items():
            batch[name] = [
                torch.from_numpy(np.array(np.atleast_3d(v).transpose(2, 0, 1), order="C")) for v in values
            ]
        return batch
