"""Photos with region maps: find them, read them, choose regions."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from harmonyiqa.color import Floats
from harmonyiqa.data.manifest import SPLITS
from harmonyiqa.data.tables import read_table
from harmonyiqa.errors import UserError
from harmonyiqa.images import find_images, open_rgb

Mask = NDArray[np.bool_]
SMALLEST, LARGEST = 0.03, 0.50  # share of the image that a region may fill
_MAP_SUFFIX = ".regions.png"


@dataclass(frozen=True, slots=True)
class Photo:
    """A photo and its region map (8 bit; 0 is unlabelled).

    Attributes:
        image: the photo's file.
        regions: its region map's file; None if it has none.
        content: a name for the scene, unique in the folder.
        source: the collection that it comes from.
        split: train, val or test; None where nobody said.
        is_class_map: a value of the map is a class that may stand in many pieces, not one region.
    """

    image: Path
    regions: Path | None
    content: str
    source: str
    split: str | None
    is_class_map: bool


def find_photos(folder: str | Path, split: str, *, without_map: bool = False) -> list[Photo]:
    """Photos of one split (or ``all``) that have a region map; ``without_map`` takes the pack's others too.

    With a ``photos.csv`` (image, regions, source, split) the folder is a photo pack, and its ``classes.json``
    names the sources whose maps hold classes. Without one, every ``<name>.<suffix>`` beside a
    ``<name>.regions.png`` is a photo, of no split.

    Raises:
        UserError: if the folder does not exist or has no such photo.
    """
    root = Path(folder)
    if split not in (*SPLITS, "all"):
        raise UserError(f"split {split!r} is not one of {', '.join(SPLITS)}, all")
    if not root.is_dir():
        raise UserError(f"photo folder {folder} does not exist")
    photos = _from_table(root, without_map) if (root / "photos.csv").is_file() else _from_pairs(root)
    photos = [photo for photo in photos if split in (photo.split, "all")]
    if not photos:
        raise UserError(
            f"{folder} has no photo of split {split!r} with a region map; "
            f"put NAME{_MAP_SUFFIX} beside NAME.jpg or list them in photos.csv (image,regions,source,split)"
        )
    repeated = [name for name, count in Counter(photo.content for photo in photos).items() if count > 1]
    if repeated:
        raise UserError(f"two photos in {folder} would both be called {repeated[0]!r}; rename one")
    return photos


def _from_table(root: Path, without_map: bool) -> list[Photo]:
    classes = root / "classes.json"
    class_maps = json.loads(classes.read_text(encoding="utf-8")) if classes.is_file() else {}
    photos = []
    for number, row in enumerate(read_table(root / "photos.csv"), 1):
        if absent := [name for name in ("image", "source", "split") if not row.get(name)]:
            raise UserError(f"row {number} of {root / 'photos.csv'} has no {absent[0]}")
        if row["split"] not in SPLITS:
            raise UserError(
                f"split {row['split']!r} in row {number} of photos.csv is not one of {', '.join(SPLITS)}"
            )
        regions = row.get("regions")
        if regions or without_map:
            image, source = str(row["image"]), str(row["source"])
            photos.append(
                Photo(
                    image=root / image,
                    regions=root / str(regions) if regions else None,
                    content=_content(Path(image)),
                    source=source,
                    split=str(row["split"]),
                    is_class_map=bool(regions) and source in class_maps,
                )
            )
    return photos


def _from_pairs(root: Path) -> list[Photo]:
    return [
        Photo(image, regions, _content(image.relative_to(root)), root.name, None, is_class_map=False)
        for image in find_images([root])
        if (regions := image.with_name(image.stem + _MAP_SUFFIX)).is_file()
    ]


def _content(relative: Path) -> str:
    return "-".join(relative.with_suffix("").parts)


def read_photo(photo: Photo, size: int) -> tuple[Floats, list[Mask]]:
    """Read a photo at most ``size`` pixels on its long side.

    Returns:
        sRGB ``(H, W, 3)`` in 0..1, and its usable regions ``(H, W)`` (perhaps none).
    """
    image = open_rgb(photo.image)
    scale = min(1.0, size / max(image.size))
    shape = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    rgb = np.asarray(image.resize(shape, Image.Resampling.LANCZOS), np.float32) / 255
    assert photo.regions is not None  # find_photos gave none without
    labels = read_labels(photo.regions, image.size).resize(shape, Image.Resampling.NEAREST)
    return rgb, find_regions(np.asarray(labels, np.uint8), photo.is_class_map)


def read_labels(path: Path, size: tuple[int, int]) -> Image.Image:
    """A region map of the given width and height.

    Raises:
        UserError: it cannot be read, is not 8 bit, or has another size.
    """
    try:
        with Image.open(path) as opened:
            opened.load()
    except OSError as error:
        raise UserError(f"region map {path} cannot be read: {error}") from error
    if opened.mode not in ("1", "L", "P"):
        raise UserError(f"region map {path} has mode {opened.mode}; save it as 8-bit grey or palette PNG")
    if opened.size != size:
        raise UserError(
            f"region map {path} is {opened.size[0]} x {opened.size[1]}, its photo {size[0]} x {size[1]}"
        )
    return opened


def find_regions(labels: NDArray[np.uint8], is_class_map: bool) -> list[Mask]:
    """Regions ``(H, W)`` that fill 3-50% of the image.

    In a map of regions each value above 0 is one. In a map of classes the connected pieces of each class are,
    and the union of all classes (in clothing maps: the person).
    """
    from scipy import ndimage

    masks = [labels == value for value in np.unique(labels) if value]
    if is_class_map:
        pieces = []
        for mask in masks:
            if mask.mean() >= SMALLEST:
                numbered, count = ndimage.label(mask)
                pieces += [numbered == number for number in range(1, count + 1)]
        masks = [*pieces, labels > 0]
    return [mask for mask in masks if SMALLEST <= mask.mean() <= LARGEST]
