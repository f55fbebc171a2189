"""Each probe passes what works and fails what it is there to catch."""

import math

import numpy as np
import pytest
from PIL import Image

from harmonyiqa.evaluate import probes


@pytest.fixture
def photos() -> list[Image.Image]:
    noise = np.random.default_rng(3).integers(60, 200, (4, 24, 32, 3), dtype=np.uint8)
    return [Image.fromarray(picture) for picture in noise]


def _warmth(pictures) -> list[float]:
    """Falls as the middle of an image turns red; black, white and noise differ."""
    means = [np.asarray(p, float)[8:16, 8:24].mean((0, 1)) for p in pictures]
    return [50 + m.mean() / 100 - max(0.0, m[0] - m[2]) / 10 for m in means]


def _constant(pictures) -> list[float]:
    return [50.0] * len(pictures)


def _nothing(pictures) -> list[float]:
    return [math.nan] * len(pictures)


@pytest.mark.parametrize(("score", "passes"), [(_warmth, True), (_constant, False), (_nothing, False)])
def test_plain_images_and_colour_shift(photos, score, passes) -> None:
    for probe in (
        probes.plain_images(score, photos),
        probes.colour_shift(score, photos, [None] * len(photos)),
    ):
        assert probe.passed is passes, probe.line()
        assert probe.line().startswith("PASS" if passes else "FAIL")


def test_a_score_that_rises_with_the_shift_fails(photos) -> None:
    probe = probes.colour_shift(lambda images: [-s for s in _warmth(images)], photos, [None] * 4)
    assert probe.passed is False


def test_a_shift_changes_the_foreground_alone_and_further_with_every_level(photos) -> None:
    mask = np.zeros((24, 32), dtype=np.float32)
    mask[:12] = 1
    photo = np.asarray(photos[0], float)
    assert np.array_equal(np.asarray(probes.shifted(photos[0], mask, 0)), np.asarray(photos[0]))
    distances = []
    for level in probes.LEVELS:
        shifted = np.asarray(probes.shifted(photos[0], mask, level), float)
        assert np.array_equal(shifted[12:], photo[12:])
        distances.append(np.abs(shifted - photo).mean())
    assert distances == sorted(distances)
    assert np.diff(distances).min() > 0


def test_spread() -> None:
    mos = [20.0, 50.0, 80.0]
    assert probes.spread([40.0, 50.0, 60.0], mos).passed
    assert not probes.spread([50.0, 50.0, 50.0], mos).passed
    assert not probes.spread([49.0, 50.0, 51.0], mos).passed
    assert not probes.spread([math.nan, 50.0, 60.0], mos).passed


def test_figures_of_the_weights() -> None:
    assert probes.adapters(0, 4).passed is True
    assert probes.adapters(1, 4).passed is False
    assert probes.adapters(0, 0).passed is None
    assert probes.gradient([], 9).passed is True
    assert "first a.b" in probes.gradient(["a.b", "c"], 9).line()
    assert probes.merging(9e-4, half=False).passed is True
    assert probes.merging(2e-3, half=False).passed is False
    assert probes.merging(2e-3, half=True).passed is True
    assert probes.batching(math.nan, half=True).passed is False
    assert probes.merging(None, half=False).line().startswith("n/a")
