"""How far a region is off, in CIEDE2000, and the pseudo-MOS that stands for it.

Severity is drawn first and independently of the method; then the strength that gives it is searched for. So
a method says nothing about the score.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from harmonyiqa.color import Colors, Floats, delta_e_2000, srgb_to_lab

Change = Callable[[Colors, Any], Colors]
"""sRGB colours ``(..., N, 3)`` and strengths, all in 0..1 -> changed colours; strength 0 changes nothing."""

BEST_MOS = 77.6  # HarmonyIQAD's MOS lie in 28.09-77.61
WORST_MOS = 28.0
UNTOUCHED_SHARE = 0.07
_FLOOR = 20.0
_SCALE = 15.0
_SHAPE = (1.4, 2.1)
_BISECTIONS = 10
_CLOSE = 0.2  # close enough: the score follows the severity that was measured, not the one that was wanted


def mos_of(delta_e: float) -> float:
    """Pseudo-MOS of a mean CIEDE2000 difference: ``20 + 57.6 exp(-dE / 15)``, falling from 77.6 at 0."""
    return _FLOOR + (BEST_MOS - _FLOOR) * math.exp(-delta_e / _SCALE)


def delta_e_of(mos: float) -> float:
    """Inverse of :func:`mos_of` for a MOS in (20, 77.6]; 28 is a difference of 29.6."""
    return -_SCALE * math.log((mos - _FLOOR) / (BEST_MOS - _FLOOR))


WORST_DELTA_E = delta_e_of(WORST_MOS)


def draw_delta_e(rng: np.random.Generator) -> float:
    """Draw a severity whose pseudo-MOS, together with the untouched rows, is spread like HarmonyIQAD's MOS.

    MOS = 28 + 50 Beta(1.4, 2.1), fitted to the 1,350 released labels: mean 50.1 and standard deviation 13.4
    here, 49.9 and 13.1 there; but for the untouched rows the distribution functions differ by at most 0.06.
    """
    return delta_e_of(min(WORST_MOS + 50 * rng.beta(*_SHAPE), BEST_MOS))


def delta_e_quantiles(count: int) -> Floats:
    """The same distribution as ``count`` equally likely severities, float32."""
    from scipy.stats import beta

    mos = WORST_MOS + 50 * beta.ppf((np.arange(count) + 0.5) / count, *_SHAPE)
    return np.array([delta_e_of(min(m, BEST_MOS)) for m in mos], np.float32)


def mean_delta_e(before: Floats, after: Floats) -> float:
    """Mean CIEDE2000 difference of two lists of sRGB colours ``(N, 3)`` in 0..1."""
    return float(delta_e_2000(srgb_to_lab(before), srgb_to_lab(after)).mean())


def find_strength(change: Change, colors: Floats, alpha: Floats | float, target: float) -> float:
    """Bisect for the strength whose mean CIEDE2000 difference over ``colors`` is ``target``.

    Args:
        change: the colour change.
        colors: the region's sRGB colours ``(N, 3)``.
        alpha: share of the changed colour in the blend, 0..1: ``(N, 1)`` or a number.
        target: wanted difference.

    Returns:
        The strength in 0..1; 1 where even that does not reach the target.
    """
    lab = srgb_to_lab(colors)
    low, high = 0.0, 1.0
    for _ in range(_BISECTIONS):
        strength = (low + high) / 2
        blended = colors + alpha * (change(colors, strength) - colors)
        excess = delta_e_2000(lab, srgb_to_lab(blended)).mean() - target
        if abs(excess) < _CLOSE:
            return strength
        low, high = (low, strength) if excess > 0 else (strength, high)
    return high
