"""Every kind of picture becomes the same upright RGB; what is no picture is one clear line."""

import contextlib
import io
import struct
import unicodedata
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from harmonyiqa.errors import UserError
from harmonyiqa.images import (
    ImageError,
    file_key,
    find_images,
    open_mask,
    open_rgb,
    pair_by_key,
    read_size,
    walk_images,
)

RED, WHITE, BLACK = (255, 0, 0), (255, 255, 255), (0, 0, 0)
ORIENTATION = 0x0112


def scene(width: int = 12, height: int = 8) -> Image.Image:
    """Every pixel another colour, so that any turn or flip shows."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return Image.fromarray(np.stack([x * 20, y * 30, (x + y) * 10], -1).astype(np.uint8))


def pixels(image: Image.Image) -> np.ndarray:
    assert image.mode == "RGB"
    return np.asarray(image)


def png(width: int, height: int, depth: int, colour_type: int, rows: bytes) -> io.BytesIO:
    """A PNG by its definition, for what Pillow cannot write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return io.BytesIO(b"\x89PNG\r\n\x1a\n" + header + body)


# --- rightly decoded ------------------------------------------------------------------------------


def test_cmyk_jpeg(tmp_path: Path) -> None:
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=100)
    assert np.abs(pixels(open_rgb(tmp_path / "a.jpg")).astype(int) - RED).max() <= 2


def test_palette_keeps_its_colours(tmp_path: Path) -> None:
    image = scene()
    image.quantize(256).save(tmp_path / "a.png")
    assert Image.open(tmp_path / "a.png").mode == "P"
    assert (pixels(open_rgb(tmp_path / "a.png")) == pixels(image)).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_pixels_lie_over_white(tmp_path: Path, mode: str) -> None:
    for alpha, expected in ((0, 255), (128, 127), (255, 0)):  # black ink
        Image.new(mode, (2, 2), (0,) * (len(mode) - 1) + (alpha,)).save(tmp_path / "a.png")
        assert (pixels(open_rgb(tmp_path / "a.png")) == expected).all()


def test_a_transparent_palette_entry_is_white(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([*BLACK, *RED])
    image.putdata([0, 1])
    image.save(tmp_path / "a.png", transparency=0)
    assert pixels(open_rgb(tmp_path / "a.png")).tolist() == [[list(WHITE), list(RED)]]


def test_a_transparent_colour_is_white(tmp_path: Path) -> None:
    image = Image.new("RGB", (2, 1), RED)
    image.putpixel((0, 0), BLACK)
    image.save(tmp_path / "a.png", transparency=BLACK)
    assert pixels(open_rgb(tmp_path / "a.png")).tolist() == [[list(WHITE), list(RED)]]


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_grey_is_scaled_not_clipped(tmp_path: Path, suffix: str) -> None:
    deep = np.linspace(0, 65535, 256 * 4, dtype=np.uint16).reshape(32, 32)
    Image.fromarray(deep).save(tmp_path / f"a{suffix}")
    expected = np.round(deep / 257).astype(np.uint8)
    assert (pixels(open_rgb(tmp_path / f"a{suffix}")) == expected[..., None]).all()


def test_16_bit_colour_is_scaled_not_clipped() -> None:
    values = np.array([[0, 257 * 100, 65535], [300, 257 * 200, 1]], dtype=">u2")  # one row of two pixels
    decoded = pixels(open_rgb(png(2, 1, 16, 2, b"\0" + values.tobytes())))
    assert np.abs(decoded[0].astype(int) - [[0, 100, 255], [1, 200, 0]]).max() <= 1


def test_float_tiff_runs_from_0_to_1(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 0.5, 1]], dtype=np.float32)).save(tmp_path / "a.tif")
    assert pixels(open_rgb(tmp_path / "a.tif"))[0, :, 0].tolist() == [0, 128, 255]
    Image.fromarray(np.array([[0, 300]], dtype=np.float32)).save(tmp_path / "b.tif")
    with pytest.raises(ImageError, match=r"values from 0\.0 to 300\.0.*must lie in 0\.\.1"):
        open_rgb(tmp_path / "b.tif")


@pytest.mark.parametrize("mode", ["L", "1"])
def test_grey_and_one_bit(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (3, 3), 255).save(tmp_path / "a.png")
    assert (pixels(open_rgb(tmp_path / "a.png")) == 255).all()


def test_one_pixel(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1), RED).save(tmp_path / "a.png")
    assert pixels(open_rgb(tmp_path / "a.png")).tolist() == [[list(RED)]]


# where the camera's upright picture lies in the file, by the EXIF standard's eight orientations
TURNS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("orientation", TURNS)
def test_exif_rotated_equals_its_upright_copy(tmp_path: Path, orientation: int) -> None:
    upright, turn = scene(), TURNS[orientation]
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stored = upright if turn is None else upright.transpose(turn)
    stored.save(tmp_path / "a.png", exif=exif)
    assert (pixels(open_rgb(tmp_path / "a.png")) == pixels(upright)).all()


def test_exif_rotated_jpeg(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    scene(48, 32).save(tmp_path / "plain.jpg")
    scene(48, 32).save(tmp_path / "turned.jpg", exif=exif)
    expected = open_rgb(tmp_path / "plain.jpg").transpose(Image.Transpose.ROTATE_270)
    assert (pixels(open_rgb(tmp_path / "turned.jpg")) == pixels(expected)).all()


def test_a_phones_two_pictures_in_one_jpeg(tmp_path: Path) -> None:
    first, second = Image.new("RGB", (8, 8), WHITE), Image.new("RGB", (8, 8), BLACK)
    first.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[second])
    assert (pixels(open_rgb(tmp_path / "a.jpg")) == 255).all()


def test_all_kinds_of_source_agree(tmp_path: Path) -> None:
    image = scene()
    array = np.asarray(image)
    path = tmp_path / "a.png"
    image.save(path)
    sources = [
        path,
        str(path),
        io.BytesIO(path.read_bytes()),
        image,
        array,
        array.astype(np.uint16) * 257,
        array / 255,
        (array / 255).astype(np.float32),
        np.dstack([array, np.full(array.shape[:2], 255, np.uint8)]),
        array[::-1][::-1],  # a view with negative strides
    ]
    for source in sources:
        assert (pixels(open_rgb(source)) == array).all()
    assert (pixels(open_rgb(array[..., 0])) == array[..., :1]).all()


def test_the_source_is_left_as_it_was() -> None:
    image = Image.new("RGBA", (2, 2), (0, 0, 0, 0))
    result = open_rgb(image)
    result.putpixel((0, 0), RED)
    assert image.mode == "RGBA"
    assert image.getpixel((0, 0)) == (0, 0, 0, 0)


# --- refused, in one clear line -------------------------------------------------------------------


def test_text_named_jpg(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_text("not a picture")
    with pytest.raises(ImageError, match=r"a\.jpg is no BMP, JPEG, PNG, TIFF or WebP image"):
        open_rgb(path)


def test_empty_missing_and_folder(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    for name, reason in (
        ("empty.png", "is an empty file"),
        ("gone.png", "does not exist"),
        (".", "is not a file"),
    ):
        with pytest.raises(ImageError, match=reason):
            open_rgb(tmp_path / name)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".tif", ".webp"])
def test_truncated(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    random = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(random).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ImageError, match=rf"a\{suffix} "):
        open_rgb(path)


def test_the_header_is_enough_to_refuse_a_bomb() -> None:
    with pytest.raises(
        ImageError, match=r"100000 x 100000 = 10,000,000,000 pixels, above the limit of 178,956,970"
    ):
        open_rgb(png(100_000, 100_000, 8, 2, rows=b""))  # there is not one pixel to decode


def test_the_pixel_limit_is_the_callers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    scene(20, 10).save(path)
    for source in (path, Image.open(path), np.zeros((10, 20))):
        with pytest.raises(ImageError, match="20 x 10 = 200 pixels, above the limit of 199"):
            open_rgb(source, max_pixels=199)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # Pillow's own would stop at twice this
    assert open_rgb(path, max_pixels=200).size == (20, 10)
    assert Image.MAX_IMAGE_PIXELS == 10


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((4, 4, 2)), r"array \(4, 4, 2\) is not an image: the shape must be"),
        (np.zeros((3, 0)), "0 x 3: it has no pixels"),
        (np.zeros((4, 4), dtype=np.int64), "holds int64: give uint8, uint16, or floats"),
        (np.full((4, 4), 255.0), r"values from 255\.0 to 255\.0"),
        (np.full((4, 4), np.nan), "values from nan to nan"),
        (np.full((4, 4), -0.1), r"values from -0\.1"),
    ],
)
def test_arrays_that_are_no_images(array: np.ndarray, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        open_rgb(array)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "TIFF", "WEBP"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
@pytest.mark.filterwarnings("ignore")
def test_damage_is_an_image_or_a_clear_error(kind: str, data: st.DataObject) -> None:
    buffer = io.BytesIO()
    scene(24, 16).save(buffer, kind)
    damaged = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ImageError):
        assert open_rgb(io.BytesIO(bytes(damaged)), max_pixels=1_000_000).mode == "RGB"


# --- masks ----------------------------------------------------------------------------------------


def test_mask_is_0_to_1_and_stays_there_when_resized(tmp_path: Path) -> None:
    hard = np.zeros((8, 8), np.uint8)
    hard[:, 4:] = 255
    Image.fromarray(hard).save(tmp_path / "m.png")
    mask = open_mask(tmp_path / "m.png")
    assert mask.dtype == np.float32
    assert (mask == hard / 255).all()
    soft = open_mask(tmp_path / "m.png", (12, 6))
    assert soft.shape == (6, 12)
    assert soft.min() == 0
    assert soft.max() == 1


def test_mask_with_white_as_one_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.eye(4, dtype=np.uint8)).save(tmp_path / "m.png")
    with pytest.raises(ImageError, match="only the values 0 and 1: white must be 255"):
        open_mask(tmp_path / "m.png")


# --- finding and pairing --------------------------------------------------------------------------


def touch(folder: Path, *names: str) -> list[Path]:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return [folder / name for name in names]


def test_folders_are_searched_sorted_and_hidden_files_passed_over(tmp_path: Path) -> None:
    a, b, deep, *_ = touch(
        tmp_path,
        "a.JPG",
        "b.tiff",
        "x/y/c.webp",
        "notes.txt",
        "._a.jpg",
        ".thumbnails/a.png",
        "x/archive.tar",
    )
    assert find_images([tmp_path]) == [a, b, deep]
    assert find_images([b, tmp_path]) == [b, a, deep]  # as given; each once


def test_a_walk_is_sorted_like_paths_and_lists_a_folder_when_it_is_reached(tmp_path: Path) -> None:
    names = ["b.png", "b/a.png", "b-c/a.png", "a/z/1.png", "a/z.png", "B.png", "é/x.jpg", "b.d/x.png"]
    paths = touch(tmp_path, *names)
    walk = walk_images(tmp_path)
    assert next(walk).path == tmp_path / "B.png"
    (late,) = touch(tmp_path, "é/w.jpg")
    assert [found.path for found in walk] == sorted([*paths, late])[1:]


def test_a_named_file_needs_no_suffix(tmp_path: Path) -> None:
    [path] = touch(tmp_path, "picture")
    assert find_images([path]) == [path]


def test_nothing_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere does not exist"):
        find_images([tmp_path / "nowhere"])
    with pytest.raises(UserError, match=r"holds no image: looked in it and below it for bmp jpeg jpg png"):
        find_images([tmp_path])


def test_file_key_is_the_stem_with_composed_accents() -> None:
    assert file_key("folder/a.b.JPG") == "a.b"
    assert file_key(unicodedata.normalize("NFD", "café.png")) == unicodedata.normalize("NFC", "café")


def test_pairs_by_key_never_by_position(tmp_path: Path) -> None:
    images = touch(tmp_path, "in/b.jpg", "in/lonely.jpg", "in/a.jpg")
    a, b, _ = touch(tmp_path, "ref/a.png", "ref/deep/b.png", "ref/c.png")
    assert pair_by_key(images, tmp_path / "ref") == [b, None, a]
    assert pair_by_key(images, a) == [a, a, a]


def test_two_references_for_one_image_are_refused(tmp_path: Path) -> None:
    images = touch(tmp_path, "in/a.jpg")
    touch(tmp_path, "ref/a.png", "ref/x/a.jpg", "ref/b.png", "ref/x/b.png")  # nobody asks for b
    with pytest.raises(UserError, match=r"a\.jpg has two references, .*a\.png and .*a\.jpg"):
        pair_by_key(images, tmp_path / "ref")


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", "bmp"])
@pytest.mark.parametrize("orientation", [None, 1, 3, 6, 8])
def test_the_header_gives_the_size_that_decoding_gives(
    tmp_path: Path, suffix: str, orientation: int | None
) -> None:
    path = tmp_path / f"a.{suffix}"
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    Image.new("RGB", (40, 24)).save(path, exif=exif)
    assert read_size(path) == open_rgb(path).size


def test_a_header_is_held_to_the_same_rules(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (40, 24)).save(path)
    with pytest.raises(ImageError, match="above the limit of 100"):
        read_size(path, max_pixels=100)
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(ImageError, match=r"a\.png"):
        read_size(path)
