"""Which harmonization algorithm is best, by people and by a predictor, and do the two rankings agree?"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from harmonyiqa.evaluate.intervals import resample_means
from harmonyiqa.evaluate.tables import Cell, Measurement, with_interval
from harmonyiqa.metrics import Floats, MetricError, krcc, srcc


@dataclass(frozen=True)
class Standing:
    """One algorithm's mean over its images, with its 95% interval, and its rank among all; rank 1 is best."""

    mean: Cell
    rank: Cell


@dataclass(frozen=True)
class Algorithm:
    """One algorithm (``method`` of the manifest) as people and as the predictor see it."""

    name: str
    images: int
    people: Standing
    predicted: Standing


@dataclass(frozen=True)
class Ranking:
    """All algorithms, best by people first, and how well the predictor's ranking agrees with theirs.

    Attributes:
        predictor: whose scores were averaged.
        algorithms: best mean MOS first.
        agreement: SRCC and KRCC of the means over the algorithms, keyed ``srcc`` and ``krcc``.
        told_apart: pairs of algorithms whose difference in mean MOS has an interval without 0.
        alike: how many of these pairs the predictor puts in the same order.
    """

    predictor: str
    algorithms: list[Algorithm]
    agreement: dict[str, Cell]
    told_apart: int
    alike: int


def rank_algorithms(measurement: Measurement, name: str, scores: Floats) -> Ranking | None:
    """Rank the algorithms by mean MOS and by mean score; None where fewer than two are named, or a row has none.

    Args:
        measurement: the N rows and their resamples; every interval comes from them.
        name: the predictor's.
        scores: its scores, shape (N,).
    """
    methods = sorted({row.method for row in measurement.rows if row.method})
    if len(methods) < 2 or not all(row.method for row in measurement.rows):
        return None
    made_by = np.array([[row.method == method for method in methods] for row in measurement.rows])
    mos, mos_drawn = _means(measurement, made_by, measurement.mos)
    predicted, predicted_drawn = _means(measurement, made_by, scores)
    people = _standings(measurement, mos, mos_drawn)
    model = _standings(measurement, predicted, predicted_drawn)
    found = [
        Algorithm(method, int(count), *both)
        for method, count, *both in zip(methods, made_by.sum(axis=0), people, model, strict=True)
    ]
    alike = [
        bool((mos[a] - mos[b]) * (predicted[a] - predicted[b]) > 0)
        for a, b in combinations(range(len(methods)), 2)
        if _told_apart(measurement, mos_drawn[:, a] - mos_drawn[:, b])
    ]
    return Ranking(
        name,
        sorted(found, key=lambda each: -(each.people.mean.value or 0)),
        {
            metric: _agreement(measurement, function, mos, predicted, mos_drawn, predicted_drawn)
            for metric, function in (("srcc", srcc), ("krcc", krcc))
        },
        len(alike),
        sum(alike),
    )


def _means(measurement: Measurement, made_by: NDArray[np.bool_], values: Floats) -> tuple[Floats, Floats]:
    """Each algorithm's mean, (methods,), and that of every resample, (resamples, methods)."""
    weighted = np.stack([made_by, made_by * values[:, None]], axis=1)
    drawn = resample_means(weighted.astype(np.float64), measurement.resamples)
    with np.errstate(invalid="ignore"):  # an algorithm of which no image was drawn
        return weighted[:, 1].sum(axis=0) / made_by.sum(axis=0), drawn[:, 1] / drawn[:, 0]


def _standings(measurement: Measurement, means: Floats, drawn: Floats) -> list[Standing]:
    ranks, drawn_ranks = stats.rankdata(-means), stats.rankdata(-drawn, axis=1, nan_policy="omit")
    return [
        Standing(
            with_interval(means[index], drawn[:, index], measurement.resamples),
            with_interval(ranks[index], drawn_ranks[:, index], measurement.resamples),
        )
        for index in range(len(means))
    ]


def _agreement(
    measurement: Measurement,
    metric: Callable[[Floats, Floats], float],
    mos: Floats,
    predicted: Floats,
    mos_drawn: Floats,
    predicted_drawn: Floats,
) -> Cell:
    def value(people: Floats, model: Floats) -> float:
        try:
            return metric(model, people)
        except MetricError:
            return np.nan

    try:
        agreed = metric(predicted, mos)
    except MetricError as error:
        return Cell(None, error=str(error))
    drawn = np.array([value(*pair) for pair in zip(mos_drawn, predicted_drawn, strict=True)])
    return with_interval(agreed, drawn, measurement.resamples)


def _told_apart(measurement: Measurement, drawn: Floats) -> bool:
    cell = with_interval(0, drawn, measurement.resamples)
    return cell.low is not None and cell.high is not None and not cell.low <= 0 <= cell.high
