"""One evaluation from joined rows: the model beside the null predictors, and what the numbers mean."""

from collections.abc import Mapping, Sequence
from typing import Literal

from harmonyiqa.data.manifest import Row
from harmonyiqa.data.splits import contents_in_two_splits
from harmonyiqa.errors import UserError
from harmonyiqa.evaluate.algorithms import rank_algorithms
from harmonyiqa.evaluate.intervals import LARGE
from harmonyiqa.evaluate.null_predictors import null_predictors, siblings
from harmonyiqa.evaluate.seeds import TRAIN_SHARE, measure_seeds
from harmonyiqa.evaluate.tables import (
    Evaluation,
    difference,
    measure,
    measure_within,
    measurement,
    subsets,
)
from harmonyiqa.metrics import Floats

METRIC_NOTE = (
    "KRCC is tau-b; PLCC (fitted) and RMSE follow a 4-parameter logistic fit, PLCC (5 par.) Sheikh's; within "
    "method and within content: mean SRCC over methods, over contents. The p of Williams and Steiger take images "
    "as independent."
)


def summarize(
    rows: Sequence[Row],
    predictors: Mapping[str, Floats],
    train: Sequence[Row],
    *,
    title: str,
    notes: Sequence[str] = (),
    bootstrap: int = 1000,
    seed: int = 0,
) -> Evaluation:
    """Measure models and the null predictors on all rows, each group, within methods and within contents.

    The first model is compared with the others and with the null predictors.

    Args:
        rows: N rows with MOS.
        predictors: what the table calls each model -> its scores, shape (N,).
        train: rows that the null predictors learn from; those without MOS are passed over. May be empty.
        title: what was evaluated on what.
        notes: lines that stand before those about intervals and null predictors.
        bootstrap: resamples behind each interval.
        seed: seed of the resamples.

    Raises:
        UserError: if there is no row, or ``bootstrap`` is below 1.
    """
    if not rows:
        raise UserError("no row has both a MOS and a score, so there is nothing to measure")
    train = [row for row in train if row.mos is not None]
    nulls = null_predictors(train, rows)
    everyone = {**predictors, **nulls}
    measured = measurement(rows, bootstrap=bootstrap, seed=seed)
    first, *others = everyone.items()
    rankings = [rank_algorithms(measured, *each) for each in predictors.items()]
    return Evaluation(
        title=f"{title} ({synthetic_mark(rows)}MOS)",
        notes=[
            *synthetic_notes(rows),
            *notes,
            interval_note(measured.clustered, bootstrap, seed, len(rows)),
            METRIC_NOTE,
            null_note(rows, train, bool(nulls)),
        ],
        results=[
            *measure(measured, everyone, subsets(rows)),
            *measure_within(measured, everyone, "method"),
            *measure_within(measured, everyone, "content"),
        ],
        differences=[difference(measured, first, other) for other in others],
        rankings=[ranking for ranking in rankings if ranking is not None],
        settings={"bootstrap": bootstrap, "seed": seed, "rows": len(rows)},
    )


def summarize_seeds(
    rows: Sequence[Row],
    predictors: Mapping[str, Floats],
    *,
    title: str,
    seeds: int,
    kind: Literal["content", "method"],
    notes: Sequence[str] = (),
) -> Evaluation:
    """Models and null predictors over many random splits: mean and deviation.

    Args:
        rows: N rows with MOS.
        predictors: name -> scores, shape (N,); may be empty, then the null predictors stand alone.
        title: what was evaluated on what.
        seeds: how many splits.
        kind: by content (no scene in both parts) or per method (as in the paper).
        notes: lines that stand before those about the splits.

    Raises:
        UserError: if there is no row, there are too few seeds, or the rows cannot be split in this way.
    """
    if not rows:
        raise UserError("no row has both a MOS and a score, so there is nothing to measure")
    split = (
        "by content: no scene stands in both parts"
        if kind == "content"
        else "per method: scenes stand in both parts"
    )
    return Evaluation(
        title=f"{title} ({synthetic_mark(rows)}MOS)",
        notes=[
            *synthetic_notes(rows),
            *notes,
            f"Mean +- standard deviation over {seeds} random splits (seeds 0 to {seeds - 1}), "
            f"{TRAIN_SHARE:.0%} for training, {split}. Null predictors learn anew in each; a model's scores are "
            "taken as they are, so it must not have been trained on these rows.",
        ],
        results=measure_seeds(rows, predictors, seeds=seeds, kind=kind),
        settings={"seeds": seeds, "kind": kind, "rows": len(rows)},
    )


def synthetic_mark(rows: Sequence[Row]) -> str:
    """What a heading says before "MOS": nothing where people gave every score."""
    synthetic = sum(row.mos_kind == "synthetic" for row in rows)
    return "" if not synthetic else "synthetic " if synthetic == len(rows) else "partly synthetic "


def synthetic_notes(rows: Sequence[Row]) -> list[str]:
    """The line that stands under a table of synthetic scores; [] where people gave them."""
    synthetic = sum(row.mos_kind == "synthetic" for row in rows)
    if not synthetic:
        return []
    return [
        f"The MOS of {synthetic} of {len(rows)} rows are synthetic: computed from a colour difference, "
        "nobody voted. They say nothing about agreement with people."
    ]


def split_note(rows: Sequence[Row], split: str) -> str:
    """Which split was evaluated and how many contents stand in two splits.

    Args:
        rows: every row of the manifest, of all splits.
        split: the split evaluated, or ``all``.
    """
    contents = {row.content for row in rows if row.content}
    if not any(row.split for row in rows):
        return "Split: none, all rows are evaluated."
    if not contents:
        return f"Split: {split}. The manifest names no contents, so shared scenes cannot be counted."
    shared = len(contents_in_two_splits(rows))
    kind = "NOT content-disjoint, test scenes were seen in training" if shared else "content-disjoint"
    return f"Split: {split}; {kind}: {shared} of {len(contents)} contents stand in two splits."


def interval_note(clustered: bool, bootstrap: int, seed: int, rows: int) -> str:
    """How the intervals were made."""
    unit = "whole contents" if clustered else "single images, contents being unknown"
    first_order = f" Beyond {LARGE:,} rows a resample is taken to first order." if rows > LARGE else ""
    return (
        f"In brackets: 95% intervals of {bootstrap} bootstrap resamples (seed {seed}) that draw {unit}.{first_order} "
        "A number without brackets: over 5% of the resamples have no value."
    )


def null_note(rows: Sequence[Row], train: Sequence[Row], shown: bool) -> str:
    """What the null predictors learnt from, or why there are none."""
    if not shown:
        missing = "train rows with a MOS" if not train else "a method or a content in every row"
        return f"Null predictors: none, for want of {missing}."
    seen = {id(row) for row in train}  # not names: two manifests may both hold images/1.jpg
    own = sum(id(row) in seen for row in rows)
    inside = f" {own} of the evaluated rows are among them, so they flatter." if own else ""
    alone = "" if siblings(train, rows) else " No image has a sibling in training: the content says nothing."
    return (
        f"Null predictors never see a pixel: they learn from {len(train)} train rows and are told each "
        f"image's method, content, or both.{alone}{inside}"
    )
