"""Errors by hand, CIEDE2000 by our own colour code, SSIM by its formula."""

import numpy as np
import pytest
from scipy import ndimage

from harmonyiqa.baselines.full_reference import negative_ciede2000, negative_mse, psnr, ssim
from harmonyiqa.color import delta_e_2000, srgb_to_lab


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 250, (9, 7, 3), dtype=np.uint8)


def test_psnr_by_hand() -> None:
    image = noise(0)
    assert psnr(image + np.uint8(5), image) == pytest.approx(20 * np.log10(255 / 5))
    assert psnr(image, image) == 100
    assert negative_mse(image + np.uint8(5), image) == -25


def test_ciede2000_agrees_with_our_own_formula_and_is_negated() -> None:
    image, reference = noise(1), noise(2)
    expected = delta_e_2000(srgb_to_lab(image / 255), srgb_to_lab(reference / 255)).mean()
    assert negative_ciede2000(image, reference) == pytest.approx(-expected, abs=1e-3)
    assert negative_ciede2000(image, image) == 0


def test_ssim_agrees_with_its_formula() -> None:
    x, y = (np.tile(noise(seed), (3, 3, 1))[..., 0].astype(float) for seed in (4, 5))

    def mean(values: np.ndarray) -> np.ndarray:
        return ndimage.gaussian_filter(values, 1.5, truncate=3.5)

    a, b, (c1, c2) = mean(x), mean(y), ((0.01 * 255) ** 2, (0.03 * 255) ** 2)
    covariance = mean(x * y) - a * b
    top = (2 * a * b + c1) * (2 * covariance + c2)
    bottom = (a * a + b * b + c1) * (mean(x * x) - a * a + mean(y * y) - b * b + c2)
    inner = (slice(5, -5), slice(5, -5))
    grey = [np.repeat(v[..., None], 3, axis=2).astype(np.uint8) for v in (x, y)]
    assert ssim(*grey) == pytest.approx((top / bottom)[inner].mean(), abs=1e-6)
    assert ssim(grey[0], grey[0]) == pytest.approx(1)


@pytest.mark.parametrize("metric", [negative_mse, psnr, negative_ciede2000, ssim])
def test_a_larger_change_scores_lower(metric) -> None:
    image = np.tile(noise(3), (2, 2, 1))
    scores = [metric(np.clip(image * gain, 0, 255).astype(np.uint8), image) for gain in (1.0, 0.9, 0.7, 0.4)]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == 4
