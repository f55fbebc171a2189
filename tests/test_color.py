import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from harmonyiqa.color import delta_e_2000, lab_statistics, lab_to_srgb, mkl_map, reinhard, srgb_to_lab

skimage_color = pytest.importorskip("skimage.color")

# Sharma, Wu, Dalal 2005, table 1: pairs 1, 7, 9, 12, 16, 17, 25, 34
SHARMA = [
    ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
    ((50, 0, 0), (50, -1, 2), 2.3669),
    ((50, 2.49, -0.001), (50, -2.49, 0.0009), 7.1792),
    ((50, 2.49, -0.001), (50, -2.49, 0.0012), 7.2195),
    ((50, 2.5, 0), (50, 0, -2.5), 4.3065),
    ((50, 2.5, 0), (73, 25, -18), 27.1492),
    ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
    ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082),
]


@pytest.fixture
def colors() -> np.ndarray:
    rng = np.random.default_rng(0)
    drawn = rng.random((5000, 3), dtype=np.float32)
    drawn[:200] = drawn[:200, :1]  # greys
    drawn[200], drawn[201] = 0, 1
    return drawn


@pytest.mark.parametrize(("first", "second", "expected"), SHARMA)
def test_delta_e_2000_of_the_published_pairs(first: tuple, second: tuple, expected: float) -> None:
    one, other = np.array(first, np.float32), np.array(second, np.float32)
    assert delta_e_2000(one, other) == pytest.approx(expected, abs=1e-4)
    assert delta_e_2000(other, one) == pytest.approx(expected, abs=1e-4)


def test_delta_e_2000_agrees_with_scikit_image(colors: np.ndarray) -> None:
    lab = srgb_to_lab(colors)
    shuffled = lab[np.random.default_rng(1).permutation(len(lab))]
    oracle = skimage_color.deltaE_ciede2000(lab.astype(np.float64), shuffled.astype(np.float64))
    np.testing.assert_allclose(delta_e_2000(lab, shuffled), oracle, atol=1e-3)


def test_delta_e_2000_stays_float32_and_drops_the_last_axis(colors: np.ndarray) -> None:
    lab = srgb_to_lab(colors.reshape(50, 100, 3))
    assert delta_e_2000(lab, lab + 1).shape == (50, 100)
    assert delta_e_2000(lab, lab + 1).dtype == lab.dtype == np.float32


@settings(deadline=None)
@given(arrays(np.float32, (4, 3), elements=st.floats(0, 1, width=32)))
def test_delta_e_2000_of_equal_colors_is_exactly_zero(rgb: np.ndarray) -> None:
    lab = srgb_to_lab(rgb)
    assert (delta_e_2000(lab, lab) == 0).all()


def test_lab_agrees_with_scikit_image_and_comes_back(colors: np.ndarray) -> None:
    lab = srgb_to_lab(colors)
    np.testing.assert_allclose(lab, skimage_color.rgb2lab(colors.astype(np.float64)), atol=1e-3)
    np.testing.assert_allclose(lab_to_srgb(lab), colors, atol=1e-4)


def test_lab_to_srgb_clips_colors_that_no_screen_shows() -> None:
    rgb = lab_to_srgb(np.array([[50, 120, -120], [120, 0, 0], [-20, 0, 0]], np.float32))
    assert rgb.min() >= 0
    assert rgb.max() <= 1


def test_reinhard_gives_the_target_statistics(colors: np.ndarray) -> None:
    lab = srgb_to_lab(colors)
    source, target = lab_statistics(lab), lab_statistics(srgb_to_lab(colors * 0.5 + 0.1))
    moved = lab_statistics(reinhard(lab, source, target))
    np.testing.assert_allclose(moved.mean, target.mean, atol=1e-2)
    np.testing.assert_allclose(moved.std, target.std, atol=1e-2)


def test_reinhard_stretches_a_flat_region_at_most_threefold(colors: np.ndarray) -> None:
    lab = srgb_to_lab(colors)
    flat = 50 + 0.01 * lab
    moved = reinhard(flat, lab_statistics(flat), lab_statistics(lab))
    np.testing.assert_allclose(lab_statistics(moved).std, 3 * lab_statistics(flat).std, rtol=1e-2)


def test_mkl_map_gives_the_target_mean_and_covariance(colors: np.ndarray) -> None:
    target = (colors**2 @ np.array([[0.5, 0.1, 0], [0, 0.4, 0.3], [0.2, 0, 0.6]], np.float32))[::2]
    matrix, offset = mkl_map(colors, target)
    moved = colors @ matrix + offset
    np.testing.assert_allclose(moved.mean(axis=0), target.mean(axis=0), atol=1e-4)
    np.testing.assert_allclose(np.cov(moved.T), np.cov(target.T), atol=1e-4)
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-5)  # symmetric: the map that moves colours least


def test_mkl_map_of_a_set_onto_itself_is_the_identity(colors: np.ndarray) -> None:
    matrix, offset = mkl_map(colors, colors)
    np.testing.assert_allclose(matrix, np.eye(3), atol=1e-4)
    np.testing.assert_allclose(offset, 0, atol=1e-4)
