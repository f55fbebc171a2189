"""How close a harmonized image comes to the real photo: the field's three ways of counting, by name.

Their figures must not be mixed: they differ in what lies outside the mask, in the size, and in the peak of PSNR.

- ``aict``: at the size of the photos. MSE is over all pixels, of the difference inside the mask; PSNR has peak 255 on
  that MSE; before SSIM (Gaussian window of 11 pixels) the prediction is laid over the real photo by the mask.
- ``idih``: MSE and PSNR over the whole images as they are; the peak of PSNR is the real photo's brightest value.
- ``dovenet``: everything at 256 x 256, resized bicubically as 8-bit images, with a mask of one bit; MSE as in idih; the
  range of PSNR and SSIM is that of the harmonized image, largest minus smallest value; SSIM has a flat window of 7.

All are on the scale 0..255. PSNR is at most 100 dB, which equal images get too.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from harmonyiqa.baselines.full_reference import HIGHEST_PSNR
from harmonyiqa.errors import UserError
from harmonyiqa.harmonize.pictures import bilinear

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float64]
_EPSILON = 1e-6  # in fMSE, so that an empty mask divides nothing by zero
_DOVENET_SIDE = 256
FIGURES = ("fmse", "mse", "psnr", "ssim", "score")


@dataclass(frozen=True, slots=True)
class Fidelity:
    """Four figures of one image.

    Attributes:
        fmse: mean squared error over the foreground, "foreground-normalized"; lower is better.
        mse: over the image; lower is better.
        psnr: dB; higher is better, at most 100.
        ssim: at most 1; higher is better.
    """

    fmse: float
    mse: float
    psnr: float
    ssim: float


def aict(image: Pixels, real: Pixels, mask: Pixels) -> Fidelity:
    """The protocol of the AICT paper's tables.

    Args:
        image: the harmonized image, (H, W, 3) uint8.
        real: likewise.
        mask: (H, W) uint8, 255 is the foreground.
    """
    from skimage.metrics import structural_similarity

    alpha = mask.astype(np.float64)[..., None] / 255
    truth = real.astype(np.float64)
    difference = image - truth
    square = alpha * difference**2
    mse = float(square.mean())
    ssim = structural_similarity(
        truth,
        truth + alpha * difference,
        data_range=255,
        channel_axis=-1,
        gaussian_weights=True,  # 11 x 11, sigma 1.5, only where the window fits
        sigma=1.5,
        use_sample_covariance=False,
    )
    return Fidelity(float(square.sum() / (3 * alpha.sum() + _EPSILON)), mse, _psnr(mse, 255), float(ssim))


def idih(image: Pixels, real: Pixels, mask: Pixels) -> Fidelity:
    """The protocol of iDIH (Sofiiuk et al., WACV 2021); SSIM as in ``aict`` but over the images as they are."""
    from skimage.metrics import structural_similarity

    alpha = mask.astype(np.float64)[..., None] / 255
    truth = real.astype(np.float64)
    square = (image - truth) ** 2
    mse = float(square.mean())
    ssim = structural_similarity(
        truth,
        image.astype(np.float64),
        data_range=255,
        channel_axis=-1,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    fmse = float((alpha * square).sum() / (3 * alpha.sum() + _EPSILON))
    return Fidelity(fmse, mse, _psnr(mse, float(truth.max())), float(ssim))


def dovenet(image: Pixels, real: Pixels, mask: Pixels) -> Fidelity:
    """The protocol of DoveNet (Cong et al., CVPR 2020), at 256 x 256 whatever the size of the images."""
    from skimage.metrics import structural_similarity

    small, truth = (_bicubic(Image.fromarray(pixels)) for pixels in (image, real))
    alpha = _bicubic(Image.fromarray(mask).convert("1"))[..., None] > 0
    square = (small - truth) ** 2
    mse = float(square.mean())
    span = float(small.max() - small.min())
    fmse = float((alpha * square).sum() / (3 * alpha.sum() + _EPSILON))
    ssim = structural_similarity(truth, small, data_range=span or 255, channel_axis=-1)
    return Fidelity(fmse, mse, _psnr(mse, span), float(ssim))


PROTOCOLS: dict[str, Callable[[Pixels, Pixels, Pixels], Fidelity]] = {
    "aict": aict,
    "idih": idih,
    "dovenet": dovenet,
}


def fidelity(image: Pixels, real: Pixels, mask: Pixels, protocol: str) -> Fidelity:
    """The four figures of one image by a named protocol.

    Raises:
        UserError: there is no such protocol, the three are not of one size, the mask is empty, or a side is under 11
            pixels, the window of SSIM.
    """
    if protocol not in PROTOCOLS:
        raise UserError(f"protocol {protocol!r} is unknown; choose from {', '.join(PROTOCOLS)}")
    if not image.shape[:2] == real.shape[:2] == mask.shape:
        sizes = (
            f"{name} {a.shape[1]} x {a.shape[0]}"
            for name, a in (("image", image), ("real photo", real), ("mask", mask))
        )
        raise UserError(f"they must be of one size: {', '.join(sizes)}")
    if not mask.any():
        raise UserError("the mask is empty: it has no foreground (white)")
    if min(mask.shape) < 11:
        raise UserError(f"{mask.shape[1]} x {mask.shape[0]} is too small: SSIM needs 11 pixels a side")
    return PROTOCOLS[protocol](image, real, mask)


def resized(pixels: Pixels, side: int | None) -> Pixels:
    """A square of ``side`` pixels by bilinear sampling without antialiasing, as the releases evaluate; None: as it is.

    Args:
        pixels: (H, W, 3), or a mask (H, W), which is sampled at the nearest pixel; uint8.
        side: in pixels.
    """
    if side is None or pixels.shape[:2] == (side, side):
        return pixels
    # the nearest pixel is that of OpenCV's INTER_NEAREST: floor of the scaled index
    if pixels.ndim == 2:
        rows, columns = (np.arange(side) * length // side for length in pixels.shape)
        return pixels[rows[:, None], columns[None]]
    return np.rint(bilinear(pixels, side)).astype(np.uint8)


def _psnr(mse: float, peak: float) -> float:
    """At most `HIGHEST_PSNR`, which equal images get too: a mean has to be a finite number."""
    if mse == 0:
        return HIGHEST_PSNR
    return min(HIGHEST_PSNR, 10 * math.log10(peak**2 / mse)) if peak > 0 else 0.0


def _bicubic(image: Image.Image) -> Floats:
    size = (_DOVENET_SIDE, _DOVENET_SIDE)
    return np.asarray(image.resize(size, Image.Resampling.BICUBIC), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Measured:
    """One result: its figures, or why there are none.

    Attributes:
        image: as the manifest writes the composite.
        method: what made the result.
        group: the subset.
        figures: fmse, mse, psnr, ssim where there is a real photo; score where it was asked for.
        error: why nothing could be measured.
        content: the scene, where the manifest names it.
        kinds: what kinds of composite it is, beside its subset: "source ccp", "severity over 12".
    """

    image: str
    method: str
    group: str
    figures: dict[str, float]
    error: str | None = None
    content: str | None = None
    kinds: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Mean:
    """Means of a method over the images of a subset; a figure that some of them lack is left out."""

    subset: str
    method: str
    images: int
    figures: dict[str, float]


def means(measured: Sequence[Measured]) -> list[Mean]:
    """For every subset, then All, every method in order of appearance: plain means over images, as in the paper."""
    groups = list(dict.fromkeys(each.group for each in measured))
    methods = list(dict.fromkeys(each.method for each in measured))
    found = []
    for subset in [*(groups if len(groups) > 1 else []), "All"]:
        for method in methods:
            rows = [
                each.figures
                for each in measured
                if each.method == method and each.error is None and subset in (each.group, "All")
            ]
            if rows:
                names = [name for name in FIGURES if all(name in row for row in rows)]
                found.append(
                    Mean(
                        subset, method, len(rows), {name: fmean(row[name] for row in rows) for name in names}
                    )
                )
    return found
