"""Bradley-Terry scores against closed forms and planted strengths."""

import math

import numpy as np
import pytest

from harmonyiqa.errors import UserError
from harmonyiqa.rate.pairs import Comparison, bradley_terry


def test_two_methods_have_the_closed_form() -> None:
    given = [Comparison("a", "b", "x")] * 30 + [Comparison("b", "a", "x")] * 10
    best, worst = bradley_terry(given, bootstrap=2)
    assert best.method == "a"
    assert best.score - worst.score == pytest.approx(math.log(30.1 / 10.1), abs=1e-6)
    assert best.score + worst.score == pytest.approx(0)
    assert (best.wins, best.comparisons) == (30, 40)


def test_planted_strengths_come_back_within_their_intervals() -> None:
    strength = {"a": 1.0, "b": 0.3, "c": -0.3, "d": -1.0}
    rng = np.random.default_rng(0)
    given = []
    for scene in range(60):
        for i, first in enumerate("abcd"):
            for second in "abcd"[i + 1 :]:
                for _ in range(6):
                    wins = rng.random() < 1 / (1 + math.exp(strength[second] - strength[first]))
                    winner, loser = (first, second) if wins else (second, first)
                    given.append(Comparison(winner, loser, f"s{scene}"))
    scores = bradley_terry(given, bootstrap=200)
    assert [score.method for score in scores] == list("abcd")
    for score in scores:
        assert score.low < score.score < score.high
        assert score.score == pytest.approx(strength[score.method], abs=0.2)
        assert score.high - score.low < 0.5


def test_a_method_that_never_lost_has_a_finite_score() -> None:
    scores = bradley_terry([Comparison("a", "b", "x")] * 5 + [Comparison("b", "c", "y")] * 5, bootstrap=10)
    assert [score.method for score in scores] == ["a", "b", "c"]
    assert all(math.isfinite(score.score) for score in scores)


def test_nothing_to_rank_is_said() -> None:
    with pytest.raises(UserError, match="0 comparisons of 0 methods"):
        bradley_terry([])
