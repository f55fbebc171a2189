"""Predictions and the manifest's opinions, side by side; what does not fit is counted and named."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harmonyiqa.data.manifest import Manifest, Row
from harmonyiqa.data.predictions import Prediction
from harmonyiqa.errors import UserError
from harmonyiqa.metrics import Floats

_NAMED = 3  # examples shown of each problem


@dataclass(frozen=True)
class Joined:
    """Rows that have a MOS and a score, in the manifest's order.

    Attributes:
        rows: N rows of the manifest.
        scores: their predictions, shape (N,).
        mode: ``NR`` or ``FR``, or both where the rows differ.
        unused: rows of the manifest that could not be used.
        problems: one line for each kind of row that was left out, with its count and first names.
    """

    rows: list[Row]
    scores: Floats
    mode: str
    unused: int
    problems: list[str]

    @property
    def mos(self) -> Floats:
        """Mean opinion scores, shape (N,)."""
        return mos_of(self.rows)


def mos_of(rows: Sequence[Row]) -> Floats:
    """The rows' MOS, shape (N,); NaN where a row has none."""
    return np.array([np.nan if row.mos is None else row.mos for row in rows], dtype=np.float64)


def join(manifest: Manifest, predictions: Sequence[Prediction], known: Sequence[Row] | None = None) -> Joined:
    """Look up every row's prediction by (image, reference), or by image alone for one made without reference.

    Args:
        manifest: the rows to evaluate on.
        predictions: in any order; rows that are not asked for do no harm.
        known: every row of the same file, of other splits too: a prediction for none of them is reported.

    Raises:
        UserError: if one key has two different scores, or nothing matches.
    """
    by_key = _by_key(predictions)
    rows: list[Row] = []
    used: list[Prediction] = []
    without_mos, missing, failed = [], [], []
    for row in manifest.rows:
        prediction = by_key.get((row.image, row.reference)) or by_key.get((row.image, None))
        if row.mos is None:
            without_mos.append(row.image)
        elif prediction is None:
            missing.append(row.image)
        elif prediction.score is None:
            failed.append(f"{row.image} ({prediction.error})")
        else:
            rows.append(row)
            used.append(prediction)
    wanted = {(row.image, reference) for row in known or manifest.rows for reference in (row.reference, None)}
    extra = [image for image, reference in by_key if (image, reference) not in wanted]
    if not rows and missing and by_key:
        raise UserError(
            f"no prediction is for a row of {manifest.path}: it has {missing[0]!r}, the predictions have "
            f"{predictions[0].image!r} with reference {predictions[0].reference!r}; score the manifest "
            f"itself, `harmonyiqa score {manifest.path}`, so that names agree"
        )
    problems = [
        _problem("rows have no MOS", without_mos),
        _problem("rows have no prediction", missing),
        _problem("rows could not be scored", failed),
        _problem("predictions belong to no row of the manifest", extra),
    ]
    modes = {"NR" if prediction.reference is None else "FR" for prediction in used}
    return Joined(
        rows=rows,
        scores=np.array([prediction.score for prediction in used], dtype=np.float64),
        mode=" and ".join(sorted(modes, reverse=True)),
        unused=len(without_mos) + len(missing) + len(failed),
        problems=[line for line in problems if line],
    )


def common(joined: Mapping[str, Joined]) -> tuple[list[Row], dict[str, Floats]]:
    """The rows that every predictor has scored, and their scores, so that comparisons are paired.

    Args:
        joined: name -> predictions joined with one and the same manifest.

    Returns:
        N rows in the manifest's order; name -> scores, shape (N,).

    Raises:
        UserError: if no row has a score of every predictor.
    """
    scores = {
        name: {id(row): score for row, score in zip(each.rows, each.scores.tolist(), strict=True)}
        for name, each in joined.items()
    }
    longest = max(joined.values(), key=lambda each: len(each.rows))
    rows = [row for row in longest.rows if all(id(row) in found for found in scores.values())]
    if not rows:
        raise UserError(f"no row has a MOS and a score of each of {', '.join(joined)}: nothing to compare")
    return rows, {name: np.array([found[id(row)] for row in rows]) for name, found in scores.items()}


def _by_key(predictions: Sequence[Prediction]) -> dict[tuple[str, str | None], Prediction]:
    by_key: dict[tuple[str, str | None], Prediction] = {}
    for prediction in predictions:
        key = (prediction.image, prediction.reference)
        other = by_key.setdefault(key, prediction)
        if other.score != prediction.score:
            raise UserError(
                f"{prediction.image} with reference {prediction.reference!r} has two scores, {other.score} "
                f"and {prediction.score}; keep one prediction a pair (and one model a file)"
            )
    return by_key


def _problem(what: str, names: Sequence[str]) -> str:
    if not names:
        return ""
    more = f", and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{len(names)} {what}: {', '.join(names[:_NAMED])}{more}"
