"""Tests of dependent correlations against published values and by simulation."""

import numpy as np
import pytest

from harmonyiqa.evaluate.comparisons import compare, steiger, williams
from harmonyiqa.metrics import MetricError


def test_published_values() -> None:
    # Silver, Hittner, May (2006), DEPCOR: r = .3, .4, between .5, n = 100
    found = williams(0.3, 0.4, 0.5, 100)
    assert (found.statistic, found.p) == pytest.approx((-1.0767, 0.2843), abs=5e-5)
    # Steiger (1980), case A, p. 249; the value that R's cocor gives (the paper rounds on the way: -0.8913)
    assert steiger(0.4, 0.5, 0.1, 103).statistic == pytest.approx(-0.8887185, abs=1e-6)


@pytest.mark.parametrize("test", [williams, steiger])
def test_the_order_only_turns_the_sign(test) -> None:
    one, other = test(0.7, 0.6, 0.8, 60), test(0.6, 0.7, 0.8, 60)
    assert (one.statistic, one.p) == pytest.approx((-other.statistic, other.p))


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["srcc", "plcc"])
def test_equal_predictors_are_told_apart_about_as_often_as_p_says(metric: str) -> None:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(400):
        mos = rng.normal(size=120)
        pair = mos + rng.normal(size=(2, 120))
        found.append([test.p < 0.05 for test in compare(*pair, mos, metric)])
    assert np.mean(found, axis=0) == pytest.approx(0.05, abs=0.03)


def test_what_cannot_be_compared() -> None:
    mos = np.arange(10.0)
    noisy = mos + np.random.default_rng(0).normal(0, 3, 10)
    assert compare(noisy, noisy, mos, "srcc") == []
    assert compare(noisy, -noisy, mos, "srcc") == []
    assert compare(noisy, 0 * noisy, mos, "plcc") == []
    assert compare(noisy, mos % 3, mos, "krcc") == []
    with pytest.raises(MetricError, match="3 images are too few to compare"):
        williams(0.1, 0.2, 0.3, 3)
    with pytest.raises(MetricError, match="a correlation of 1 has no Fisher transform"):
        steiger(1.0, 0.2, 0.3, 30)
