"""Where an image's bytes lie: in a file, in a part of one, or in memory."""

import io
from collections.abc import Hashable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from PIL import Image

from harmonyiqa.images import DEFAULT_MAX_PIXELS, ImageError, open_rgb, read_size

_BYTES_PER_PIXEL = 8  # of the largest uncompressed file that we read: RGBA of 16 bits


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes inside a file, such as a member of a tar shard."""

    path: Path
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Encoded:
    """An image file's bytes, from a stream that cannot be asked for them again."""

    data: bytes


Location: TypeAlias = Path | Part | Encoded


def open_location(location: Location, name: str, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> Image.Image:
    """Decode an image wherever its bytes lie; see `open_rgb`.

    Args:
        location: where.
        name: what messages call it; a file of its own goes by its path.
        max_pixels: the most pixels that it may have.

    Raises:
        ImageError: it cannot be read.
    """
    if isinstance(location, Path):
        return open_rgb(location, max_pixels=max_pixels)
    data = location.data if isinstance(location, Encoded) else _read(location, name, max_pixels)
    if not data:
        raise ImageError(f"{name} is an empty file")
    file = io.BytesIO(data)
    file.name = name
    return open_rgb(file, max_pixels=max_pixels)


def size_of(location: Location, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> tuple[int, int]:
    """Width and height of an image wherever its bytes lie, from the header alone; see `read_size`.

    Raises:
        ImageError: it cannot be read.
    """
    if isinstance(location, Path):
        return read_size(location, max_pixels=max_pixels)
    if isinstance(location, Encoded):
        return read_size(io.BytesIO(location.data), max_pixels=max_pixels)
    try:
        with location.path.open("rb") as file:
            return read_size(io.BufferedReader(_Window(file, location)), max_pixels=max_pixels)
    except OSError as error:
        raise ImageError(f"{location.path} cannot be read: {error.strerror}") from error


def known_by(location: Location | None) -> Hashable | None:
    """A location without its bytes: equal where they are, and small enough to be kept."""
    return blake2b(location.data).digest() if isinstance(location, Encoded) else location


def state_of(location: Location | None) -> str:
    """What changes when a file changes: size and date, or a hash of bytes in memory; empty where there is none."""
    if location is None:
        return ""
    if isinstance(location, Encoded):
        return blake2b(location.data, digest_size=8).hexdigest()
    inside = f"{location.offset:x}.{location.size:x}." if isinstance(location, Part) else ""
    try:
        status = (location.path if isinstance(location, Part) else location).stat()
    except (OSError, ValueError):  # ValueError: a zero byte in the name
        return ""
    return f"{inside}{status.st_size:x}.{status.st_mtime_ns:x}"


def _read(part: Part, name: str, max_pixels: int) -> bytes:
    most = _BYTES_PER_PIXEL * max_pixels + 2**20
    if part.size > most:
        raise ImageError(f"{name} has {part.size:,} bytes, more than an image of max_pixels could need")
    try:
        with part.path.open("rb") as file:
            file.seek(part.offset)
            data = file.read(part.size)
    except OSError as error:
        raise ImageError(f"{name} cannot be read: {error.strerror}") from error
    if len(data) < part.size:
        raise ImageError(f"{name} is cut off: {len(data):,} of {part.size:,} bytes are there")
    return data


class _Window(io.RawIOBase):
    """A part of a file as a file of its own."""

    def __init__(self, file: BinaryIO, part: Part) -> None:
        self._file = file
        self._part = part
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._part.size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        self._file.seek(self._part.offset + self._at)
        data = self._file.read(max(0, min(len(buffer), self._part.size - self._at)))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
