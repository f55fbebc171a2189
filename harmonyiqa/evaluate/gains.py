"""What harmonizing gained: results against the composites they were made of, image by image, with intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harmonyiqa.evaluate.harmonization import Measured
from harmonyiqa.evaluate.intervals import draw
from harmonyiqa.evaluate.tables import Cell, with_interval

COMPOSITE = "copy"  # the method that leaves the composite as it is


@dataclass(frozen=True, slots=True)
class Gain:
    """A method against the composites of a subset.

    Attributes:
        subset: a group, a kind of composite, or All.
        method: what harmonized.
        images: pairs of result and composite.
        share: mean fMSE of the results over mean fMSE of the composites; below 1 is better.
        nearer: share of the images whose fMSE fell.
        score: mean change of the score; above 0 is better.
    """

    subset: str
    method: str
    images: int
    share: Cell | None
    nearer: Cell | None
    score: Cell | None


def gains(measured: Sequence[Measured], *, bootstrap: int = 1000, seed: int = 0) -> list[Gain]:
    """Every method against `copy`, per group where there are several, per kind of composite, and over all.

    Args:
        measured: results of `copy` and of other methods; images that one of the two lacks are left out.
        bootstrap: resamples behind each interval; whole contents are drawn, or images where contents are unknown.
        seed: of the resamples.

    Returns:
        In order of appearance; nothing where `copy` was not measured. A figure that some images lack is None.
    """
    composites = {each.image: each for each in measured if each.method == COMPOSITE and each.error is None}
    results = [
        each
        for each in measured
        if each.method != COMPOSITE and each.error is None and each.image in composites
    ]
    groups = list(dict.fromkeys(each.group for each in results))
    methods = list(dict.fromkeys(each.method for each in results))
    kinds = sorted({kind for each in results for kind in each.kinds})
    found = []
    for subset in [*(groups if len(groups) > 1 else []), *kinds, "All"]:
        for method in methods:
            chosen = [
                each
                for each in results
                if each.method == method and subset in (each.group, *each.kinds, "All")
            ]
            if chosen:
                pairs = [(each, composites[each.image]) for each in chosen]
                found.append(_gain(subset, method, pairs, bootstrap, seed))
    return found


def _gain(
    subset: str, method: str, pairs: Sequence[tuple[Measured, Measured]], bootstrap: int, seed: int
) -> Gain:
    resamples = draw([after.content or after.image for after, _ in pairs], bootstrap, seed)

    def totals(values: np.ndarray) -> tuple[float, np.ndarray]:
        """The sum, and that of every resample."""
        by_cluster = np.bincount(resamples.cluster, values, resamples.draws.shape[1])
        return float(values.sum()), resamples.draws @ by_cluster

    def ratio(above: np.ndarray, below: np.ndarray) -> Cell | None:
        (value, values), (whole, wholes) = totals(above), totals(below)
        if not whole:
            return None
        with np.errstate(invalid="ignore", divide="ignore"):
            return with_interval(value / whole, values / wholes, resamples)

    def both(name: str) -> tuple[np.ndarray, np.ndarray] | None:
        values = [[each.figures.get(name, np.nan) for each in pair] for pair in pairs]
        after, before = np.array(values, dtype=np.float64).T
        return None if np.isnan(after + before).any() else (after, before)

    one = np.ones(len(pairs))
    share = nearer = score = None
    if (fmse := both("fmse")) is not None:
        share, nearer = ratio(*fmse), ratio((fmse[0] < fmse[1]).astype(np.float64), one)
    if (scores := both("score")) is not None:
        score = ratio(scores[0] - scores[1], one)
    return Gain(subset, method, len(pairs), share, nearer, score)
