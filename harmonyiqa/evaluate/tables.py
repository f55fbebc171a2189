"""Measure predictors against MOS: on subsets of the rows, within methods, and one against another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from harmonyiqa.data.manifest import Row
from harmonyiqa.evaluate.comparisons import CorrelationTest, compare
from harmonyiqa.evaluate.intervals import RESAMPLED, Resamples, draw, interval
from harmonyiqa.evaluate.join import mos_of
from harmonyiqa.metrics import MEASURES, Floats, MetricError

if TYPE_CHECKING:
    from harmonyiqa.evaluate.algorithms import Ranking  # which is made of cells

Chosen = NDArray[np.bool_]

WITHIN = {"method": "within method", "content": "within content"}


@dataclass(frozen=True)
class Cell:
    """One number with its 95% interval (None where there is none), or the error that says why not.

    ``deviation`` is the standard deviation of a mean over seeds.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    error: str | None = None
    deviation: float | None = None


@dataclass(frozen=True)
class Result:
    """One predictor on one subset. ``cells`` is keyed by metric, as ``metrics.MEASURES``."""

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
    tests: list[CorrelationTest] = field(default_factory=list)


@dataclass(frozen=True)
class Evaluation:
    """Everything that a report prints."""

    title: str
    notes: list[str]
    results: list[Result]
    differences: list[Difference] = field(default_factory=list)
    rankings: list["Ranking"] = field(default_factory=list)
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
    metrics: Sequence[str] = tuple(MEASURES),
) -> list[Result]:
    """Every predictor on every subset, subset by subset.

    Args:
        measurement: the N rows and their resamples.
        predictors: name -> scores of all rows, shape (N,), higher is better.
        chosen: name of a subset -> which rows, shape (N,).
        metrics: keys of ``metrics.MEASURES``.
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


def measure_within(
    measurement: Measurement, predictors: Mapping[str, Floats], column: Literal["method", "content"]
) -> list[Result]:
    """The mean over methods (or contents) of the SRCC among images of one; [] where a row names none.

    Within a method, a predictor that only knows how good each method is on the whole has nothing to say; within
    a content, one that only knows how hard each scene is. A content is left out for all predictors where it has
    one image or one same MOS.

    Args:
        measurement: the N rows and their resamples.
        predictors: name -> scores of all rows, shape (N,), higher is better.
        column: ``method`` or ``content``.
    """
    members: dict[str, list[int]] = {}
    for index, row in enumerate(measurement.rows):
        if (name := getattr(row, column)) is None:
            return []
        members.setdefault(name, []).append(index)
    if column == "content":
        members = {k: rows for k, rows in members.items() if np.ptp(measurement.mos[rows]) > 0}
    parts = [(name, np.array(rows)) for name, rows in sorted(members.items())]
    if not parts:
        return []
    resamples = measurement.resamples
    images = sum(len(rows) for _, rows in parts)
    contents = len(np.unique(resamples.cluster[np.concatenate([rows for _, rows in parts])]))
    results = []
    for name, scores in predictors.items():
        try:
            values = [_srcc_of(scores, measurement.mos, column, *part) for part in parts]
        except MetricError as error:
            cell = Cell(None, error=str(error))
        else:
            if column == "content":  # a content is drawn whole: its SRCC stays, its weight is the draw's
                drawn = resamples.draws[:, [resamples.cluster[rows[0]] for _, rows in parts]].astype(float)
                with np.errstate(invalid="ignore"):  # none of these contents was drawn
                    replicates = drawn @ np.array(values) / drawn.sum(axis=1)
            else:
                replicates = np.mean(
                    [
                        RESAMPLED["srcc"](scores[rows], measurement.mos[rows], resamples.rows(rows))
                        for _, rows in parts
                    ],
                    axis=0,
                )
            cell = with_interval(float(np.mean(values)), replicates, resamples)
        results.append(
            Result(name, WITHIN[column], images, contents if measurement.clustered else None, {"srcc": cell})
        )
    return results


def _srcc_of(scores: Floats, mos: Floats, column: str, name: str, rows: NDArray[np.intp]) -> float:
    try:
        return MEASURES["srcc"](scores[rows], mos[rows])
    except MetricError as error:
        raise MetricError(f"{column} {name}: {error}") from error


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
        metric: a key of ``metrics.MEASURES``.
    """
    mask = np.ones(len(measurement.rows), dtype=np.bool_) if mask is None else mask
    mos, resamples = measurement.mos[mask], measurement.resamples.rows(mask)
    (name_a, a), (name_b, b) = (first[0], first[1][mask]), (second[0], second[1][mask])
    try:
        value = MEASURES[metric](a, mos) - MEASURES[metric](b, mos)
        replicates = RESAMPLED[metric](a, mos, resamples) - RESAMPLED[metric](b, mos, resamples)
    except MetricError as error:
        return Difference(name_a, name_b, subset, metric, Cell(None, error=str(error)))
    cell = with_interval(value, replicates, resamples)
    return Difference(name_a, name_b, subset, metric, cell, compare(a, b, mos, metric))


def _cell(metric: str, scores: Floats, mos: Floats, resamples: Resamples) -> Cell:
    try:
        value = MEASURES[metric](scores, mos)
    except MetricError as error:
        return Cell(None, error=str(error))
    return with_interval(value, RESAMPLED[metric](scores, mos, resamples), resamples)


def with_interval(value: float, replicates: Floats, resamples: Resamples) -> Cell:
    """A number and the central 95% of its resamples; without an interval where there is one cluster."""
    bounds = interval(replicates) if resamples.clusters > 1 else None
    return Cell(float(value), bounds.low, bounds.high) if bounds else Cell(float(value))
