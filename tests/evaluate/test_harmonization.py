"""Each protocol against plain sums and the libraries that it stands on."""

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio, structural_similarity

from harmonyiqa.errors import UserError
from harmonyiqa.evaluate.harmonization import Measured, fidelity, means, resized


def _triplet(seed: int = 0, size=(40, 52)):
    random = np.random.default_rng(seed)
    real = random.integers(20, 230, (*size, 3), dtype=np.uint8)
    image = np.clip(real + random.normal(0, 9, real.shape), 0, 255).astype(np.uint8)
    mask = np.zeros(size, np.uint8)
    mask[8:30, 10:40] = 255
    return image, real, mask


def _gaussian_ssim(a, b) -> float:
    """SSIM by its definition (Wang et al., 2004): 11 x 11 Gaussian window, sigma 1.5, where it fits, peak 255."""

    def blur(x):
        return gaussian_filter(x, 1.5, radius=5, axes=(0, 1))[5:-5, 5:-5]

    a, b = a.astype(float), b.astype(float)
    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2
    both = blur(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    ssim = (
        (2 * mean_a * mean_b + c1) * (2 * both + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    )
    return ssim.mean()


def test_aict_counts_the_difference_inside_the_mask() -> None:
    image, real, mask = _triplet()
    found = fidelity(image, real, mask, "aict")
    pasted = np.where(mask[..., None] > 0, image, real)
    assert found.mse == pytest.approx(mean_squared_error(real, pasted))
    assert found.psnr == pytest.approx(peak_signal_noise_ratio(real, pasted, data_range=255))
    assert found.ssim == pytest.approx(_gaussian_ssim(real, pasted), abs=1e-9)
    inside = mask > 0
    assert found.fmse == pytest.approx(mean_squared_error(real[inside], image[inside]))
    other = image.copy()
    other[~inside] = 0  # what lies outside does not count
    assert fidelity(other, real, mask, "aict") == found


def test_idih_counts_everything_and_takes_the_photos_peak() -> None:
    image, real, mask = _triplet()
    found = fidelity(image, real, mask, "idih")
    assert found.mse == pytest.approx(mean_squared_error(real, image))
    assert found.psnr == pytest.approx(peak_signal_noise_ratio(real, image, data_range=int(real.max())))
    assert found.fmse == pytest.approx(mean_squared_error(real[mask > 0], image[mask > 0]))
    assert found.ssim == pytest.approx(_gaussian_ssim(real, image), abs=1e-9)


def test_dovenet_counts_at_256_with_the_range_of_the_result() -> None:
    image, real, mask = _triplet(size=(100, 140))
    found = fidelity(image, real, mask, "dovenet")
    small, truth = (
        np.asarray(Image.fromarray(p).resize((256, 256), Image.Resampling.BICUBIC), float)
        for p in (image, real)
    )
    span = small.max() - small.min()
    assert found.mse == pytest.approx(mean_squared_error(truth, small))
    assert found.psnr == pytest.approx(peak_signal_noise_ratio(truth, small, data_range=span))
    assert found.ssim == pytest.approx(structural_similarity(truth, small, data_range=span, channel_axis=2))
    inside = np.asarray(Image.fromarray(mask).convert("1").resize((256, 256)), bool)
    assert found.fmse == pytest.approx(mean_squared_error(truth[inside], small[inside]))


@pytest.mark.parametrize("protocol", ["aict", "idih", "dovenet"])
def test_equal_images_are_perfect(protocol) -> None:
    _, real, mask = _triplet()
    found = fidelity(real, real, mask, protocol)
    assert (found.fmse, found.mse, found.psnr) == (0, 0, 100)
    assert found.ssim == pytest.approx(1)


def test_soft_masks_weigh() -> None:
    image, real, mask = _triplet()
    half = fidelity(image, real, mask // 2, "aict")
    full = fidelity(image, real, mask, "aict")
    assert half.fmse == pytest.approx(full.fmse)
    assert half.mse == pytest.approx(full.mse * 127 / 255)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda i, r, m: (i, r[1:], m), "image 52 x 40, real photo 52 x 39, mask 52 x 40"),
        (lambda i, r, m: (i, r, 0 * m), "the mask is empty"),
        (lambda i, r, m: (i[:10], r[:10], m[:10]), "too small"),
    ],
)
def test_what_cannot_be_measured_is_said(change, message) -> None:
    with pytest.raises(UserError, match=message):
        fidelity(*change(*_triplet()), "aict")
    with pytest.raises(UserError, match="'ssim' is unknown; choose from aict, idih, dovenet"):
        fidelity(*_triplet(), "ssim")


def test_resizing_is_bilinear_for_photos_and_nearest_for_masks() -> None:
    cv2 = pytest.importorskip("cv2")
    image, _, mask = _triplet(size=(70, 111))
    want = cv2.resize(image, (32, 32), interpolation=cv2.INTER_LINEAR).astype(int)
    assert np.abs(resized(image, 32) - want).max() <= 1  # OpenCV computes in fixed point
    want = cv2.resize(mask, (32, 32), interpolation=cv2.INTER_NEAREST)
    np.testing.assert_array_equal(resized(mask, 32), want)
    assert resized(image, None) is image


def test_means_are_over_images_and_leave_failures_out() -> None:
    rows = [
        Measured("a", "x", "one", {"mse": 1.0, "score": 50.0}),
        Measured("b", "x", "one", {"mse": 3.0, "score": 60.0}),
        Measured("c", "x", "two", {"mse": 8.0}),
        Measured("d", "x", "two", {}, "broken"),
    ]
    one, two, every = means(rows)
    assert (one.subset, one.images, one.figures) == ("one", 2, {"mse": 2.0, "score": 55.0})
    assert (two.images, two.figures) == (1, {"mse": 8.0})
    assert (every.subset, every.images, every.figures) == ("All", 3, {"mse": 4.0})
    assert [mean.subset for mean in means(rows[:2])] == ["All"]
