import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harmonyiqa.synthesize.severity import (
    BEST_MOS,
    UNTOUCHED_SHARE,
    WORST_DELTA_E,
    WORST_MOS,
    delta_e_of,
    draw_delta_e,
    find_strength,
    mean_delta_e,
    mos_of,
)

severity = st.floats(0, 60)


@given(severity, severity)
def test_a_greater_difference_never_scores_higher(first: float, second: float) -> None:
    low, high = sorted((first, second))
    assert BEST_MOS >= mos_of(low) >= mos_of(high) > 20


@given(severity)
def test_the_map_has_its_inverse(delta_e: float) -> None:
    assert delta_e_of(mos_of(delta_e)) == pytest.approx(delta_e, abs=1e-6)


def test_the_ends_of_the_map_are_those_of_harmonyiqad() -> None:
    assert mos_of(0) == 77.6
    assert pytest.approx(29.62, abs=0.01) == WORST_DELTA_E
    assert mos_of(WORST_DELTA_E) == pytest.approx(WORST_MOS)


def test_drawn_scores_are_spread_like_harmonyiqad() -> None:
    rng = np.random.default_rng(0)
    mos = np.array(
        [BEST_MOS if rng.random() < UNTOUCHED_SHARE else mos_of(draw_delta_e(rng)) for _ in range(20000)]
    )
    # the 1,350 released MOS: mean 49.88, sd 13.11, 28.09-77.61; quartiles 38.4, 49.4, 59.9
    assert mos.mean() == pytest.approx(49.88, abs=0.5)
    assert mos.std() == pytest.approx(13.11, abs=0.5)
    assert mos.min() >= 28
    assert mos.max() == 77.6
    np.testing.assert_allclose(np.percentile(mos, [25, 50, 75]), [38.4, 49.4, 59.9], atol=2.5)


@pytest.mark.parametrize("target", [1.0, 5.0, 12.0, 19.0])
@pytest.mark.parametrize("alpha", [1.0, 0.8])
def test_the_found_strength_gives_the_wanted_difference(target: float, alpha: float) -> None:
    colors = np.random.default_rng(0).uniform(0.2, 0.8, (300, 3)).astype(np.float32)

    def darker(rgb: np.ndarray, strength: float) -> np.ndarray:
        return rgb * np.float32(1 - strength)

    strength = find_strength(darker, colors, alpha, target)
    blended = colors + np.float32(alpha) * (darker(colors, strength) - colors)
    assert mean_delta_e(colors, blended) == pytest.approx(target, abs=0.25)


def test_a_target_out_of_reach_gives_full_strength() -> None:
    colors = np.full((10, 3), 0.5, np.float32)
    assert find_strength(lambda rgb, strength: rgb + np.float32(0.01 * strength), colors, 1.0, 15.0) == 1
