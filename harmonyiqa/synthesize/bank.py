"""Photos with their regions as 8-bit tensors, small enough to lie on the device that trains."""

import json
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from tqdm import tqdm

from harmonyiqa.errors import UserError
from harmonyiqa.files import atomic_path
from harmonyiqa.images import open_rgb
from harmonyiqa.synthesize.regions import LARGEST, SMALLEST, Photo, find_photos, read_labels

EVERYTHING = 255  # stands for the union of all labels of a photo: the person in clothing maps
_MOST = 254


@dataclass
class PhotoBank:
    """Photos and regions.

    Attributes:
        rgb: (P, 3, S, S) uint8, each photo squeezed to a square as a tile is.
        labels: (P, S, S) uint8; 0 is unlabelled, every other value one connected region.
        regions: (R, 2) int64: index of the photo, label (`EVERYTHING` for all of the photo's).
        classes: (R,) int64: regions of one number show the same kind of thing; -1 where nobody said.
        sources: (R,) int64: index into `names`.
        names: the collections that the photos come from.
    """

    rgb: torch.Tensor
    labels: torch.Tensor
    regions: torch.Tensor
    classes: torch.Tensor
    sources: torch.Tensor
    names: list[str]

    def to(self, device: torch.device | str) -> Self:
        """The same bank on another device."""
        tensors = {name: value.to(device) for name, value in self._tensors().items()}
        return type(self)(**tensors, names=self.names)

    def mask(self, regions: torch.Tensor) -> torch.Tensor:
        """Masks (n, S, S) bool of regions (n,) by index."""
        photos, values = self.regions[regions].unbind(1)
        labels, values = self.labels[photos], values[:, None, None]
        return torch.where(values == EVERYTHING, labels > 0, labels == values)

    def without(self, names: Iterable[str]) -> Self:
        """The same bank without the regions of some collections."""
        left_out = torch.tensor([self.names.index(name) for name in names], dtype=torch.int64)
        kept = ~torch.isin(self.sources, left_out)
        parts = {name: getattr(self, name)[kept] for name in ("regions", "classes", "sources")}
        return replace(self, **parts)

    def _tensors(self) -> dict[str, torch.Tensor]:
        return {k: v for k, v in vars(self).items() if isinstance(v, torch.Tensor)}

    def save(self, path: Path) -> None:
        """Write it as safetensors."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as part:
            save_file(self._tensors(), part, {"names": json.dumps(self.names)})

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read it back."""
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
            return cls(**tensors, names=json.loads(file.metadata()["names"]))


def build_bank(folder: str | Path, split: str, size: int, *, workers: int = 2) -> PhotoBank:
    """Read the photos of one split; those without a region map are segmented.

    Args:
        folder: as for `harmonyiqa data synthesize`.
        split: train, val, test or all.
        size: side S in pixels.
        workers: processes.

    Raises:
        UserError: the folder has no such photo, or none has a region of 3-50%.
    """
    photos = find_photos(folder, split, without_map=True)
    with ProcessPoolExecutor(workers) as pool:
        jobs = pool.map(_read, photos, [size] * len(photos), chunksize=8)
        read = list(tqdm(jobs, "photos", total=len(photos), unit="photo"))
    names = sorted({photo.source for photo in photos})
    kept = [(photo, one) for photo, one in zip(photos, read, strict=True) if one.regions]
    if not kept:
        raise UserError(f"no photo of split {split!r} in {folder} has a region of 3-50% of the image")
    kinds: dict[tuple[str, int], int] = {}
    regions, classes, sources = [], [], []
    for index, (photo, one) in enumerate(kept):
        for label, kind in one.regions:
            regions.append((index, label))
            number = kinds.setdefault((photo.source, kind), len(kinds)) if photo.is_class_map else -1
            classes.append(number)
            sources.append(names.index(photo.source))
    return PhotoBank(
        rgb=_stack(one.rgb.transpose(2, 0, 1) for _, one in kept),
        labels=_stack(one.labels for _, one in kept),
        regions=torch.tensor(regions),
        classes=torch.tensor(classes),
        sources=torch.tensor(sources),
        names=names,
    )


@dataclass(frozen=True, slots=True)
class _Read:
    rgb: NDArray[np.uint8]  # (S, S, 3)
    labels: NDArray[np.uint8]  # (S, S)
    regions: list[tuple[int, int]]  # label, class


def _read(photo: Photo, size: int) -> _Read:
    image = open_rgb(photo.image)
    rgb = np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))
    if photo.regions is None:
        values = _segments(rgb)
    else:
        labels = read_labels(photo.regions, image.size)
        values = np.asarray(labels.resize((size, size), Image.Resampling.NEAREST), np.uint8)
    numbered, regions = _number(values, pieces=photo.is_class_map or photo.regions is None)
    if photo.is_class_map and SMALLEST <= (numbered > 0).mean() <= LARGEST:
        regions.append((EVERYTHING, EVERYTHING))
    return _Read(rgb, numbered, regions)


def _segments(rgb: NDArray[np.uint8]) -> NDArray[np.integer]:
    """Segments of a photo that nobody has labelled (Felzenszwalb and Huttenlocher, IJCV 2004); 0 is none."""
    from skimage.segmentation import felzenszwalb

    return felzenszwalb(rgb, scale=300, sigma=0.8, min_size=rgb.shape[0] ** 2 // 50) + 1


def _number(values: NDArray[np.integer], *, pieces: bool) -> tuple[NDArray[np.uint8], list[tuple[int, int]]]:
    """Labels 1, 2, ... for usable regions, unusable ones numbered too; and the usable ones with their first values."""
    from scipy import ndimage

    numbered, regions, last = np.zeros(values.shape, np.uint8), [], 0
    for value in np.unique(values[values > 0]):
        mask = values == value
        parts, count = ndimage.label(mask) if pieces else (mask, 1)
        for part in range(1, count + 1):
            chosen = parts == part
            last = min(last + 1, _MOST)
            numbered[chosen] = last
            if SMALLEST <= chosen.mean() <= LARGEST and last < _MOST:
                regions.append((last, int(value)))
    return numbered, regions


def _stack(arrays: Iterable[NDArray[np.uint8]]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(np.stack(list(arrays))))
