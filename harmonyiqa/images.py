"""Images from anywhere to upright 8-bit RGB, safely; masks; and which reference belongs to which image."""

import os
import stat
import threading
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeAlias

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from harmonyiqa.errors import UserError

DEFAULT_MAX_PIXELS = 178_956_970  # where Pillow itself would stop: half a GiB of RGB
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})
_FORMATS = ("BMP", "JPEG", "PNG", "TIFF", "WEBP")  # no other decoder sees a user's bytes
_PILLOW_LIMIT = threading.Lock()

ImageSource: TypeAlias = str | Path | Image.Image | np.ndarray | BinaryIO


class ImageError(UserError):
    """One image cannot be used; the message names it and says why."""


class Found(NamedTuple):
    """An image file of a folder.

    Attributes:
        path: where it lies.
        is_link: whether it is a link to a file.
        error: instead, why what lies at `path`, a folder, could not be listed.
    """

    path: Path
    is_link: bool = False
    error: str | None = None


def open_rgb(source: ImageSource, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> Image.Image:
    """Decode one image to 8-bit RGB, upright by its EXIF orientation.

    Transparent pixels are laid over white; CMYK, palette, grey and 1-bit images are converted; 16 bits are
    scaled to 8, not clipped. An embedded colour profile is not applied.

    Args:
        source: A path, an open binary file, a Pillow image, or an array: (H, W), (H, W, 3) or (H, W, 4);
            uint8, uint16, or floats in 0..1. The source is left as it was.
        max_pixels: The most pixels (width x height) an image may have. A file is measured by its header,
            before any pixel is decoded.

    Returns:
        A new Pillow image of mode RGB.

    Raises:
        ImageError: if there is no such file, or it is empty, not an image, damaged, too large, or of pixels
            without a known white.
    """
    name = _name(source)
    if isinstance(source, np.ndarray):
        return _to_rgb(_from_array(source, name, max_pixels), name)
    if isinstance(source, Image.Image):
        _check_pixels(source.size, name, max_pixels)
        return _to_rgb(source, name)
    with _open(source, name, max_pixels) as image:
        return _to_rgb(image, name)


def open_header(source: str | Path | BinaryIO, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> Image.Image:
    """Open a file as it is, for what needs more than RGB: depth, profile, metadata. No pixel is decoded yet.

    Raises:
        ImageError: as ``open_rgb``, before decoding.
    """
    return _open(source, _name(source), max_pixels)


def read_size(source: str | Path | BinaryIO, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> tuple[int, int]:
    """Width and height that ``open_rgb`` would give, from the header alone.

    A PNG that names its orientation only behind its pixels is taken for upright.

    Raises:
        ImageError: as ``open_header``.
    """
    with open_header(source, max_pixels=max_pixels) as image:
        width, height = image.size
        if image.format == "TIFF":  # Pillow has turned it already
            return width, height
        if image.format == "PNG" and "exif" not in image.info:  # Pillow would decode it to look further
            return width, height
        try:
            sideways = image.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
        except Exception as error:  # decoders raise nearly anything on damaged bytes
            raise ImageError(f"{_name(source)} cannot be read: {_reason(error)}") from error
    return (height, width) if sideways else (width, height)


def open_mask(path: str | Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """Read a mask as float32 (H, W) in 0..1: white is the foreground, grey a soft edge.

    Args:
        path: An image file; colours are read by their brightness.
        size: (width, height) to resize to, bilinearly, so that edges turn soft and no pixel leaves 0..1.

    Raises:
        ImageError: as ``open_rgb``; also if white is written as 1 of 255, which would read as an empty mask.
    """
    grey = open_rgb(path).convert("L")
    if grey.getextrema()[1] == 1:
        raise ImageError(f"mask {path} holds only the values 0 and 1: white must be 255; multiply it by 255")
    if size is not None and size != grey.size:
        grey = grey.resize(size, Image.Resampling.BILINEAR)
    return np.asarray(grey, dtype=np.float32) / 255


def find_images(paths: Sequence[str | Path]) -> list[Path]:
    """List images: a file as it is given, a folder by what lies in it and below it, sorted by path.

    Inside folders only the suffixes png, jpg, jpeg, webp, bmp, tif and tiff count (in any case); hidden files
    and folders (``._photo.jpg``, ``.thumbnails``) and links to folders are passed over. A file found twice is
    listed once.

    Raises:
        UserError: if a path does not exist, or a folder holds no image.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = list(walk_images(path))
            if not inside:
                raise no_image_in(path)
            if unlisted := next((each.error for each in inside if each.error), None):
                raise UserError(unlisted)
            found += [each.path for each in inside]
        elif path.exists():
            found.append(path)
        else:
            raise UserError(f"{path} does not exist; give image files, folders or a manifest")
    return list(dict.fromkeys(found))


def no_image_in(folder: str | Path) -> UserError:
    """What to raise for a folder without images."""
    suffixes = " ".join(sorted(suffix[1:] for suffix in SUFFIXES))
    return UserError(f"folder {folder} holds no image: looked in it and below it for {suffixes}")


def is_image_name(name: str) -> bool:
    """Whether a folder's file of this name is taken for an image: by its suffix, and hidden ones are not."""
    stem, _, suffix = name.rpartition(".")
    return bool(stem) and not name.startswith(".") and f".{suffix.lower()}" in SUFFIXES


def walk_images(folder: str | Path, *, follow_links: bool = False) -> Iterator[Found]:
    """Images in a folder and below it, sorted by path, listed as they are asked for.

    The names of one folder (and of those that it lies in) are in memory at a time, never all of them.

    Args:
        folder: where to begin; it may be a link.
        follow_links: go into links to folders, except into one that the walk is in already.

    Yields:
        What `find_images` describes; a folder that cannot be listed, with the reason.
    """
    walk: list[_Folder] = []
    here: Path | None = Path(folder)
    while True:
        if here is not None:
            try:
                entered = _enter(here, follow_links)
                if all(entered.place != above.place for above in walk):
                    walk.append(entered)
            except OSError as error:
                yield Found(here, error=f"folder {here} cannot be listed: {error.strerror}")
        here = None
        while walk and (entry := next(walk[-1].entries, None)) is None:
            walk.pop()
        if not walk:
            return
        name, kind = entry  # type: ignore[misc]  # the loop above ends with an entry or without a folder
        path = walk[-1].path / name
        if kind == "folder":
            here = path
        else:
            yield Found(path, kind == "link")


class _Folder(NamedTuple):
    """A folder that the walk is in; `place` is its device and inode, `entries` what is still to come."""

    path: Path
    place: tuple[int, int]
    entries: Iterator[tuple[str, str]]


def _enter(path: Path, follow_links: bool) -> _Folder:
    status = path.stat()
    return _Folder(path, (status.st_dev, status.st_ino), iter(_list_folder(path, follow_links)))


def _list_folder(folder: Path, follow_links: bool) -> list[tuple[str, str]]:
    """Names in a folder that matter, sorted, each with what it is: a file, a link to one, or a folder."""
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            kind = _kind(entry)
            if kind == "folder" or (kind == "linked folder" and follow_links):
                if not entry.name.startswith("."):
                    found.append((entry.name, "folder"))
            elif kind != "linked folder" and is_image_name(entry.name):
                found.append((entry.name, kind))
    return sorted(found)


def _kind(entry: "os.DirEntry[str]") -> str:
    if not entry.is_symlink():
        return "folder" if entry.is_dir() else "file"
    try:
        return "linked folder" if entry.is_dir() else "link"
    except OSError:  # a link in a circle
        return "link"


def file_key(path: str | Path) -> str:
    """The file's name without folder and suffix: an image and its reference share it.

    Accents are composed (Unicode NFC), since file systems disagree about them.
    """
    return unicodedata.normalize("NFC", Path(path).stem)


def pair_by_key(images: Sequence[str | Path], references: str | Path) -> list[Path | None]:
    """Find each image's reference: the one file, or the file of the same key in (or below) the folder.

    Returns:
        As many entries as images, in their order; None where the folder has no file of that key.

    Raises:
        UserError: if ``references`` does not exist, or two of its files share a key that an image asks for.
    """
    references = Path(references)
    found = find_images([references])  # also says so if there is nothing
    if not references.is_dir():
        return [references for _ in images]
    by_key: dict[str, list[Path]] = {}
    for path in found:
        by_key.setdefault(file_key(path), []).append(path)
    pairs: list[Path | None] = []
    for image in images:
        candidates = by_key.get(file_key(image), [])
        if len(candidates) > 1:
            raise UserError(
                f"{image} has two references, {candidates[0]} and {candidates[1]}: "
                "keep one file of each name, or name the pairs in a manifest"
            )
        pairs.append(candidates[0] if candidates else None)
    return pairs


def _name(source: ImageSource) -> str:
    if isinstance(source, np.ndarray):
        return f"array {source.shape}"
    if isinstance(source, str | Path):
        return str(source)
    return str(getattr(source, "filename", None) or getattr(source, "name", None) or "the image")


def _check_pixels(size: tuple[int, int], name: str, max_pixels: int) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise ImageError(f"{name} is {width} x {height}: it has no pixels")
    if width * height > max_pixels:
        raise ImageError(
            f"{name} is {width} x {height} = {width * height:,} pixels, above the limit of {max_pixels:,}; "
            "make it smaller or raise max_pixels"
        )


def _open(source: str | Path | BinaryIO, name: str, max_pixels: int) -> Image.Image:
    """Read the header only."""
    try:
        if isinstance(source, str | Path):
            _check_file(Path(source))
        with _PILLOW_LIMIT:  # Pillow's own limit is one number a process; ours is the caller's
            saved, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            try:
                image = Image.open(source, formats=_FORMATS)
            finally:
                Image.MAX_IMAGE_PIXELS = saved
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(
            f"{name} is no BMP, JPEG, PNG, TIFF or WebP image, or its header is damaged"
        ) from error
    except Exception as error:  # decoders raise nearly anything on damaged bytes
        raise ImageError(f"{name} cannot be read: {_reason(error)}") from error
    try:
        _check_pixels(image.size, name, max_pixels)
    except ImageError:
        image.close()
        raise
    return image


def _check_file(path: Path) -> None:
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ImageError(f"{path} does not exist") from error
    if not stat.S_ISREG(status.st_mode):  # a pipe or a device would block or never end
        raise ImageError(f"{path} is not a file")
    if status.st_size == 0:
        raise ImageError(f"{path} is an empty file")


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    try:
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith(("I", "F")):
            return Image.fromarray(_to_uint8(np.asarray(image), name)).convert("RGB")
        if image.has_transparency_data:
            over = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(over, image.convert("RGBA"))
        return image.convert("RGB")
    except ImageError:
        raise
    except Exception as error:  # decoders raise nearly anything on damaged bytes
        raise ImageError(f"{name} cannot be decoded: {_reason(error)}") from error


def _from_array(array: np.ndarray, name: str, max_pixels: int) -> Image.Image:
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise ImageError(f"{name} is not an image: the shape must be (H, W), (H, W, 3) or (H, W, 4)")
    _check_pixels((array.shape[1], array.shape[0]), name, max_pixels)
    if array.dtype.kind != "f" and not (array.dtype.kind == "u" and array.dtype.itemsize <= 2):
        raise ImageError(f"{name} holds {array.dtype}: give uint8, uint16, or floats in 0..1")
    return Image.fromarray(_to_uint8(array, name))


def _to_uint8(array: np.ndarray, name: str) -> np.ndarray:
    """Scale to 0..255: floats from 0..1, every integer type wider than 8 bits from 0..65535."""
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    white = 1 if array.dtype.kind == "f" else 65535
    low, high = array.min(), array.max()
    if not (low >= 0 and high <= white):  # written so that NaN fails too
        raise ImageError(
            f"{name} holds values from {low} to {high}: {array.dtype} pixels must lie in 0..{white}"
        )
    return np.round(array * (255 / white)).astype(np.uint8)


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
