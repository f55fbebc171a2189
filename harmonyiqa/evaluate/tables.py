"""Measure predictors against MOS: on subsets of the rows, within methods, and one against another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from harmonyiqa.data.manifest import Row
from harmonyiqa.evaluate.intervals import RESAMPLED, Resamples, draw, interval
from harmonyiqa.evaluate.join import mos_of
from harmonyiqa.metrics import CORRELATIONS, Floats, MetricError

Chosen = NDArray[np.bool_]

WITHIN_METHOD = "within method"


@dataclass(frozen=True)
class Cell:
    """One number with its 95% interval (None where there is none), or the error that says why not."""

    value: float | None
    low: float | None = None
    high: float | None = None
    error: str | None = None


@dataclass(frozen=True)
class Result:
    """One predictor on one subset. ``cells`` is keyed by metric: srcc, krcc, plcc (raw), plcc_fitted."""

    predictor: str
    subset: str
    images: int
    contents: int | None
    cells: dict[str, Cell]


@dataclass(frozen=True)
class Difference:
    """``first`` minus ``second`` in one metric on the same rows; its interval is from the same resamples."""

    first: str
    second: str
    subset: str
    metric: str
    cell: Cell


@dataclass(frozen=True)
class Evaluation:
    """Everything that a report prints."""

    title: str
    notes: list[str]
    results: list[Result]
    differences: list[Difference] = field(default_factory=list)
    settings: dict[str, str | int | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Measurement:
    """Rows with MOS and the resamples that every number about them shares."""

    rows: Sequence[Row]
    mos: Floats
    resamples: Resamples
    clustered: bool  # by content; else every image is drawn alone


def measurement(rows: Sequence[Row], *, bootstrap: int = 1000, seed: int = 0) -> Measurement:
    """Draw the resamples: whole contents where every row names one, else single images.

    Args:
        rows: rows with MOS.
        bootstrap: the number of resamples.
        seed: the same seed draws the same.

    Raises:
        UserError: if ``bootstrap`` is below 1.
    """
    clustered = all(row.content for row in rows)
    clusters = [row.content for row in rows] if clustered else range(len(rows))
    return Measurement(rows, mos_of(rows), draw(clusters, bootstrap, seed), clustered)


def subsets(rows: Sequence[Row]) -> dict[str, Chosen]:
    """``All`` and, where there are at least two, every group: name -> which rows, shape (N,)."""
    groups = sorted({row.group for row in rows if row.group})
    chosen = {"All": np.ones(len(rows), dtype=np.bool_)}
    if len(groups) > 1:
        chosen |= {group: np.array([row.group == group for row in rows]) for group in groups}
    return chosen


def measure(
    measurement: Measurement,
    predictors: Mapping[str, Floats],
    chosen: Mapping[str, Chosen],
    metrics: Sequence[str] = tuple(CORRELATIONS),
) -> list[Result]:
    """Every predictor on every subset, subset by subset.

    Args:
        measurement: the N rows and their resamples.
        predictors: name -> scores of all rows, shape (N,), higher is better.
        chosen: name of a subset -> which rows, shape (N,).
        metrics: keys of ``metrics.CORRELATIONS``.
    """
    results = []
    for subset, mask in chosen.items():
        resamples = measurement.resamples.rows(mask)
        for name, scores in predictors.items():
            cells = {
                metric: _cell(metric, scores[mask], measurement.mos[mask], resamples) for metric in metrics
            }
            contents = resamples.clusters if measurement.clustered else None
            results.append(Result(name, subset, int(mask.sum()), contents, cells))
    return results


def measure_within_method(measurement: Measurement, predictors: Mapping[str, Floats]) -> list[Result]:
    """The mean over methods of the SRCC among images of one method; [] where a row has no method.

    A predictor that only knows how good each method is on the whole has nothing to say here.
    """
    methods = sorted({row.method for row in measurement.rows if row.method})
    if not methods or not all(row.method for row in measurement.rows):
        return []
    masks = [np.array([row.method == method for row in measurement.rows]) for method in methods]
    contents = measurement.resamples.clusters if measurement.clustered else None
    results = []
    for name, scores in predictors.items():
        values, replicates, error = [], [], None
        for method, mask in zip(methods, masks, strict=True):
            try:
                values.append(CORRELATIONS["srcc"](scores[mask], measurement.mos[mask]))
            except MetricError as problem:
                error = f"method {method}: {problem}"
                break
            replicates.append(
                RESAMPLED["srcc"](scores[mask], measurement.mos[mask], measurement.resamples.rows(mask))
            )
        cell = Cell(None, error=error)
        if error is None:
            cell = _with_interval(float(np.mean(values)), np.mean(replicates, axis=0), measurement.resamples)
        results.append(Result(name, WITHIN_METHOD, len(scores), contents, {"srcc": cell}))
    return results


def difference(
    measurement: Measurement,
    first: tuple[str, Floats],
    second: tuple[str, Floats],
    *,
    subset: str = "All",
    mask: Chosen | None = None,
    metric: str = "srcc",
) -> Difference:
    """How much better ``first`` agrees with the MOS than ``second``, paired: same rows, same resamples.

    Args:
        measurement: the N rows and their resamples.
        first: name and scores, shape (N,).
        second: name and scores, shape (N,).
        subset: what the rows in ``mask`` are called.
        mask: which rows, shape (N,); None is all.
        metric: a key of ``metrics.CORRELATIONS``.
    """
    mask = np.ones(len(measurement.rows), dtype=np.bool_) if mask is None else mask
    mos, resamples = measurement.mos[mask], measurement.resamples.rows(mask)
    (name_a, a), (name_b, b) = (first[0], first[1][mask]), (second[0], second[1][mask])
    try:
        value = CORRELATIONS[metric](a, mos) - CORRELATIONS[metric](b, mos)
        replicates = RESAMPLED[metric](a, mos, resamples) - RESAMPLED[metric](b, mos, resamples)
    except MetricError as error:
        return Difference(name_a, name_b, subset, metric, Cell(None, error=str(error)))
    return Difference(name_a, name_b, subset, metric, _with_interval(value, replicates, resamples))


def _cell(metric: str, scores: Floats, mos: Floats, resamples: Resamples) -> Cell:
    try:
        value = CORRELATIONS[metric](scores, mos)
    except MetricError as error:
        return Cell(None, error=str(error))
    return _with_interval(value, RESAMPLED[metric](scores, mos, resamples), resamples)


def _with_interval(value: float, replicates: Floats, resamples: Resamples) -> Cell:
    bounds = interval(replicates) if resamples.clusters > 1 else None
    return Cell(value, bounds.low, bounds.high) if bounds else Cell(value)
