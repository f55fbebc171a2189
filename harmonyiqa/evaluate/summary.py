"""One evaluation from joined rows: the model beside the null predictors, and what the numbers mean."""

from collections.abc import Sequence

from harmonyiqa.data.manifest import Row
from harmonyiqa.data.splits import contents_in_two_splits
from harmonyiqa.errors import UserError
from harmonyiqa.evaluate.join import Joined
from harmonyiqa.evaluate.null_predictors import null_predictors
from harmonyiqa.evaluate.tables import (
    Evaluation,
    difference,
    measure,
    measure_within_method,
    measurement,
    subsets,
)


def summarize(
    joined: Joined,
    name: str,
    train: Sequence[Row],
    *,
    title: str,
    notes: Sequence[str] = (),
    bootstrap: int = 1000,
    seed: int = 0,
) -> Evaluation:
    """Measure one model and the null predictors on all rows, each group, and within methods.

    Args:
        joined: N rows with MOS and score.
        name: what the table calls the model.
        train: rows that the null predictors learn from; those without MOS are passed over. May be empty.
        title: what was evaluated on what.
        notes: lines that stand before those about intervals and null predictors.
        bootstrap: resamples behind each interval.
        seed: seed of the resamples.

    Raises:
        UserError: if there is no row, or ``bootstrap`` is below 1.
    """
    if not joined.rows:
        raise UserError("no row has both a MOS and a score, so there is nothing to measure")
    train = [row for row in train if row.mos is not None]
    nulls = null_predictors(train, joined.rows)
    predictors = {name: joined.scores, **nulls}
    measured = measurement(joined.rows, bootstrap=bootstrap, seed=seed)
    results = measure(measured, predictors, subsets(joined.rows)) + measure_within_method(
        measured, predictors
    )
    own = (name, joined.scores)
    return Evaluation(
        title=f"{title} ({synthetic_mark(joined.rows)}MOS)",
        notes=[
            *synthetic_notes(joined.rows),
            *notes,
            interval_note(measured.clustered, bootstrap, seed),
            null_note(joined.rows, train, bool(nulls)),
            *joined.problems,
        ],
        results=results,
        differences=[difference(measured, own, null) for null in nulls.items()],
        settings={"bootstrap": bootstrap, "seed": seed, "rows": len(joined.rows), "unused": joined.unused},
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


def interval_note(clustered: bool, bootstrap: int, seed: int) -> str:
    """How the intervals were made."""
    unit = "whole contents" if clustered else "single images, contents being unknown"
    return (
        f"In brackets: 95% intervals of {bootstrap} bootstrap resamples (seed {seed}) that draw {unit}. KRCC "
        "is tau-b; PLCC (fitted) follows a 4-parameter logistic fit; within method: mean SRCC over methods. "
        "A number without brackets: over 5% of the resamples have no value."
    )


def null_note(rows: Sequence[Row], train: Sequence[Row], shown: bool) -> str:
    """What the null predictors learnt from, or why there are none."""
    if not shown:
        missing = "train rows with a MOS" if not train else "a method in every row"
        return f"Null predictors: none, for want of {missing}."
    seen = {id(row) for row in train}  # not names: two manifests may both hold images/1.jpg
    own = sum(id(row) in seen for row in rows)
    inside = f" {own} of the evaluated rows are among them, so they flatter." if own else ""
    return (
        f"Null predictors never see a pixel: they learn from {len(train)} train rows and are told each "
        f"image's method (and content).{inside}"
    )
