"""Colour: CIE Lab, CIEDE2000, Reinhard and Monge-Kantorovich statistics.

Every function works on NumPy arrays and on torch tensors of shape ``(..., 3)``, in float32. Lab uses the D65 white
point and the 2 degree observer. scikit-image has the same colour difference in float64 and for arrays only; ours is
several times faster, which the synthesis of data needs, and is tested against it.
"""

import math
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from array_api_compat import array_namespace, device
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.floating[Any]]
Colors: TypeAlias = Any
"""A NumPy array or a torch tensor of float32, last axis the three channels."""

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
_WHITE = np.array([0.95047, 1.0, 1.08883], np.float32)
_XYZ_FROM_RGB = np.array(
    [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]],
    np.float32,
)
_RGB_FROM_XYZ = np.linalg.inv(_XYZ_FROM_RGB)


class ColorStatistics(NamedTuple):
    """Mean and standard deviation ``(..., 1, 3)`` of sets of Lab colours."""

    mean: Colors
    std: Colors


def like(constant: Floats, colors: Colors) -> Colors:
    """A constant as ``colors`` are: array or tensor, on the same device."""
    return array_namespace(colors).asarray(constant, device=device(colors))


def srgb_to_lab(rgb: Colors) -> Colors:
    """sRGB in 0..1 to CIE Lab (L in 0..100), shape kept."""
    xp = array_namespace(rgb)
    linear = xp.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    xyz = linear @ like((_XYZ_FROM_RGB.T / _WHITE), rgb)
    # 1e-8: a power of zero has no gradient; the branch is not taken there
    f = xp.where(xyz > 0.008856, xp.clip(xyz, 1e-8, None) ** (1 / 3), 7.787 * xyz + 16 / 116)
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    return xp.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def lab_to_srgb(lab: Colors) -> Colors:
    """CIE Lab to sRGB, clipped to 0..1, shape kept."""
    xp = array_namespace(lab)
    y = (lab[..., 0] + 16) / 116
    f = xp.stack([y + lab[..., 1] / 500, y, y - lab[..., 2] / 200], axis=-1)
    xyz = xp.where(f > 0.2068966, f**3, (f - 16 / 116) / 7.787)
    linear = xp.clip(xyz @ like(_WHITE[:, None] * _RGB_FROM_XYZ.T, lab), 0, 1)
    curve = 1.055 * xp.clip(linear, 1e-8, None) ** (1 / 2.4) - 0.055
    return xp.where(linear > 0.0031308, curve, 12.92 * linear)


def delta_e_2000(lab1: Colors, lab2: Colors) -> Colors:
    """CIEDE2000 colour difference of Lab colours ``(..., 3)`` -> ``(...)``; about 1 is just visible.

    Source: G. Sharma, W. Wu, E. N. Dalal, "The CIEDE2000 color-difference formula", Color Research and
    Application 30(1), 2005, with kL = kC = kH = 1.
    """
    xp = array_namespace(lab1, lab2)
    lightness1, a1, b1 = (lab1[..., i] for i in range(3))
    lightness2, a2, b2 = (lab2[..., i] for i in range(3))

    stretch = 1.5 - 0.5 * _chroma_weight((xp.hypot(a1, b1) + xp.hypot(a2, b2)) / 2)
    a1, a2 = a1 * stretch, a2 * stretch
    chroma1, chroma2 = xp.hypot(a1, b1), xp.hypot(a2, b2)
    hue1, hue2 = xp.atan2(b1, a1), xp.atan2(b2, a2)

    grey = chroma1 * chroma2 == 0  # a grey has no hue
    step = xp.where(grey, 0.0, (hue2 - hue1 + math.pi) % (2 * math.pi) - math.pi)
    hue = xp.where(grey, hue1 + hue2, hue1 + step / 2)  # the mean along the shorter arc

    d_lightness = lightness2 - lightness1
    d_chroma = chroma2 - chroma1
    d_hue = 2 * xp.sqrt(chroma1 * chroma2) * xp.sin(step / 2)
    chroma = (chroma1 + chroma2) / 2
    off_middle = ((lightness1 + lightness2) / 2 - 50) ** 2

    t = (
        1
        - 0.17 * xp.cos(hue - math.radians(30))
        + 0.24 * xp.cos(2 * hue)
        + 0.32 * xp.cos(3 * hue + math.radians(6))
        - 0.20 * xp.cos(4 * hue - math.radians(63))
    )
    d_lightness = d_lightness / (1 + 0.015 * off_middle / xp.sqrt(20 + off_middle))
    d_chroma = d_chroma / (1 + 0.045 * chroma)
    d_hue = d_hue / (1 + 0.015 * chroma * t)
    blue = ((hue * (180 / math.pi) % 360 - 275) / 25) ** 2
    rotation = -2 * _chroma_weight(chroma) * xp.sin(math.radians(60) * xp.exp(-blue))
    square = d_lightness**2 + d_chroma**2 + d_hue**2 + rotation * d_chroma * d_hue
    return xp.sqrt(xp.clip(square, 0, None))


def _chroma_weight(chroma: Colors) -> Colors:
    seventh = chroma**7
    return (seventh / (seventh + 25.0**7)) ** 0.5


def lab_statistics(lab: Colors) -> ColorStatistics:
    """Mean and standard deviation of sets of Lab colours ``(..., N, 3)``."""
    xp = array_namespace(lab)
    return ColorStatistics(xp.mean(lab, axis=-2, keepdims=True), xp.std(lab, axis=-2, keepdims=True))


def reinhard(lab: Colors, source: ColorStatistics, target: ColorStatistics) -> Colors:
    """Move Lab colours ``(..., N, 3)`` from the mean and deviation of ``source`` to those of ``target``.

    A standard deviation is changed at most threefold, so that noise in a flat region is not blown up.
    Source: E. Reinhard et al., "Color transfer between images", IEEE CG&A 21(5), 2001 (there l-alpha-beta).
    """
    xp = array_namespace(lab)
    gain = xp.clip(target.std / xp.clip(source.std, 1e-3, None), 1 / 3, 3)
    return (lab - source.mean) * gain + target.mean


def mkl_map(source: Colors, target: Colors) -> tuple[Colors, Colors]:
    """Matrix ``(..., 3, 3)`` and offset ``(..., 1, 3)`` that give ``source`` the mean and covariance of ``target``.

    ``source @ matrix + offset`` is the Monge-Kantorovich map between two Gaussians: of all linear maps that
    do so, the one that moves the colours least. Colours are ``(..., N, 3)`` and ``(..., M, 3)``, of one space.
    Source: F. Pitie, A. Kokaram, "The linear Monge-Kantorovitch linear colour mapping", CVMP 2007.
    """
    xp = array_namespace(source, target)
    (mean1, spread1), (mean2, spread2) = _gaussian(source), _gaussian(target)
    root, inverse = _symmetric_power(spread1, 0.5), _symmetric_power(spread1, -0.5)
    matrix = inverse @ _symmetric_power(root @ spread2 @ root, 0.5) @ inverse
    matrix = xp.astype(matrix, source.dtype)
    return matrix, mean2 - mean1 @ matrix


def _gaussian(colors: Colors) -> tuple[Colors, Colors]:
    """Mean ``(..., 1, 3)`` and covariance ``(..., 3, 3)``, the latter in float64 and never singular."""
    xp = array_namespace(colors)
    mean = xp.mean(colors, axis=-2, keepdims=True)
    off = xp.astype(colors - mean, xp.float64)
    spread = xp.matrix_transpose(off) @ off / (colors.shape[-2] - 1)
    return mean, spread + like(1e-6 * np.eye(3), colors)


def _symmetric_power(matrix: Colors, power: float) -> Colors:
    xp = array_namespace(matrix)
    values, vectors = xp.linalg.eigh(matrix)
    return (vectors * xp.clip(values, 1e-12, None)[..., None, :] ** power) @ xp.matrix_transpose(vectors)
