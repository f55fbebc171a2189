"""The predictions table: what a model says about each image; its key is (image, reference)."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from harmonyiqa.data.tables import Value, read_table, stream_table
from harmonyiqa.errors import UserError

COLUMNS: dict[str, type[str] | type[float]] = {
    "image": str,
    "reference": str,
    "score": float,
    "model": str,
    "error": str,
}


@dataclass(frozen=True, slots=True)
class Prediction:
    """One scored image: either ``score`` is a number or ``error`` says why there is none.

    ``image`` and ``reference`` are written as in the manifest that was scored, else as found by the command.
    """

    image: str
    reference: str | None
    score: float | None
    model: str
    error: str | None = None


def read_predictions(path: str | Path) -> list[Prediction]:
    """Read predictions (.csv, .jsonl, .parquet) in order.

    Raises:
        UserError: if a column is missing, a score is not a number, or a row has neither score nor error.
    """
    table = read_table(path)
    missing = [name for name in ("image", "score") if table and all(name not in row for row in table)]
    if missing:
        raise UserError(f"{path} has no column {missing[0]!r} (columns: {', '.join(table[0])})")
    return [_prediction(row, number, path) for number, row in enumerate(table, 1)]


def write_predictions(rows: Iterable[Prediction], path: str | Path) -> None:
    """Write predictions in order, as they come, atomically."""
    stream_table(({name: getattr(row, name) for name in COLUMNS} for row in rows), path, COLUMNS)


def _prediction(row: dict[str, Value], number: int, path: str | Path) -> Prediction:
    def text(name: str) -> str | None:
        value = row.get(name)
        return None if value is None or value == "" else str(value)

    image, error, value = text("image"), text("error"), text("score")
    if image is None:
        raise UserError(f"row {number} of {path} names no image")
    score = None
    if value is not None:
        try:
            score = float(value)
        except ValueError:
            score = math.nan
        if not math.isfinite(score):
            raise UserError(f"score {value!r} in row {number} of {path} is not a number")
    elif error is None:
        raise UserError(f"row {number} of {path} has neither a score nor an error")
    return Prediction(image, text("reference"), score, text("model") or "", error)
