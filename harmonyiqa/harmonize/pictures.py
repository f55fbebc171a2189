"""Photos with all that their files hold: 8 or 16 bits, transparency, colour profile, metadata. In and out again."""

import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, JpegImagePlugin

from harmonyiqa.color import LUMA
from harmonyiqa.errors import UserError
from harmonyiqa.files import atomic_path
from harmonyiqa.images import DEFAULT_MAX_PIXELS, ImageError, open_header, open_mask

Pixels: TypeAlias = NDArray[Any]  # of uint8, uint16, or floats in 0..1

_ORIENTATION = 0x0112
_PNG_START = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Picture:
    """A photo, upright.

    Attributes:
        pixels: (H, W, 3), uint8 or uint16; a grey photo three times.
        alpha: (H, W) of the same type, where the file has transparency.
        grey: whether the file has one channel; it is written so again.
        format: the file's format, as Pillow names it.
        metadata: options of Pillow's `save`: profile, EXIF, resolution, and how a JPEG was compressed.
    """

    pixels: Pixels
    alpha: Pixels | None
    grey: bool
    format: str
    metadata: dict[str, Any] = field(default_factory=dict)


def read_picture(path: str | Path, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> Picture:
    """Read a photo in its own bit depth, turned upright by its EXIF orientation.

    Palette images become RGB. An embedded colour profile is kept, not applied.

    Args:
        path: BMP, JPEG, PNG, TIFF or WebP.
        max_pixels: the most pixels it may have; measured by its header.

    Raises:
        ImageError: it cannot be read, is too large, has several frames, is CMYK or of floats, or has 16-bit colours
            and OpenCV (extra `harmonize`) is missing.
    """
    with open_header(path, max_pixels=max_pixels) as image:
        # phones write JPEGs with a second, smaller picture or a gain map behind the photo (MPO)
        frames = getattr(image, "n_frames", 1)
        if frames > 1 and image.format != "MPO":
            raise ImageError(f"{path} has {frames} frames; give it as a single image")
        if image.mode in ("CMYK", "LAB", "HSV", "F"):
            raise ImageError(
                f"{path} is {'of floats' if image.mode == 'F' else image.mode}: convert it to RGB first, "
                "so that its colour profile is applied"
            )
        if image.mode == "I" and image.format != "PNG":
            raise ImageError(f"{path} has 32-bit pixels without a known white; convert it to 16 bits first")
        metadata = _metadata(image)
        try:
            return _decoded(image, Path(path), metadata)
        except ImageError:
            raise
        except Exception as error:  # decoders raise nearly anything on damaged bytes
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ImageError(f"{path} cannot be decoded: {reason}") from error


def read_mask(path: str | Path) -> NDArray[np.uint8]:
    """A mask as (H, W) uint8; 255 is the foreground, between are soft edges.

    Raises:
        ImageError: as `images.open_mask`.
    """
    return np.rint(open_mask(path) * 255).astype(np.uint8)


def write_picture(picture: Picture, pixels: Pixels, path: str | Path) -> None:
    """Write new pixels with everything else as it was, aside and renamed.

    JPEGs keep the quantisation of the source, WebP is lossless; the suffix may name another format.

    Args:
        picture: where the pixels came from.
        pixels: (H, W, 3) of its type.
        path: ends in .png, .jpg, .jpeg, .tif, .tiff, .webp or .bmp.

    Raises:
        UserError: the format cannot hold 16 bits or transparency, or the file cannot be written.
    """
    path = Path(path)
    target = Image.registered_extensions().get(path.suffix.lower(), "")
    deep = pixels.dtype == np.uint16
    if target not in ("PNG", "JPEG", "TIFF", "WEBP", "BMP"):
        raise UserError(f"{path} must end in .png, .jpg, .tif, .webp or .bmp")
    if deep and target not in ("PNG", "TIFF"):
        raise UserError(f"{path}: {target} holds 8 bits a channel, the photo has 16; write .png or .tif")
    if picture.alpha is not None and target in ("JPEG", "BMP"):
        raise UserError(f"{path}: {target} holds no transparency; write .png, .tif or .webp")
    channels: list[Pixels] = (
        [np.rint(pixels.astype(np.float32) @ LUMA).astype(pixels.dtype)]
        if picture.grey
        else [pixels[..., c] for c in range(3)]
    )
    if picture.alpha is not None:
        channels.append(picture.alpha)
    array = channels[0] if len(channels) == 1 else np.stack(channels, axis=-1)
    with atomic_path(path) as part:
        if deep and target == "PNG" and array.ndim == 3:
            part.write_bytes(_deep_png(array, picture.metadata))
        elif deep and array.ndim == 3:
            _write_deep_tiff(array, picture.metadata, part)
        else:
            Image.fromarray(array).save(part, target, **_options(picture, target))


def bilinear(pixels: Pixels, side: int) -> NDArray[np.float32]:
    """Resize to a square by bilinear sampling without antialiasing, as OpenCV's default and the release do.

    Args:
        pixels: (H, W, 3) or (H, W), of any type.
        side: in pixels.

    Returns:
        (side, side, 3) or (side, side), float32, on the scale of ``pixels``. Only pixels that are sampled are
        converted, so that memory does not grow with the photo.
    """
    (above, below, down), (left, right, across) = (_between(length, side) for length in pixels.shape[:2])
    shape = (slice(None), slice(None), *(None,) * (pixels.ndim - 2))
    down, across = down[:, None][shape], across[None, :][shape]

    def at(rows: NDArray[np.intp], columns: NDArray[np.intp]) -> NDArray[np.float32]:
        return pixels[rows[:, None], columns[None]].astype(np.float32)

    upper = at(above, left) * (1 - across) + at(above, right) * across
    lower = at(below, left) * (1 - across) + at(below, right) * across
    return (upper * (1 - down) + lower * down).astype(np.float32, copy=False)


def _between(length: int, side: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """Of every sample the pixels on both sides, and the share of the second; the border is clamped."""
    place = np.clip((np.arange(side) + 0.5) * (length / side) - 0.5, 0, length - 1)
    before = np.floor(place).astype(np.intp)
    return before, np.minimum(before + 1, length - 1), (place - before).astype(np.float32)


def white_of(dtype: np.dtype) -> float:
    """The value of white in pixels of this type: of unsigned integers the largest, of floats 1."""
    return float(np.iinfo(dtype).max) if dtype.kind == "u" else 1.0


def _metadata(image: Image.Image) -> dict[str, Any]:
    found = {name: image.info[name] for name in ("icc_profile", "dpi", "xmp") if image.info.get(name)}
    exif = image.getexif()
    if image.format == "TIFF":
        found["compression"] = image.info.get("compression", "raw")
    elif exif:
        if (orientation := exif.get(_ORIENTATION, 1)) == 1:
            found["exif"] = image.info.get("exif") or exif.tobytes()
        else:  # the pixels will be turned; the image itself still has to know
            exif[_ORIENTATION] = 1
            found["exif"] = exif.tobytes()
            exif[_ORIENTATION] = orientation
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        found["qtables"] = image.quantization
        found["subsampling"] = JpegImagePlugin.get_sampling(image)
    return found


def _options(picture: Picture, target: str) -> dict[str, Any]:
    """What of the metadata this format's writer takes."""
    names = {
        "PNG": ("icc_profile", "dpi", "exif"),
        "JPEG": ("icc_profile", "dpi", "exif", "xmp"),
        "WEBP": ("icc_profile", "exif", "xmp"),
        "TIFF": ("icc_profile", "dpi"),
        "BMP": ("dpi",),
    }[target]
    options = {name: value for name, value in picture.metadata.items() if name in names}
    if target == "JPEG":
        if picture.format == "JPEG":
            options |= {name: picture.metadata[name] for name in ("qtables", "subsampling")}
        else:
            options |= {"quality": 95, "subsampling": 0}
    elif target == "WEBP":
        options |= {"lossless": True, "exact": True}
    elif target == "TIFF":
        kept = picture.metadata.get("compression", "tiff_adobe_deflate")
        options["compression"] = "tiff_adobe_deflate" if kept == "jpeg" else kept  # lossless
    return options


def _decoded(image: Image.Image, path: Path, metadata: dict[str, Any]) -> Picture:
    file_format = "JPEG" if image.format == "MPO" else str(image.format)
    if _is_deep(image, path):
        array = _turned(_decode_deep(path), image.getexif().get(_ORIENTATION, 1))
    else:
        upright = ImageOps.exif_transpose(image)
        if upright.mode.startswith("I"):
            array = np.asarray(upright).astype(np.uint16)
        elif upright.mode in ("1", "L"):
            array = np.asarray(upright.convert("L"))
        elif upright.mode in ("LA", "RGBA"):
            array = np.asarray(upright)
        else:
            array = np.asarray(upright.convert("RGBA" if upright.has_transparency_data else "RGB"))
    if array.ndim == 2:
        array = array[..., None]
    grey, has_alpha = array.shape[2] < 3, array.shape[2] in (2, 4)
    pixels = np.repeat(array[..., :1], 3, axis=2) if grey else np.ascontiguousarray(array[..., :3])
    return Picture(pixels, array[..., -1].copy() if has_alpha else None, grey, file_format, metadata)


def _is_deep(image: Image.Image, path: Path) -> bool:
    """Whether colours have 16 bits: Pillow opens such files too, but keeps 8 of them."""
    if image.mode.startswith("I"):
        return False  # 16-bit grey, which Pillow keeps
    if image.format == "PNG":
        with path.open("rb") as file:
            start = file.read(26)
        return start[:8] == _PNG_START and start[24] == 16
    return image.format == "TIFF" and max(np.atleast_1d(image.tag_v2.get(258, 8))) == 16  # type: ignore[attr-defined]


def _opencv(path: str | Path) -> Any:
    try:
        import cv2
    except ImportError as error:
        raise ImageError(
            f"{path} has 16-bit colours, which need OpenCV: pip install 'harmonyiqa[harmonize]'"
        ) from error
    return cv2


def _decode_deep(path: Path) -> NDArray[np.uint16]:
    cv2 = _opencv(path)
    array = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if array is None or array.dtype != np.uint16:
        raise ImageError(
            f"{path} has 16-bit colours of a kind that OpenCV cannot read; save it as a plain PNG"
        )
    if array.ndim == 3:
        array = array[..., [2, 1, 0, 3][: array.shape[2]]]  # from BGR
    return array


def _turned(array: NDArray[np.uint16], orientation: int) -> NDArray[np.uint16]:
    """Upright by EXIF's numbers 1 to 8."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    return array


def _deep_png(array: Pixels, metadata: dict[str, Any]) -> bytes:
    cv2 = _opencv("the result")
    order = [2, 1, 0, 3][: array.shape[2]] if array.shape[2] > 2 else [0, 0, 0, 1]
    encoded: bytes = cv2.imencode(".png", np.ascontiguousarray(array[..., order]))[1].tobytes()
    header = 8 + 25  # signature and IHDR; profile and metadata stand behind them
    chunks = b""
    if profile := metadata.get("icc_profile"):
        chunks += _chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(profile))
    if dpi := metadata.get("dpi"):
        per_metre = [round(float(value) / 0.0254) for value in dpi]
        chunks += _chunk(b"pHYs", struct.pack(">IIB", *per_metre, 1))
    if exif := metadata.get("exif"):
        chunks += _chunk(b"eXIf", exif.removeprefix(b"Exif\0\0"))
    return encoded[:header] + chunks + encoded[header:]


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _write_deep_tiff(array: Pixels, metadata: dict[str, Any], path: Path) -> None:
    import tifffile  # comes with scikit-image

    dpi = metadata.get("dpi")
    tifffile.imwrite(
        path,
        array,
        photometric="rgb" if array.shape[2] > 2 else "minisblack",
        planarconfig="contig",
        extrasamples=["unassalpha"] if array.shape[2] in (2, 4) else None,
        compression="zlib",
        iccprofile=metadata.get("icc_profile"),
        resolution=tuple(float(value) for value in dpi) if dpi else None,
        resolutionunit="inch" if dpi else None,
        metadata=None,
    )
