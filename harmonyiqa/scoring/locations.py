"""Where an image's bytes lie: in a file, in a part of one, or in memory."""

import io
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TypeAlias

from PIL import Image

from harmonyiqa.images import DEFAULT_MAX_PIXELS, ImageError, open_rgb

_BYTES_PER_PIXEL = 8  # of the largest uncompressed file that we read: RGBA of 16 bits


@dataclass(frozen=True, slots=True)
class Part:
    """Where in a file an image's bytes are, such as those of a member of a tar shard."""

    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Encoded:
    """An image file's bytes, from a stream that cannot be asked for them again."""

    data: bytes


Inside: TypeAlias = Part | Encoded


def open_inside(
    path: Path, inside: Inside | None, name: str, *, max_pixels: int = DEFAULT_MAX_PIXELS
) -> Image.Image:
    """Decode an image wherever its bytes lie; see `open_rgb`.

    Args:
        path: the file that holds it.
        inside: where in the file; None for the whole of it.
        name: what messages call it; a file of its own goes by its path.
        max_pixels: the most pixels that it may have.

    Raises:
        ImageError: it cannot be read.
    """
    if inside is None:
        return open_rgb(path, max_pixels=max_pixels)
    data = inside.data if isinstance(inside, Encoded) else _read(path, inside, name, max_pixels)
    if not data:
        raise ImageError(f"{name} is an empty file")
    file = io.BytesIO(data)
    file.name = name
    return open_rgb(file, max_pixels=max_pixels)


def state_of(path: Path | None, inside: Inside | None) -> tuple[int | str, ...] | None:
    """What changes when a file changes: size and date, or a hash of bytes in memory; None where there is none."""
    if path is None:
        return None
    if isinstance(inside, Encoded):
        return (blake2b(inside.data, digest_size=8).hexdigest(),)
    try:
        status = path.stat()
    except (OSError, ValueError):  # ValueError: a zero byte in the name
        return None
    where = () if inside is None else (inside.offset, inside.size)
    return (*where, status.st_size, status.st_mtime_ns)


def _read(path: Path, part: Part, name: str, max_pixels: int) -> bytes:
    most = _BYTES_PER_PIXEL * max_pixels + 2**20
    if part.size > most:
        raise ImageError(f"{name} has {part.size:,} bytes, more than an image of max_pixels could need")
    try:
        with path.open("rb") as file:
            file.seek(part.offset)
            data = file.read(part.size)
    except OSError as error:
        raise ImageError(f"{name} cannot be read: {error.strerror}") from error
    if len(data) < part.size:
        raise ImageError(f"{name} is cut off: {len(data):,} of {part.size:,} bytes are there")
    return data
