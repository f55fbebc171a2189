"""An image is the same wherever its bytes lie."""

from pathlib import Path

import pytest
from PIL import Image

from harmonyiqa.images import ImageError, open_rgb
from harmonyiqa.scoring.locations import Encoded, Location, Part, known_by, open_location, size_of


def everywhere(data: bytes, folder: Path) -> list[Location]:
    """The same bytes as a file, inside another and in memory."""
    alone, inside = folder / "alone.jpg", folder / "inside.tar"
    alone.write_bytes(data)
    inside.write_bytes(b"before" * 99 + data + b"\xff\xd8 after" * 99)
    return [alone, Part(inside, 6 * 99, len(data)), Encoded(data)]


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "tif"])
def test_the_header_gives_the_size_that_decoding_gives(tmp_path: Path, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    path = tmp_path / f"turned.{suffix}"
    Image.effect_noise((90, 41), 80).convert("RGB").save(path, exif=exif if suffix != "bmp" else None)
    size = open_rgb(path).size
    assert size == ((90, 41) if suffix == "bmp" else (41, 90))
    for location in everywhere(path.read_bytes(), tmp_path):
        assert size_of(location) == size
        assert open_location(location, "it").size == size
        with pytest.raises(ImageError, match="above the limit of 100"):
            size_of(location, max_pixels=100)


@pytest.mark.parametrize("data", [b"", b"text", b"\x89PNG\r\n\x1a\n\0\0\0"])
def test_what_has_no_size_says_so(tmp_path: Path, data: bytes) -> None:
    for location in everywhere(data, tmp_path):
        with pytest.raises(ImageError):
            size_of(location)
    with pytest.raises(ImageError, match=r"gone\.tar cannot be read"):
        size_of(Part(tmp_path / "gone.tar", 0, 10))


def test_a_header_ends_with_its_part(tmp_path: Path, pictures: Path) -> None:
    data = (pictures / "a.png").read_bytes()
    _, part, _ = everywhere(data, tmp_path)
    assert isinstance(part, Part)
    assert size_of(part) == (48, 40)
    with pytest.raises(ImageError):
        size_of(Part(part.path, part.offset, 12))  # the rest of the header lies behind it


def test_equal_bytes_are_known_by_one_small_name() -> None:
    large = b"x" * 10**6
    assert known_by(Encoded(large)) == known_by(Encoded(bytes(bytearray(large)))) != known_by(Encoded(b"y"))
    assert len(repr(known_by(Encoded(large)))) < 1000
    assert known_by(Path("a")) == Path("a")
    assert known_by(None) is None
