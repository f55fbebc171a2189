"""Colour in float32 NumPy: CIE Lab, CIEDE2000, Reinhard and Monge-Kantorovich statistics.

Every function works on arrays of shape ``(..., 3)``. Lab uses the D65 white point and the 2 degree observer.
scikit-image has the same colour difference in float64; ours is several times faster, which the synthesis of
data needs, and is tested against it.
"""

import math
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats: TypeAlias = NDArray[np.floating[Any]]

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
_WHITE = np.array([0.95047, 1.0, 1.08883], np.float32)
_XYZ_FROM_RGB = np.array(
    [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]],
    np.float32,
)
_RGB_FROM_XYZ = np.linalg.inv(_XYZ_FROM_RGB)


class ColorStatistics(NamedTuple):
    """Mean ``(3,)`` and standard deviation ``(3,)`` of a set of Lab colours."""

    mean: Floats
    std: Floats


def srgb_to_lab(rgb: ArrayLike) -> Floats:
    """sRGB in 0..1 to CIE Lab (L in 0..100), shape kept."""
    rgb = np.asarray(rgb, np.float32)
    linear = np.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** np.float32(2.4), rgb / 12.92)
    xyz = linear @ _XYZ_FROM_RGB.T / _WHITE
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def lab_to_srgb(lab: ArrayLike) -> Floats:
    """CIE Lab to sRGB, clipped to 0..1, shape kept."""
    lab = np.asarray(lab, np.float32)
    y = (lab[..., 0] + 16) / 116
    f = np.stack([y + lab[..., 1] / 500, y, y - lab[..., 2] / 200], axis=-1)
    xyz = np.where(f > 0.2068966, f**3, (f - 16 / 116) / 7.787) * _WHITE
    linear = np.clip(xyz @ _RGB_FROM_XYZ.T, 0, 1)
    return np.where(linear > 0.0031308, 1.055 * linear ** np.float32(1 / 2.4) - 0.055, 12.92 * linear)


def delta_e_2000(lab1: ArrayLike, lab2: ArrayLike) -> Floats:
    """CIEDE2000 colour difference of two Lab arrays ``(..., 3)`` -> ``(...)``; about 1 is just visible.

    Source: G. Sharma, W. Wu, E. N. Dalal, "The CIEDE2000 color-difference formula", Color Research and
    Application 30(1), 2005, with kL = kC = kH = 1.
    """
    lightness1, a1, b1 = np.moveaxis(np.asarray(lab1, np.float32), -1, 0)
    lightness2, a2, b2 = np.moveaxis(np.asarray(lab2, np.float32), -1, 0)

    stretch = 1.5 - 0.5 * _chroma_weight((np.hypot(a1, b1) + np.hypot(a2, b2)) / 2)
    a1, a2 = a1 * stretch, a2 * stretch
    chroma1, chroma2 = np.hypot(a1, b1), np.hypot(a2, b2)
    hue1, hue2 = np.arctan2(b1, a1), np.arctan2(b2, a2)

    grey = chroma1 * chroma2 == 0  # a grey has no hue
    step = np.where(grey, 0, (hue2 - hue1 + np.pi) % (2 * np.pi) - np.pi)
    hue = np.where(grey, hue1 + hue2, hue1 + step / 2)  # the mean along the shorter arc

    d_lightness = lightness2 - lightness1
    d_chroma = chroma2 - chroma1
    d_hue = 2 * np.sqrt(chroma1 * chroma2) * np.sin(step / 2)
    chroma = (chroma1 + chroma2) / 2
    off_middle = ((lightness1 + lightness2) / 2 - 50) ** 2

    t = (
        1
        - 0.17 * np.cos(hue - math.radians(30))
        + 0.24 * np.cos(2 * hue)
        + 0.32 * np.cos(3 * hue + math.radians(6))
        - 0.20 * np.cos(4 * hue - math.radians(63))
    )
    d_lightness = d_lightness / (1 + 0.015 * off_middle / np.sqrt(20 + off_middle))
    d_chroma = d_chroma / (1 + 0.045 * chroma)
    d_hue = d_hue / (1 + 0.015 * chroma * t)
    blue = ((np.degrees(hue) % 360 - 275) / 25) ** 2
    rotation = -2 * _chroma_weight(chroma) * np.sin(math.radians(60) * np.exp(-blue))
    square = d_lightness**2 + d_chroma**2 + d_hue**2 + rotation * d_chroma * d_hue
    return np.sqrt(np.maximum(square, 0)).astype(np.float32)


def _chroma_weight(chroma: Floats) -> Floats:
    seventh = chroma**7
    return np.sqrt(seventh / (seventh + np.float32(25.0**7)))


def lab_statistics(lab: Floats) -> ColorStatistics:
    """Mean and standard deviation of Lab colours ``(N, 3)``."""
    return ColorStatistics(lab.mean(axis=0), lab.std(axis=0))


def reinhard(lab: Floats, source: ColorStatistics, target: ColorStatistics) -> Floats:
    """Move Lab colours ``(..., 3)`` from the mean and deviation of ``source`` to those of ``target``.

    A standard deviation is changed at most threefold, so that noise in a flat region is not blown up.
    Source: E. Reinhard et al., "Color transfer between images", IEEE CG&A 21(5), 2001 (there l-alpha-beta).
    """
    gain = np.clip(target.std / np.maximum(source.std, 1e-3), 1 / 3, 3)
    return (lab - source.mean) * gain + target.mean


def mkl_map(source: Floats, target: Floats) -> tuple[Floats, Floats]:
    """Matrix ``(3, 3)`` and offset ``(3,)`` that give ``source`` the mean and covariance of ``target``.

    ``source @ matrix + offset`` is the Monge-Kantorovich map between two Gaussians: of all linear maps that
    do so, the one that moves the colours least. Colours are ``(N, 3)`` and ``(M, 3)``, of one space.
    Source: F. Pitie, A. Kokaram, "The linear Monge-Kantorovitch linear colour mapping", CVMP 2007.
    """
    tiny = 1e-6 * np.eye(3)
    root = _matrix_power(np.cov(source, rowvar=False) + tiny, 0.5)
    inverse = np.linalg.inv(root)
    middle = _matrix_power(root @ (np.cov(target, rowvar=False) + tiny) @ root, 0.5)
    matrix = inverse @ middle @ inverse
    offset = target.mean(axis=0) - source.mean(axis=0) @ matrix
    return matrix.astype(np.float32), offset.astype(np.float32)


def _matrix_power(symmetric: NDArray[np.float64], power: float) -> NDArray[np.float64]:
    values, vectors = np.linalg.eigh(symmetric)
    return (vectors * np.maximum(values, 0) ** power) @ vectors.T
