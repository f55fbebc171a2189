"""Fidelity to the reference, from scikit-image. Each score is oriented: higher is better."""

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

HIGHEST_PSNR = 100.0


def negative_mse(image: Pixels, reference: Pixels) -> float:
    """Minus the mean squared error over all pixels and channels, 0-255; 0 for equal images, never above.

    Args:
        image: sRGB, shape (H, W, 3).
        reference: sRGB, shape (H, W, 3).
    """
    from skimage.metrics import mean_squared_error

    return -float(mean_squared_error(reference, image))


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


def ssim(image: Pixels, reference: Pixels) -> float:
    """Structural similarity, mean over the channels; 1 for equal images. No subsampling before.

    Args:
        image: sRGB, shape (H, W, 3), at least 11 pixels a side.
        reference: sRGB, shape (H, W, 3).

    Raises:
        ValueError: if the images are smaller than the window.

    Source: Z. Wang, A. C. Bovik, H. R. Sheikh, E. P. Simoncelli, IEEE Transactions on Image Processing 13(4),
    2004: Gaussian window of 1.5 pixels, 11 x 11.
    """
    from skimage.metrics import structural_similarity

    return float(
        structural_similarity(
            reference,
            image,
            channel_axis=2,
            data_range=255,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
    )
