"""Predictors that never see a pixel. A model that does not beat them has learnt nothing from images.

They learn from training rows only and are told which method made an image, which content it shows, or both. On
HarmonyIQAD they come close to published models, so they stand beside every result.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from harmonyiqa.data.manifest import Row
from harmonyiqa.errors import UserError
from harmonyiqa.metrics import Floats

SIBLING_WEIGHT = 0.8
METHOD, CONTENT, BOTH = NULL_PREDICTORS = ("method mean", "content mean", "content sibling")


def method_mean(train: Sequence[Row], rows: Sequence[Row]) -> Floats:
    """The mean training MOS of each row's method, shape (len(rows),).

    A method that training never saw gets the mean over all training rows.

    Args:
        train: rows with MOS and method.
        rows: rows with method; their MOS is not looked at.

    Raises:
        UserError: if there are no training rows, or one has no MOS or no method.
    """
    means, overall = _method_means(train)
    return np.array([means.get(row.method, overall) for row in rows], dtype=np.float64)


def content_mean(train: Sequence[Row], rows: Sequence[Row]) -> Floats:
    """The mean training MOS of each row's content and group, the image's siblings, shape (len(rows),).

    A content that training never saw in this group gets the mean of the group, a group never seen that of all.

    Args:
        train: rows with MOS and content.
        rows: rows with content; their MOS is not looked at.

    Raises:
        UserError: if there are no training rows, or one has no MOS.
    """
    by_sibling: dict[tuple[str | None, str | None], list[float]] = defaultdict(list)
    groups: dict[str | None, list[float]] = defaultdict(list)
    for row in train:
        by_sibling[row.content, row.group].append(_mos(row))
        groups[row.group].append(_mos(row))
    if not groups:
        raise UserError("there are no training rows to learn the null predictors from")
    overall = float(np.mean([mos for values in groups.values() for mos in values]))
    by_group = {name: float(np.mean(values)) for name, values in groups.items()}
    by_content = {name: float(np.mean(values)) for name, values in by_sibling.items()}
    return np.array(
        [by_content.get((row.content, row.group), by_group.get(row.group, overall)) for row in rows],
        dtype=np.float64,
    )


def content_sibling(train: Sequence[Row], rows: Sequence[Row]) -> Floats:
    """The method mean + 0.8 x how far training images of the same content and group lie from theirs.

    It shows what a split is worth: where no content stands in training too, it equals the method mean.

    Args:
        train: rows with MOS, method and content.
        rows: rows with method and content; their MOS is not looked at.

    Returns:
        Predicted MOS, shape (len(rows),).

    Raises:
        UserError: if there are no training rows, or one has no MOS or no method.
    """
    means, overall = _method_means(train)
    residuals: dict[tuple[str | None, str | None], list[float]] = defaultdict(list)
    for row in train:
        residuals[row.content, row.group].append(_mos(row) - means[row.method])
    lifts = {key: SIBLING_WEIGHT * float(np.mean(values)) for key, values in residuals.items()}
    return np.array(
        [means.get(row.method, overall) + lifts.get((row.content, row.group), 0.0) for row in rows],
        dtype=np.float64,
    )


def null_predictors(train: Sequence[Row], rows: Sequence[Row]) -> dict[str, Floats]:
    """Those that the rows allow: by method, by content, and by both (``content sibling``).

    The content mean needs an image whose content and group stand in training: else it only knows the group.
    """
    if not train:
        return {}
    methods, contents = (all(getattr(row, key) for row in (*train, *rows)) for key in ("method", "content"))
    predictors = {}
    if methods:
        predictors[METHOD] = method_mean(train, rows)
    if contents and siblings(train, rows):
        predictors[CONTENT] = content_mean(train, rows)
    if methods and contents:
        predictors[BOTH] = content_sibling(train, rows)
    return predictors


def siblings(train: Sequence[Row], rows: Sequence[Row]) -> int:
    """How many rows have a training row of the same content and group."""
    seen = {(row.content, row.group) for row in train if row.content}
    return sum((row.content, row.group) in seen for row in rows)


def _method_means(train: Iterable[Row]) -> tuple[dict[str | None, float], float]:
    by_method: dict[str | None, list[float]] = defaultdict(list)
    for row in train:
        if row.method is None:
            raise UserError(f"training row {row.image} has no method; the null predictors need one")
        by_method[row.method].append(_mos(row))
    if not by_method:
        raise UserError("there are no training rows to learn the null predictors from")
    overall = float(np.mean([mos for values in by_method.values() for mos in values]))
    return {method: float(np.mean(values)) for method, values in by_method.items()}, overall


def _mos(row: Row) -> float:
    if row.mos is None:
        raise UserError(f"training row {row.image} has no MOS; the null predictors need one")
    return row.mos
