"""The same evaluation over many random splits: a mean and its deviation say what one split cannot."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from harmonyiqa.data.manifest import Row
from harmonyiqa.data.splits import KINDS
from harmonyiqa.errors import UserError
from harmonyiqa.evaluate.join import mos_of
from harmonyiqa.evaluate.null_predictors import null_predictors
from harmonyiqa.evaluate.tables import Cell, Result, subsets
from harmonyiqa.metrics import CORRELATIONS, MEASURES, Floats, MetricError

TRAIN_SHARE = 0.8  # paper, section IV-A: 4:1


def measure_seeds(
    rows: Sequence[Row],
    predictors: Mapping[str, Floats],
    *,
    seeds: int,
    kind: Literal["content", "method"],
    metrics: Sequence[str] = tuple(CORRELATIONS),
) -> list[Result]:
    """Measure predictors and null predictors on the test rows of many splits, 4:1, seeds 0, 1, 2, ...

    The null predictors learn anew from each split's training rows. The given predictors do not: they must not
    have been trained on these rows.

    Args:
        rows: N rows with MOS; with content for splits by content, with method for splits per method.
        predictors: name -> scores of all rows, shape (N,), higher is better.
        seeds: how many splits.
        kind: of split, a key of ``splits.KINDS``.
        metrics: keys of ``metrics.MEASURES``.

    Returns:
        One result a predictor and subset; a cell is the mean over seeds with its standard deviation, or the error
        of a seed that has no value. Images and contents are the first seed's.

    Raises:
        UserError: if ``seeds`` is below 2, or the rows cannot be split in this way.
    """
    if seeds < 2:
        raise UserError(f"seeds {seeds} has no deviation; give 2 or more (200 is usual)")
    values: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    errors: dict[tuple[str, str, str], str] = {}
    sizes: dict[str, tuple[int, int | None]] = {}
    names: dict[str, None] = {}
    for seed in range(seeds):
        split = KINDS[kind](rows, TRAIN_SHARE, 0.0, seed)
        tested = np.array([row.split == "test" for row in split])
        train, test = ([row for row in split if row.split == name] for name in ("train", "test"))
        given = {name: scores[tested] for name, scores in predictors.items()}
        everyone = given | null_predictors(train, test)
        names |= dict.fromkeys(everyone)
        mos = mos_of(test)
        for subset, mask in subsets(test).items():
            contents = {row.content for row, chosen in zip(test, mask, strict=True) if chosen}
            sizes.setdefault(subset, (int(mask.sum()), None if None in contents else len(contents)))
            for name, scores in everyone.items():
                for metric in metrics:
                    try:
                        value = MEASURES[metric](scores[mask], mos[mask])
                    except MetricError as error:
                        errors.setdefault((name, subset, metric), f"seed {seed}: {error}")
                    else:
                        values[name, subset][metric].append(value)
    return [
        Result(
            name,
            subset,
            *size,
            {
                metric: _mean(values[name, subset][metric], errors.get((name, subset, metric)))
                for metric in metrics
            },
        )
        for subset, size in sizes.items()
        for name in names
    ]


def _mean(values: Sequence[float], error: str | None) -> Cell:
    if error is not None:
        return Cell(None, error=error)
    return Cell(float(np.mean(values)), deviation=float(np.std(values, ddof=1)))
