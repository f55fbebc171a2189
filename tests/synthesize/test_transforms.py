import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harmonyiqa.color import LUMA, lab_statistics, srgb_to_lab
from harmonyiqa.synthesize.severity import Change, mean_delta_e
from harmonyiqa.synthesize.transforms import PARAMETRIC, TRANSFER, is_near_grey

EVERY = PARAMETRIC | TRANSFER


def some_colors(seed: int, low: float = 0.0, high: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(low, high, (400, 3)).astype(np.float32)


def drawn(name: str, seed: int) -> tuple[np.ndarray, Change]:
    colors = some_colors(seed, 0.1, 0.7)
    return colors, EVERY[name](np.random.default_rng(seed).uniform, colors, some_colors(seed + 1, 0.3, 1.0))


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10_000))
@pytest.mark.parametrize("name", EVERY)
def test_strength_zero_changes_nothing(name: str, seed: int) -> None:
    colors, change = drawn(name, seed)
    np.testing.assert_allclose(change(colors, 0.0), colors, atol=2e-4)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10_000), strength=st.floats(0, 1))
@pytest.mark.parametrize("name", EVERY)
def test_colors_stay_float32_in_range(name: str, seed: int, strength: float) -> None:
    colors, change = drawn(name, seed)
    changed = change(colors, strength)
    assert changed.dtype == np.float32
    assert changed.shape == colors.shape
    assert changed.min() >= 0
    assert changed.max() <= 1


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", EVERY)
def test_more_strength_moves_colors_further(name: str, seed: int) -> None:
    colors, change = drawn(name, seed)
    moved = [mean_delta_e(colors, change(colors, strength)) for strength in (0, 0.1, 0.25, 0.5)]
    assert moved == sorted(moved)
    assert moved[-1] > 3


@pytest.mark.parametrize("name", EVERY)
def test_a_part_changes_as_the_whole_does(name: str) -> None:
    colors, change = drawn(name, seed=5)
    np.testing.assert_allclose(change(colors, 0.3)[::7], change(colors[::7], 0.3), atol=1e-6)


@pytest.mark.parametrize("name", ["hue", "saturation"])
def test_luma_is_kept_where_nothing_clips(name: str) -> None:
    colors = some_colors(0, 0.45, 0.55)
    for seed in range(4):
        change = EVERY[name](np.random.default_rng(seed).uniform, colors, colors)
        np.testing.assert_allclose(change(colors, 0.2) @ LUMA, colors @ LUMA, atol=1e-3)


@pytest.mark.parametrize("name", ["exposure", "white_balance", "saturation", "contrast", "hue", "gamma"])
def test_directions_differ_between_draws(name: str) -> None:
    colors = some_colors(0, 0.2, 0.8)
    rng = np.random.default_rng(0)
    means = {
        tuple(PARAMETRIC[name](rng.uniform, colors, colors)(colors, 0.3).mean(axis=0).round(3))
        for _ in range(12)
    }
    assert len(means) > 1


def test_half_strength_statistics_are_the_donors() -> None:
    colors, donor = some_colors(0, 0.35, 0.5), some_colors(1, 0.4, 0.6)
    changed = TRANSFER["statistics"](np.random.default_rng(0).uniform, colors, donor)(colors, 0.5)
    reached, wanted = lab_statistics(srgb_to_lab(changed)), lab_statistics(srgb_to_lab(donor))
    np.testing.assert_allclose(reached.mean, wanted.mean, atol=0.1)
    np.testing.assert_allclose(reached.std, wanted.std, atol=0.1)


def test_half_strength_covariance_is_the_donors() -> None:
    colors, donor = some_colors(0, 0.35, 0.5), some_colors(1, 0.4, 0.6)
    changed = TRANSFER["covariance"](np.random.default_rng(0).uniform, colors, donor)(colors, 0.5)
    np.testing.assert_allclose(changed.mean(axis=0), donor.mean(axis=0), atol=1e-3)
    np.testing.assert_allclose(np.cov(changed.T), np.cov(donor.T), atol=1e-4)


def test_near_grey_is_told_by_chroma() -> None:
    grey = np.repeat(np.linspace(0, 1, 50, dtype=np.float32)[:, None], 3, axis=1)
    assert is_near_grey(grey)
    assert is_near_grey(grey * np.float32([1, 0.99, 0.98]))
    assert not is_near_grey(grey * np.float32([1, 0.6, 0.3]))


@pytest.mark.parametrize("name", EVERY)
def test_many_regions_as_tensors_change_as_each_does_as_an_array(name: str) -> None:
    torch = pytest.importorskip("torch")
    seeds = range(3)
    colors, donors = (np.stack([some_colors(seed + k, 0.1, 0.7) for seed in seeds]) for k in (0, 1))
    generators = [np.random.default_rng(seed) for seed in seeds]

    def uniform(low: float, high: float):
        return torch.tensor([g.uniform(low, high) for g in generators], dtype=torch.float32).view(-1, 1, 1)

    together = EVERY[name](uniform, torch.tensor(colors), torch.tensor(donors))
    strengths = [0.1, 0.3, 0.05]
    changed = together(torch.tensor(colors), torch.tensor(strengths).view(-1, 1, 1))
    for i, seed in enumerate(seeds):
        alone = EVERY[name](np.random.default_rng(seed).uniform, colors[i], donors[i])
        np.testing.assert_allclose(changed[i].numpy(), alone(colors[i], strengths[i]), atol=1e-4)
