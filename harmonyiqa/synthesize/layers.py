"""What is laid over a scene: the region itself or a pasted one, with a soft edge."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from harmonyiqa.color import Floats, lab_statistics, lab_to_srgb, reinhard, srgb_to_lab
from harmonyiqa.synthesize.regions import Mask

Bytes = NDArray[np.uint8]
_SAMPLE = 400  # colours on which strengths are searched; the severity is measured on the whole region
_MARGIN = 8  # pixels around a pasted region that come along under its soft edge


@dataclass(frozen=True, slots=True)
class Donor:
    """A photo ``(H, W, 3)`` that lends its colours, or the region ``mask`` ``(H, W)`` of it."""

    rgb: Floats
    mask: Mask


@dataclass(frozen=True, slots=True)
class Layer:
    """Colours that fit the scene they lie over, and how much of them shows.

    Attributes:
        stencil: the region with its soft edge, 8 bit ``(H, W)``.
        index: flat positions of the N pixels under the stencil ``(N,)``.
        alpha: the stencil there, in 0..1 ``(N, 1)``.
        inside: whether the pixel belongs to the region proper, where severity is measured ``(N,)``.
        below: the scene there ``(N, 3)``.
        colors: the layer there ``(N, 3)``.
    """

    stencil: Bytes
    index: NDArray[np.intp]
    alpha: Floats
    inside: Mask
    below: Floats
    colors: Floats

    def sample(self, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Colours ``(n, 3)`` and alpha ``(n, 1)`` of pixels drawn from the region."""
        chosen = draw(rng, np.flatnonzero(self.inside))
        return self.colors[chosen], self.alpha[chosen]

    def over(self, colors: Floats) -> Floats:
        """``colors`` ``(N, 3)`` in the layer's place, blended with what lies below, 8 bit."""
        return quantized(self.below + self.alpha * (colors - self.below))


def lift(scene: Floats, region: Mask, feather: float) -> Layer:
    """The scene's own region as a layer; ``feather`` is the sigma of its Gaussian edge in pixels."""
    stencil = _soft(region, feather)
    index = np.flatnonzero(stencil)
    below = quantized(scene.reshape(-1, 3)[index])
    return Layer(stencil, index, _alpha(stencil, index), region.reshape(-1)[index], below, below)


def paste(scene: Floats, region: Mask, donor: Donor, feather: float) -> Layer | None:
    """The donor's region as a layer in the place and with the area of ``region``, harmonized to the scene.

    Harmonized means that it takes the Lab mean and standard deviation of the region that it replaces.

    Returns:
        The layer; None if all of it would lie outside the scene.
    """
    around = ((_MARGIN, _MARGIN), (_MARGIN, _MARGIN))
    rgb, mask = np.pad(donor.rgb, (*around, (0, 0)), mode="edge"), np.pad(donor.mask, around)
    rows, columns = np.nonzero(mask)
    box = (
        int(columns.min()) - _MARGIN,
        int(rows.min()) - _MARGIN,
        int(columns.max()) + 1 + _MARGIN,
        int(rows.max()) + 1 + _MARGIN,
    )
    scale = float(np.clip(np.sqrt(region.sum() / mask.sum()), 0.5, 2))
    size = (round((box[2] - box[0]) * scale), round((box[3] - box[1]) * scale))
    center_y, center_x = (int(axis.mean()) for axis in np.nonzero(region))
    corner = (center_x - size[0] // 2, center_y - size[1] // 2)

    def place(picture: Image.Image) -> NDArray[np.uint8]:
        canvas = Image.new(picture.mode, region.shape[::-1])
        canvas.paste(picture.resize(size, Image.Resampling.BILINEAR, box), corner)
        return np.asarray(canvas)

    placed = place(Image.fromarray(mask).convert("L")) >= 128
    if not placed.any():
        return None
    stencil = _soft(placed, feather)
    index = np.flatnonzero(stencil)
    inside = placed.reshape(-1)[index]
    lab = srgb_to_lab(place(Image.fromarray(to_uint8(rgb))).reshape(-1, 3)[index] / np.float32(255))
    fitting = reinhard(lab, lab_statistics(lab[inside]), lab_statistics(srgb_to_lab(scene[region])))
    below = quantized(scene.reshape(-1, 3)[index])
    return Layer(stencil, index, _alpha(stencil, index), inside, below, quantized(lab_to_srgb(fitting)))


def draw(rng: np.random.Generator, rows: NDArray[Any]) -> NDArray[Any]:
    """At most 400 drawn rows of an array: enough to search a strength."""
    return rows if len(rows) <= _SAMPLE else rows[rng.integers(len(rows), size=_SAMPLE)]


def to_uint8(values: Floats) -> Bytes:
    """0..1 to 0..255, rounded."""
    return np.rint(values * 255).astype(np.uint8)


def quantized(values: Floats) -> Floats:
    """0..1 as 8 bit would hold it."""
    return np.rint(values * 255) / np.float32(255)


def _soft(region: Mask, feather: float) -> Bytes:
    return np.asarray(Image.fromarray(region).convert("L").filter(ImageFilter.GaussianBlur(feather)))


def _alpha(stencil: Bytes, index: NDArray[np.intp]) -> Floats:
    return stencil.reshape(-1)[index, None] / np.float32(255)
