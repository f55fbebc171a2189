"""Whole-image fidelity to the reference, from scikit-image. Each score is oriented: higher is better."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

HIGHEST_PSNR = 100.0


def psnr(image: Pixels, reference: Pixels) -> float:
    """Peak signal-to-noise ratio in dB, peak 255, over all pixels and channels.

    At most 100, which equal images get too: a score has to be a finite number.

    Args:
        image: sRGB, shape (H, W, 3).
        reference: sRGB, shape (H, W, 3).
    """
    from skimage.metrics import peak_signal_noise_ratio

    with np.errstate(divide="ignore"):
        return min(HIGHEST_PSNR, float(peak_signal_noise_ratio(reference, image, data_range=255)))


def negative_ciede2000(image: Pixels, reference: Pixels) -> float:
    """Minus the mean CIEDE2000 colour difference over all pixels; 0 for equal images, never above.

    Args:
        image: sRGB, shape (H, W, 3).
        reference: sRGB, shape (H, W, 3).

    Source: G. Sharma, W. Wu, E. N. Dalal, Color Research and Application 30(1), 2005.
    """
    from skimage.color import deltaE_ciede2000, rgb2lab

    return -float(deltaE_ciede2000(rgb2lab(reference), rgb2lab(image)).mean())


# what `harmonyiqa baselines --metrics` takes
METRICS: dict[str, Callable[[Pixels, Pixels], float]] = {"psnr": psnr, "ciede2000": negative_ciede2000}
