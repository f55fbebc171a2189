"""Colour changes of a region: each draws its direction once and is then a function of (colours, strength).

A change works on single colours, so that it can be tried on a sample of the region and applied to all of it.
Strength 0 is the identity; 1 is far beyond what a photo bears, so that most regions can reach every severity.

Everything here works on one region, NumPy colours ``(N, 3)`` with a number for strength, and on many at once, torch
tensors ``(n, N, 3)`` with a tensor ``(n, 1, 1)``.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from harmonyiqa.color import (
    LUMA,
    Colors,
    lab_statistics,
    lab_to_srgb,
    like,
    mkl_map,
    reinhard,
    srgb_to_lab,
)
from harmonyiqa.synthesize.severity import Change

Uniform = Callable[[float, float], Any]
"""Draws from an interval: a number, or a tensor ``(n, 1, 1)`` for n regions. ``rng.uniform`` is one."""

_YIQ_FROM_RGB = np.array(
    [[0.299, 0.587, 0.114], [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]], np.float32
)
_RGB_FROM_YIQ = np.linalg.inv(_YIQ_FROM_RGB)
_WARM = np.array([1.0, 0.0, -1.0], np.float32)
_TINT = np.array([-0.5, 1.0, -0.5], np.float32)


def exposure(uniform: Uniform, colors: Colors, donor: Colors) -> Change:
    """Brighter or darker by up to 4 stops (a gain on light, taken through a display gamma of 2.2)."""
    stops = 4.0 * _sign(uniform)
    return lambda rgb, strength: _clip(rgb * 2.0 ** (strength * stops / 2.2))


def white_balance(uniform: Uniform, colors: Colors, donor: Colors) -> Change:
    """Gains along a drawn direction, warm to cold and partly green to magenta; the luma of white is kept."""
    direction = 1.5 * (_sign(uniform) * like(_WARM, colors) + uniform(-1, 1) * like(_TINT, colors))

    def change(rgb: Colors, strength: Any) -> Colors:
        gain = array_namespace(rgb).exp(strength * direction)
        return _clip(rgb * gain / (gain @ like(LUMA, rgb))[..., None])

    return change


def saturation(uniform: Uniform, colors: Colors, donor: Colors) -> Change:
    """Away from or towards the grey of equal luma: chroma times 0 to 10."""
    factor = 4.0 + 5.0 * _sign(uniform)

    def change(rgb: Colors, strength: Any) -> Colors:
        grey = (rgb @ like(LUMA, rgb))[..., None]
        return _clip(grey + (rgb - grey) * (1 + strength * factor))

    return change


def contrast(uniform: Uniform, colors: Colors, donor: Colors) -> Change:
    """Away from or towards a drawn grey, as an editor's contrast slider does: distance times 0.05 to 5."""
    pivot = uniform(0.2, 0.8)
    factor = 1.525 + 2.475 * _sign(uniform)
    return lambda rgb, strength: _clip(pivot + (rgb - pivot) * (1 + strength * factor))


def hue(uniform: Uniform, colors: Colors, donor: Colors) -> Change:
    """Rotate the chroma plane of YIQ by up to 180 degrees, luma kept."""
    half_turn = math.pi * _sign(uniform)

    def change(rgb: Colors, strength: Any) -> Colors:
        xp = array_namespace(rgb)
        angle = xp.asarray(strength * half_turn, dtype=rgb.dtype)
        cos, sin = xp.cos(angle), xp.sin(angle)
        yiq = rgb @ like(_YIQ_FROM_RGB.T, rgb)
        y, i, q = yiq[..., :1], yiq[..., 1:2], yiq[..., 2:]
        turned = xp.concat([y, cos * i - sin * q, sin * i + cos * q], axis=-1)
        return _clip(turned @ like(_RGB_FROM_YIQ.T, rgb))

    return change


def gamma(uniform: Uniform, colors: Colors, donor: Colors) -> Change:
    """Raise to a power between 1/6 and 6: midtones move, black and white stay."""
    sign = _sign(uniform)
    return lambda rgb, strength: rgb**6.0 ** (strength * sign)


def statistics(uniform: Uniform, colors: Colors, donor: Colors) -> Change:
    """Lab mean and standard deviation towards the donor's (Reinhard), and up to as far again beyond."""
    source, target = lab_statistics(srgb_to_lab(colors)), lab_statistics(srgb_to_lab(donor))

    def change(rgb: Colors, strength: Any) -> Colors:
        lab = srgb_to_lab(rgb)
        return lab_to_srgb(lab + 2 * strength * (reinhard(lab, source, target) - lab))

    return change


def covariance(uniform: Uniform, colors: Colors, donor: Colors) -> Change:
    """RGB mean and covariance towards the donor's (Monge-Kantorovich), and up to as far again beyond."""
    matrix, offset = mkl_map(colors, donor)
    return lambda rgb, strength: _clip(rgb + 2 * strength * (rgb @ matrix + offset - rgb))


Draw = Callable[[Uniform, Colors, Colors], Change]
"""Arguments: how to draw, the region's colours ``(..., N, 3)`` and a donor's ``(..., M, 3)``, sRGB in 0..1."""

PARAMETRIC: dict[str, Draw] = {
    "exposure": exposure,
    "white_balance": white_balance,
    "saturation": saturation,
    "contrast": contrast,
    "hue": hue,
    "gamma": gamma,
}
TRANSFER: dict[str, Draw] = {"statistics": statistics, "covariance": covariance}


def is_near_grey(colors: Colors) -> Any:
    """Whether the mean CIE chroma of sRGB colours ``(..., N, 3)`` is under 6: no hue or saturation to shift."""
    xp = array_namespace(colors)
    lab = srgb_to_lab(colors)
    return xp.mean(xp.hypot(lab[..., 1], lab[..., 2]), axis=-1) < 6


def _sign(uniform: Uniform) -> Any:
    return 2.0 * (uniform(-1, 1) > 0) - 1.0


def _clip(rgb: Colors) -> Colors:
    return array_namespace(rgb).clip(rgb, 0, 1)
