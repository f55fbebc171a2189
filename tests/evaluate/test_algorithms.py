"""Which algorithm is best, and does a predictor agree?"""

import numpy as np
import pytest

from harmonyiqa.data.manifest import Row
from harmonyiqa.evaluate.algorithms import rank_algorithms
from harmonyiqa.evaluate.tables import measurement

LEVELS = {"a": 60.0, "b": 50.0, "c": 49.9, "d": 30.0}


def make_rows(contents: int = 40) -> list[Row]:
    rng = np.random.default_rng(0)
    return [
        Row(
            f"{method}{content}.jpg", mos=level + float(rng.normal(0, 5)), method=method, content=str(content)
        )
        for content in range(contents)
        for method, level in LEVELS.items()
    ]


ROWS = make_rows()
MEASURED = measurement(ROWS, bootstrap=300)


def test_means_and_ranks_are_those_of_the_rows_with_intervals_around_them() -> None:
    ranking = rank_algorithms(MEASURED, "same", MEASURED.mos)
    assert [algorithm.name for algorithm in ranking.algorithms][::3] == ["a", "d"]
    for algorithm in ranking.algorithms:
        own = MEASURED.mos[[row.method == algorithm.name for row in ROWS]]
        mean = algorithm.people.mean
        assert mean.value == pytest.approx(own.mean())
        assert mean.high - mean.low == pytest.approx(2 * 1.96 * own.std() / np.sqrt(40), rel=0.2)
        assert algorithm.people == algorithm.predicted
    best, *middle, last = ranking.algorithms
    assert (best.people.rank.low, best.people.rank.high, last.people.rank.value) == (1, 1, 4)
    assert middle[0].people.rank.high == 3  # b and c cannot be told apart
    assert (ranking.told_apart, ranking.alike) == (5, 5)
    assert ranking.agreement["srcc"].value == ranking.agreement["krcc"].value == 1


def test_a_predictor_that_ranks_the_wrong_way_round() -> None:
    ranking = rank_algorithms(MEASURED, "flipped", -MEASURED.mos)
    assert ranking.agreement["srcc"].value == -1
    assert (ranking.told_apart, ranking.alike) == (5, 0)
    assert ranking.algorithms[0].predicted.rank.value == 4


def test_a_constant_predictor_agrees_with_nothing() -> None:
    ranking = rank_algorithms(MEASURED, "flat", np.zeros(len(ROWS)))
    assert "a constant has no correlation" in ranking.agreement["krcc"].error
    assert {algorithm.predicted.rank.value for algorithm in ranking.algorithms} == {2.5}


def test_without_methods_there_is_nothing_to_rank() -> None:
    rows = [Row("x.jpg", mos=1.0), Row("y.jpg", mos=2.0, method="a")]
    assert rank_algorithms(measurement(rows, bootstrap=1), "m", np.arange(2.0)) is None
    assert rank_algorithms(measurement(rows[1:], bootstrap=1), "m", np.arange(1.0)) is None
