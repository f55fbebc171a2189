"""Photos come out of their files and go back with everything that they hold."""

import sys

import numpy as np
import pytest
from PIL import Image, ImageCms

from harmonyiqa.errors import UserError
from harmonyiqa.harmonize.pictures import read_mask, read_picture, write_picture
from harmonyiqa.images import ImageError, open_rgb

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def _array(channels: int = 3, dtype=np.uint8):
    high = np.iinfo(dtype).max
    array = np.random.default_rng(0).integers(0, high + 1, (20, 30, channels), dtype=dtype)
    return array[..., 0] if channels == 1 else array


def _exif(orientation: int = 1) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "A camera"
    return exif.tobytes()


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif", ".bmp"])
def test_lossless_formats_give_the_same_pixels_profile_and_metadata(tmp_path, suffix) -> None:
    source, target = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    extra = {} if suffix == ".bmp" else {"icc_profile": PROFILE}
    extra |= {} if suffix in (".bmp", ".tif") else {"exif": _exif()}
    options = {"lossless": True} if suffix == ".webp" else {}
    Image.fromarray(_array()).save(source, **extra, **options)
    picture = read_picture(source)
    write_picture(picture, picture.pixels, target)
    np.testing.assert_array_equal(np.asarray(Image.open(target)), _array())
    again = Image.open(target)
    if "icc_profile" in extra:
        assert again.info["icc_profile"] == PROFILE
    if "exif" in extra:
        assert again.getexif()[0x010F] == "A camera"


def test_a_jpeg_keeps_its_compression_profile_and_exif(tmp_path) -> None:
    source, target = tmp_path / "a.jpg", tmp_path / "b.jpg"
    options = {"quality": 83, "subsampling": 1, "icc_profile": PROFILE, "exif": _exif(), "dpi": (300, 300)}
    Image.fromarray(_array()).save(source, **options)
    picture = read_picture(source)
    write_picture(picture, picture.pixels, target)
    before, after = Image.open(source), Image.open(target)
    assert after.quantization == before.quantization
    assert after.info["icc_profile"] == PROFILE
    assert after.info["dpi"] == (300, 300)
    assert after.getexif()[0x010F] == "A camera"
    assert abs(target.stat().st_size - source.stat().st_size) < 0.1 * source.stat().st_size


def test_the_photo_of_a_phone_is_its_first_picture(tmp_path) -> None:
    source, target = tmp_path / "a.jpg", tmp_path / "b.jpg"
    frames = [Image.fromarray(_array()), Image.fromarray(255 - _array())]
    frames[0].save(source, "MPO", save_all=True, append_images=frames[1:])
    picture = read_picture(source)
    assert picture.format == "JPEG"
    np.testing.assert_array_equal(picture.pixels, np.asarray(open_rgb(source)))
    write_picture(picture, picture.pixels, target)
    assert Image.open(target).format == "JPEG"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("deep", [False, True])
def test_a_turned_photo_is_upright_and_says_so(tmp_path, orientation, deep) -> None:
    source, target = tmp_path / "a.png", tmp_path / "b.png"
    Image.fromarray(_array()).save(source, exif=_exif(orientation))
    upright = np.asarray(open_rgb(source))
    if deep:
        cv2 = pytest.importorskip("cv2")
        raw = cv2.imencode(".png", _array().astype(np.uint16)[..., ::-1] * 257)[1].tobytes()
        start = source.read_bytes()
        place = start.index(b"eXIf") - 4
        length = int.from_bytes(start[place : place + 4], "big")
        source.write_bytes(raw[:33] + start[place : place + 12 + length] + raw[33:])
    picture = read_picture(source)
    np.testing.assert_array_equal(picture.pixels, upright.astype(np.uint16) * 257 if deep else upright)
    write_picture(picture, picture.pixels, target)
    assert Image.open(target).getexif().get(0x0112, 1) == 1
    np.testing.assert_array_equal(np.asarray(open_rgb(target)), upright)


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_stay(tmp_path, channels, suffix) -> None:
    cv2 = pytest.importorskip("cv2")
    array = _array(channels, np.uint16)
    source, target = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    cv2.imwrite(str(source), array[..., [2, 1, 0, 3][:channels]])
    picture = read_picture(source)
    np.testing.assert_array_equal(picture.pixels, array[..., :3])
    picture.metadata["icc_profile"] = PROFILE
    write_picture(picture, picture.pixels, target)
    again = read_picture(target)
    np.testing.assert_array_equal(again.pixels, array[..., :3])
    if channels == 4:
        np.testing.assert_array_equal(again.alpha, array[..., 3])
    assert again.metadata["icc_profile"] == PROFILE


def test_sixteen_bit_grey_stays_grey(tmp_path) -> None:
    array = _array(1, np.uint16)
    Image.fromarray(array).save(tmp_path / "a.png")
    picture = read_picture(tmp_path / "a.png")
    assert picture.grey
    np.testing.assert_array_equal(picture.pixels, np.repeat(array[..., None], 3, axis=2))
    write_picture(picture, picture.pixels, tmp_path / "b.png")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "b.png")), array)


def test_grey_transparent_and_palette_images(tmp_path) -> None:
    Image.fromarray(_array(1)).save(tmp_path / "grey.png")
    Image.fromarray(_array(4)).save(tmp_path / "rgba.png")
    Image.fromarray(_array()).quantize(16).save(tmp_path / "palette.png")
    grey, rgba, palette = (read_picture(tmp_path / f"{n}.png") for n in ("grey", "rgba", "palette"))
    write_picture(grey, grey.pixels, tmp_path / "out.png")
    assert Image.open(tmp_path / "out.png").mode == "L"
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out.png")), _array(1))
    write_picture(rgba, rgba.pixels, tmp_path / "out.png")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out.png")), _array(4))
    np.testing.assert_array_equal(palette.pixels, np.asarray(open_rgb(tmp_path / "palette.png")))


def test_what_a_format_cannot_hold_is_refused(tmp_path) -> None:
    Image.fromarray(_array(4)).save(tmp_path / "rgba.png")
    Image.fromarray(_array(1, np.uint16)).save(tmp_path / "deep.png")
    rgba, deep = read_picture(tmp_path / "rgba.png"), read_picture(tmp_path / "deep.png")
    with pytest.raises(UserError, match="no transparency"):
        write_picture(rgba, rgba.pixels, tmp_path / "x.jpg")
    with pytest.raises(UserError, match="holds 8 bits"):
        write_picture(deep, deep.pixels, tmp_path / "x.jpg")
    with pytest.raises(UserError, match="must end in"):
        write_picture(deep, deep.pixels, tmp_path / "x.gif")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["deep.png", "rgba.png"]


def test_what_is_no_photo_is_said(tmp_path, monkeypatch) -> None:
    Image.fromarray(_array(4), "CMYK").save(tmp_path / "cmyk.jpg")
    frames = [Image.fromarray(_array()), Image.fromarray(255 - _array())]
    frames[0].save(tmp_path / "two.webp", save_all=True, append_images=frames[1:])
    (tmp_path / "text.png").write_text("text")
    for name, message in (
        ("cmyk.jpg", "is CMYK: convert it to RGB"),
        ("two.webp", "has 2 frames"),
        ("text.png", "no BMP, JPEG, PNG"),
        ("none.png", "does not exist"),
    ):
        with pytest.raises(ImageError, match=message):
            read_picture(tmp_path / name)
    Image.new("RGB", (200, 100)).save(tmp_path / "large.png")
    with pytest.raises(ImageError, match="above the limit of 19,999"):
        read_picture(tmp_path / "large.png", max_pixels=19_999)
    cv2 = pytest.importorskip("cv2")
    cv2.imwrite(str(tmp_path / "deep.png"), _array(3, np.uint16))
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ImageError, match=r"harmonyiqa\[harmonize\]"):
        read_picture(tmp_path / "deep.png")


def test_a_mask_is_bytes(tmp_path) -> None:
    Image.fromarray(np.array([[0, 128, 255]], np.uint8)).save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png"), [[0, 128, 255]])
