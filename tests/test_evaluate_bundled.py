"""What the bundled model's evaluation adds to areas and pairs: heat maps against regions."""

import numpy as np
import pytest


@pytest.fixture
def script(load_script):
    return load_script("evaluate_bundled")


@pytest.mark.parametrize(("shift", "expected"), [(0, 1.0), (2, 1 / 3), (4, 0.0)])
def test_the_brightest_part_as_large_as_the_region_is_laid_over_it(script, shift, expected) -> None:
    mask = np.zeros((8, 8), bool)
    mask[2:6, :4] = True
    heat = np.roll(mask * 5.0, shift, 1) + 0.1
    heat[7, 7] = -3  # a constant or a cold spot changes nothing
    assert script._overlap(heat, mask) == pytest.approx(expected)


def test_statistics_of_a_region_tell_it_from_its_surroundings(script) -> None:
    rgb = np.full((24, 24, 3), 0.5)
    inside = np.zeros((24, 24), bool)
    inside[8:16, 8:16] = True
    plain = script._statistics(rgb, inside)
    rgb[inside] = (0.9, 0.2, 0.2)
    assert np.isfinite(plain).all()
    assert np.abs(script._statistics(rgb, inside) - plain).max() > 20
    assert script._statistics(rgb, ~np.zeros_like(inside)).shape == plain.shape  # no outside
