"""What the terminal and the page show of a run, in little memory however many images there are."""

import heapq
import math
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from harmonyiqa.data.predictions import Prediction

SHOWN = 2000  # images kept with their names: beyond that a browser crawls


class Kept(NamedTuple):
    """A prediction with its place in the input, from 0."""

    position: int
    prediction: Prediction


@dataclass
class Summary:
    """Every score as 8 bytes; names of the `shown` worst scores and of the first failures alone.

    Attributes:
        shown: how many of each.
        scores: all scores, in no order.
        failed: how many images have none.
        paired: how many were scored against a reference.
    """

    shown: int = SHOWN
    scores: "array[float]" = field(default_factory=lambda: array("d"))
    failed: int = 0
    paired: int = 0
    # heaps: the best of the worst lies on top, and the last of the failures
    _worst: list[tuple[float, int, Prediction]] = field(default_factory=list)
    _failures: list[tuple[int, Prediction]] = field(default_factory=list)

    @classmethod
    def of(cls, predictions: Iterable[Prediction], shown: int = SHOWN) -> "Summary":
        """The summary of predictions in the input's order."""
        summary = cls(shown)
        for position, prediction in enumerate(predictions):
            summary.add(position, prediction)
        return summary

    def add(self, position: int, prediction: Prediction) -> None:
        """Count one prediction; its place in the input settles a tie."""
        if prediction.score is None:
            self.failed += 1
            self._keep(self._failures, (-position, prediction))
            return
        self.scores.append(prediction.score)
        self.paired += prediction.reference is not None
        self._keep(self._worst, (-prediction.score, -position, prediction))

    def merge(self, other: "Summary") -> None:
        """Count what another process counted."""
        self.scores.extend(other.scores)
        self.failed += other.failed
        self.paired += other.paired
        for worst in other._worst:
            self._keep(self._worst, worst)
        for failure in other._failures:
            self._keep(self._failures, failure)

    @property
    def worst(self) -> list[Kept]:
        """The lowest scores, lowest first; equal ones by name."""
        found = [Kept(-position, prediction) for _, position, prediction in self._worst]
        return sorted(found, key=lambda kept: (kept.prediction.score or 0.0, kept.prediction.image))

    @property
    def failures(self) -> list[Kept]:
        """The first failures, in the input's order."""
        return sorted(Kept(-position, prediction) for position, prediction in self._failures)

    @property
    def mean(self) -> float | None:
        """Of all scores, exactly rounded, so in any order; None without scores."""
        return math.fsum(self.scores) / len(self.scores) if self.scores else None

    @property
    def median(self) -> float | None:
        """Of all scores; None without scores."""
        return float(np.median(np.frombuffer(self.scores))) if self.scores else None

    def _keep(self, heap: list, entry: tuple) -> None:
        # places differ, so that no two predictions are ever compared
        if len(heap) < self.shown:
            heapq.heappush(heap, entry)
        else:
            heapq.heappushpop(heap, entry)
