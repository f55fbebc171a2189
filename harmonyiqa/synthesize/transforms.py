"""Colour changes of a region: each draws its direction once and is then a function of (colours, strength).

A change works on single colours, so that it can be tried on a sample of the region and applied to all of it.
Strength 0 is the identity; 1 is far beyond what a photo bears, so that most regions can reach every severity.
"""

from collections.abc import Callable

import numpy as np

from harmonyiqa.color import LUMA, Floats, lab_statistics, lab_to_srgb, mkl_map, reinhard, srgb_to_lab
from harmonyiqa.synthesize.severity import Change

_YIQ_FROM_RGB = np.array(
    [[0.299, 0.587, 0.114], [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]], np.float32
)
_RGB_FROM_YIQ = np.linalg.inv(_YIQ_FROM_RGB)


def exposure(rng: np.random.Generator, colors: Floats, donor: Floats) -> Change:
    """Brighter or darker by up to 4 stops (a gain on light, taken through a display gamma of 2.2)."""
    stops = 4.0 * _sign(rng)
    return lambda rgb, strength: _clip(rgb * np.float32(2 ** (strength * stops / 2.2)))


def white_balance(rng: np.random.Generator, colors: Floats, donor: Floats) -> Change:
    """Gains along a drawn direction, warm to cold and partly green to magenta; the luma of white is kept."""
    warm = _sign(rng) * np.array([1.0, 0.0, -1.0])
    tint = rng.uniform(-1, 1) * np.array([-0.5, 1.0, -0.5])
    direction = 1.5 * (warm + tint)

    def change(rgb: Floats, strength: float) -> Floats:
        gain = np.exp(strength * direction)
        return _clip(rgb * (gain / (gain @ LUMA)).astype(np.float32))

    return change


def saturation(rng: np.random.Generator, colors: Floats, donor: Floats) -> Change:
    """Away from or towards the grey of equal luma: chroma times 0 to 10."""
    factor = 9.0 if _sign(rng) > 0 else -1.0

    def change(rgb: Floats, strength: float) -> Floats:
        grey = (rgb @ LUMA)[:, None]
        return _clip(grey + (rgb - grey) * np.float32(1 + strength * factor))

    return change


def contrast(rng: np.random.Generator, colors: Floats, donor: Floats) -> Change:
    """Away from or towards a drawn grey, as an editor's contrast slider does: distance times 0.05 to 5."""
    pivot = np.float32(rng.uniform(0.2, 0.8))
    factor = 4.0 if _sign(rng) > 0 else -0.95
    return lambda rgb, strength: _clip(pivot + (rgb - pivot) * np.float32(1 + strength * factor))


def hue(rng: np.random.Generator, colors: Floats, donor: Floats) -> Change:
    """Rotate the chroma plane of YIQ by up to 180 degrees, luma kept."""
    half_turn = np.pi * _sign(rng)

    def change(rgb: Floats, strength: float) -> Floats:
        cos, sin = np.cos(strength * half_turn), np.sin(strength * half_turn)
        turn = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]], np.float32)
        return _clip(rgb @ (_RGB_FROM_YIQ @ turn @ _YIQ_FROM_RGB).T)

    return change


def gamma(rng: np.random.Generator, colors: Floats, donor: Floats) -> Change:
    """Raise to a power between 1/6 and 6: midtones move, black and white stay."""
    span = np.log(6) * _sign(rng)
    return lambda rgb, strength: rgb ** np.float32(np.exp(strength * span))


def statistics(rng: np.random.Generator, colors: Floats, donor: Floats) -> Change:
    """Lab mean and standard deviation towards the donor's (Reinhard), and up to as far again beyond."""
    source, target = lab_statistics(srgb_to_lab(colors)), lab_statistics(srgb_to_lab(donor))

    def change(rgb: Floats, strength: float) -> Floats:
        lab = srgb_to_lab(rgb)
        return lab_to_srgb(lab + np.float32(2 * strength) * (reinhard(lab, source, target) - lab))

    return change


def covariance(rng: np.random.Generator, colors: Floats, donor: Floats) -> Change:
    """RGB mean and covariance towards the donor's (Monge-Kantorovich), and up to as far again beyond."""
    matrix, offset = mkl_map(colors, donor)
    return lambda rgb, strength: _clip(rgb + np.float32(2 * strength) * (rgb @ matrix + offset - rgb))


Draw = Callable[[np.random.Generator, Floats, Floats], Change]
"""Arguments: a generator, the region's colours ``(N, 3)`` and a donor's colours ``(M, 3)``, sRGB in 0..1."""

PARAMETRIC: dict[str, Draw] = {
    "exposure": exposure,
    "white_balance": white_balance,
    "saturation": saturation,
    "contrast": contrast,
    "hue": hue,
    "gamma": gamma,
}
TRANSFER: dict[str, Draw] = {"statistics": statistics, "covariance": covariance}


def is_near_grey(colors: Floats) -> bool:
    """Whether the mean CIE chroma of sRGB colours ``(N, 3)`` is under 6: no hue or saturation to shift."""
    return bool(np.hypot(*srgb_to_lab(colors)[:, 1:].T).mean() < 6)


def _sign(rng: np.random.Generator) -> float:
    return float(rng.choice((-1.0, 1.0)))


def _clip(rgb: Floats) -> Floats:
    return np.clip(rgb, 0, 1).astype(np.float32, copy=False)
