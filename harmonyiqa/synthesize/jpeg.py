"""JPEG's loss as tensor code: colour transform, 8 x 8 cosine transform, quantisation. Nothing is stored."""

import math

import torch

# ITU-T T.81, annex K.1: the tables that every encoder scales
_LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61), (12, 12, 14, 19, 26, 58, 60, 55), (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62), (18, 22, 37, 56, 68, 109, 103, 77), (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101), (72, 92, 95, 98, 112, 100, 103, 99),
)  # fmt: skip
_CHROMA = (
    (17, 18, 24, 47, 99, 99, 99, 99), (18, 21, 26, 66, 99, 99, 99, 99), (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99), (99, 99, 99, 99, 99, 99, 99, 99), (99, 99, 99, 99, 99, 99, 99, 99),
    (99, 99, 99, 99, 99, 99, 99, 99), (99, 99, 99, 99, 99, 99, 99, 99),
)  # fmt: skip
_YCC_FROM_RGB = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))


def jpeg(image: torch.Tensor, quality: torch.Tensor) -> torch.Tensor:
    """Images as they come back from baseline JPEG without chroma subsampling.

    Args:
        image: (n, 3, H, W) in 0..1; H and W are multiples of 8.
        quality: (n,) in 50..100, as libjpeg counts it.

    Returns:
        (n, 3, H, W) in 0..1, 8 bit.
    """
    n, _, height, width = image.shape
    colors = torch.tensor(_YCC_FROM_RGB, device=image.device)
    ycc = torch.einsum("ij,njhw->nihw", colors, (image * 255).round()).round()
    ycc[:, 0] -= 128
    blocks = ycc.view(n, 3, height // 8, 8, width // 8, 8).permute(0, 1, 2, 4, 3, 5)
    cosines = _cosines(image.device)
    table = torch.tensor([_LUMA, _CHROMA, _CHROMA], device=image.device)
    scale = (200 - 2 * quality)[:, None, None, None]
    table = ((table * scale + 50) / 100).floor().clamp(1, 255)[:, :, None, None]
    found = (cosines @ blocks @ cosines.T / table).round() * table
    blocks = cosines.T @ found @ cosines
    ycc = blocks.permute(0, 1, 2, 4, 3, 5).reshape(n, 3, height, width).round()
    ycc[:, 0] += 128
    rgb = torch.einsum("ij,njhw->nihw", torch.linalg.inv(colors), ycc)
    return rgb.round().clamp(0, 255) / 255


def _cosines(device: torch.device) -> torch.Tensor:
    """The orthonormal DCT-II of 8 samples, (frequency, place)."""
    place = torch.arange(8, device=device)
    wave = torch.cos(math.pi / 8 * (place + 0.5) * place[:, None]) / 2
    wave[0] /= math.sqrt(2)
    return wave
