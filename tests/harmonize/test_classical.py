"""Facts about each classical method on made-up photos."""

import numpy as np
import pytest

from harmonyiqa.color import srgb_to_lab
from harmonyiqa.errors import UserError
from harmonyiqa.harmonize.classical import METHODS, Pixels
from harmonyiqa.harmonize.methods import NAMES, harmonizer

STATISTICAL = ["reinhard", "mkl", "histogram", "idt", "palette"]


def _scene(seed: int = 0, size=(60, 80)) -> tuple[Pixels, Pixels]:
    """Noise of one distribution everywhere, the foreground darker, bluer and with less contrast."""
    random = np.random.default_rng(seed)
    colors = np.clip(random.normal((0.6, 0.5, 0.4), (0.12, 0.1, 0.08), (*size, 3)), 0, 1)
    mask = np.zeros(size, np.uint8)
    mask[15:45, 20:60] = 255
    composite = np.where(mask[..., None] > 0, colors * (0.4, 0.5, 0.7) + (0, 0, 0.1), colors)
    return np.rint(composite * 255).astype(np.uint8), mask


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_the_background_is_untouched_in_every_depth(method, dtype) -> None:
    pixels, mask = _scene()
    mask[30, 20:60] = 100  # soft inside too
    high = 1 if dtype == np.float32 else np.iinfo(dtype).max
    deep = (pixels / 255 * high).astype(dtype)
    out = METHODS[method](deep, mask)
    assert (out.dtype, out.shape) == (deep.dtype, deep.shape)
    np.testing.assert_array_equal(out[mask == 0], deep[mask == 0])
    assert out.max() <= high
    want = METHODS[method](pixels, mask) / 255
    assert np.abs(out / high - want).mean() < 0.01  # depth is no matter of colour


def test_copy_is_the_identity() -> None:
    pixels, mask = _scene()
    out = METHODS["copy"](pixels, mask)
    np.testing.assert_array_equal(out, pixels)
    assert out is not pixels


@pytest.mark.parametrize("method", STATISTICAL)
def test_the_foreground_takes_the_mean_of_the_background(method) -> None:
    pixels, mask = _scene()
    out = METHODS[method](pixels, mask)
    inside, outside = (srgb_to_lab(out[chosen] / 255).mean(axis=0) for chosen in (mask > 0, mask == 0))
    assert np.linalg.norm(inside - outside) < 2
    before = srgb_to_lab(pixels[mask > 0] / 255).mean(axis=0)
    assert np.linalg.norm(before - outside) > 15


def test_mkl_takes_the_covariance_and_idt_the_whole_distribution() -> None:
    pixels, mask = _scene()
    background = pixels[mask == 0] / 255
    mkl, idt = (METHODS[name](pixels, mask)[mask > 0] / 255 for name in ("mkl", "idt"))
    np.testing.assert_allclose(np.cov(mkl.T), np.cov(background.T), atol=1e-3)
    share = np.linspace(0.02, 0.98, 25)
    for axis in np.random.default_rng(1).normal(size=(5, 3)):
        want = np.quantile(background @ axis, share)
        assert np.abs(np.quantile(idt @ axis, share) - want).max() < 0.04


def test_histograms_are_those_of_scikit_image() -> None:
    from skimage.exposure import match_histograms

    pixels, mask = _scene()
    out = METHODS["histogram"](pixels, mask)[mask > 0]
    want = match_histograms(pixels[mask > 0] / 255, pixels[mask == 0] / 255, channel_axis=-1)
    assert np.abs(out / 255 - want).max() <= 0.5 / 255 + 1e-6


def test_palette_colours_go_to_the_nearest_of_the_background() -> None:
    """A two-coloured foreground, each colour near one of the background's two: none crosses over."""
    pixels = np.zeros((40, 40, 3), np.uint8)
    pixels[:, :20], pixels[:, 20:] = (200, 60, 60), (60, 60, 200)
    mask = np.zeros((40, 40), np.uint8)
    mask[10:30, 10:30] = 255
    pixels[10:30, 10:20], pixels[10:30, 20:30] = (160, 40, 40), (40, 40, 160)
    out = METHODS["palette"](pixels, mask).astype(int)
    assert np.abs(out[12:28, 12:18] - (200, 60, 60)).max() <= 3
    assert np.abs(out[12:28, 22:28] - (60, 60, 200)).max() <= 3


@pytest.mark.parametrize("size", [(40, 50), (700, 600)])  # the second on a coarser grid
def test_poisson_takes_a_constant_offset_away(size) -> None:
    """A ramp with a piece of it shifted by a constant: the gradients inside are right, so the ramp comes back."""
    height, width = size
    ramp = np.linspace(0.3, 0.6, width, dtype=np.float32)[None, :, None] + np.zeros(
        (height, 1, 3), np.float32
    )
    mask = np.zeros(size, np.uint8)
    mask[height // 4 : 3 * height // 4, width // 4 : 3 * width // 4] = 255
    composite = np.where(mask[..., None] > 0, ramp + np.float32(0.2), ramp)
    out = METHODS["poisson"](composite, mask)
    assert (
        np.abs(out - ramp).max() < 0.01
    )  # one step of the ramp: the gradient across the edge counts as none


def test_poisson_solves_laplaces_equation() -> None:
    random = np.random.default_rng(0)
    composite = random.random((24, 30, 3)).astype(np.float32) * 0.2 + 0.4
    mask = np.zeros((24, 30), np.uint8)
    mask[6:18, 8:22] = 255
    added = METHODS["poisson"](composite, mask) - composite
    inner = added[7:17, 9:21]
    around = (added[6:16, 9:21] + added[8:18, 9:21] + added[7:17, 8:20] + added[7:17, 10:22]) / 4
    np.testing.assert_allclose(inner, around, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_a_foreground_of_one_pixel_is_no_accident(method) -> None:
    pixels, mask = _scene()
    mask[:] = 0
    mask[30, 40] = 255
    out = METHODS[method](pixels, mask)
    assert np.isfinite(out).all()
    np.testing.assert_array_equal(out[mask == 0], pixels[mask == 0])
    if method not in ("copy", "poisson"):
        mean = pixels[mask == 0].mean(axis=0)
        assert np.abs(out[30, 40] - mean).max() < 25


@pytest.mark.parametrize("method", METHODS)
def test_masks_that_cannot_be_are_refused(method) -> None:
    pixels, mask = _scene()
    with pytest.raises(UserError, match="the mask is 80 x 59, the image 80 x 60"):
        METHODS[method](pixels, mask[1:])
    with pytest.raises(UserError, match="the mask is empty"):
        METHODS[method](pixels, 0 * mask)
    full = np.full_like(mask, 255)
    if method == "copy":
        np.testing.assert_array_equal(METHODS[method](pixels, full), pixels)
    else:
        with pytest.raises(UserError, match="the mask is full"):
            METHODS[method](pixels, full)


def test_an_unknown_method_is_refused_with_the_list() -> None:
    with pytest.raises(UserError, match=r"'magic' is unknown; choose from aict, copy"):
        harmonizer("magic")
    assert harmonizer("mkl") is METHODS["mkl"]
    assert NAMES[0] == "aict"
