"""The ratings table: who gave which image what, checked before anything is computed from it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harmonyiqa.data.tables import SUFFIXES, read_table
from harmonyiqa.errors import UserError

if TYPE_CHECKING:
    import pyarrow

COLUMNS = ("rater", "image", "rating")
_SHOWN = 20


@dataclass(frozen=True)
class Ratings:
    """N votes, in the order of the table.

    Attributes:
        raters: names, in order of appearance.
        images: names, in order of appearance.
        rater: index into ``raters``, shape (N,).
        image: index into ``images``, shape (N,).
        rating: the vote, shape (N,), on the study's scale.
        lowest: the lowest vote that the scale allows.
        highest: the highest.
        session: index of the session, shape (N,); all 0 without a column.
        time: seconds since any moment, shape (N,); None without a column.
    """

    raters: list[str]
    images: list[str]
    rater: NDArray[np.intp]
    image: NDArray[np.intp]
    rating: NDArray[np.float64]
    lowest: float
    highest: float
    session: NDArray[np.intp]
    time: NDArray[np.float64] | None = None

    def select(self, chosen: NDArray[np.bool_]) -> "Ratings":
        """Some of the votes; names and indices stay."""
        return replace(
            self,
            rater=self.rater[chosen],
            image=self.image[chosen],
            rating=self.rating[chosen],
            session=self.session[chosen],
            time=None if self.time is None else self.time[chosen],
        )


def read_ratings(path: str | Path, lowest: float = 1, highest: float = 5) -> Ratings:
    """Read a table with the columns rater, image, rating, and if known session and time.

    An image may be rated again by the same rater in another session; both votes count. ``time`` is when the vote
    was cast: seconds, or a date with time as in ISO 8601.

    Args:
        path: .csv, .jsonl or .parquet.
        lowest: the lowest vote that the scale allows.
        highest: the highest; the paper's scale has five points.

    Raises:
        UserError: one message that names the rows (from 1) of everything wrong: an empty cell, a vote that is no
            number or off the scale, two votes of one rater for one image in one session, times that are none;
            or fewer than two raters.
    """
    if not lowest < highest:
        raise UserError(
            f"--lowest {lowest:g} --highest {highest:g}: the lowest vote must be below the highest"
        )
    table = _read(Path(path))
    if missing := [name for name in COLUMNS if name not in table.column_names]:
        raise UserError(
            f"{path} has no column {', '.join(missing)} (columns: {', '.join(table.column_names)})"
        )
    if not table.num_rows:
        raise UserError(f"{path} has no rows")
    names: dict[str, list[str]] = {}
    codes: dict[str, NDArray[np.intp]] = {}
    problems: list[str] = []
    for name in ("rater", "image", *(("session",) if "session" in table.column_names else ())):
        names[name], codes[name] = _coded(table[name])
        if name != "session":
            problems += _rows(codes[name] < 0, f"no {name}")
    rating = _numbers(table["rating"])
    unreadable = np.isnan(rating)
    problems += _rows(unreadable, "a rating that is no number", table["rating"])
    outside = ~unreadable & ((rating < lowest) | (rating > highest))
    problems += _rows(
        outside,
        f"a rating outside {lowest:g} to {highest:g} (another scale: --lowest, --highest)",
        table["rating"],
    )
    session = codes.get("session", np.zeros(table.num_rows, dtype=np.intp))
    problems += _duplicates(codes["rater"], codes["image"], session)
    time = _times(table["time"], problems) if "time" in table.column_names else None
    if problems:
        raise UserError(f"{path}: {'; '.join(problems)}")
    if len(names["rater"]) < 2:
        raise UserError(
            f"{path} has one rater, {names['rater'][0]!r} (rows 1 to {table.num_rows}); "
            "a mean opinion needs at least two"
        )
    return Ratings(
        raters=names["rater"],
        images=names["image"],
        rater=codes["rater"],
        image=codes["image"],
        rating=rating,
        lowest=lowest,
        highest=highest,
        session=session,
        time=time,
    )


def _read(path: Path) -> "pyarrow.Table":
    """As ``read_table``, without a Python object for each of millions of cells. Cells of a CSV are text."""
    import pyarrow
    from pyarrow import csv, parquet

    suffix = path.suffix.lower()
    if suffix == ".jsonl" or suffix not in SUFFIXES or not path.is_file():
        return pyarrow.Table.from_pylist(read_table(path))  # which also says what is wrong with the path
    try:
        if suffix == ".parquet":
            return parquet.read_table(path)
        with path.open("rb") as file:
            header = file.readline().decode("utf-8-sig").rstrip("\r\n")
        columns = [name.strip().strip('"') for name in header.split(",")]
        if len(set(columns)) < len(columns):
            raise UserError(f"{path} has a column twice (columns: {', '.join(columns)}); keep one")
        return csv.read_csv(
            path,
            read_options=csv.ReadOptions(column_names=columns, skip_rows=1),
            convert_options=csv.ConvertOptions(
                column_types=dict.fromkeys(columns, pyarrow.string()),
                strings_can_be_null=True,
                null_values=[""],
            ),
        )
    except (pyarrow.ArrowInvalid, UnicodeDecodeError, OSError) as error:
        raise UserError(f"{path} cannot be read as {suffix[1:]}: {' '.join(str(error).split())}") from error


def _coded(column: Any) -> tuple[list[str], NDArray[np.intp]]:
    """Names in order of appearance, and an index for each cell; -1 where it is empty."""
    import pyarrow

    text = column.cast(pyarrow.string()).combine_chunks()
    encoded = text.dictionary_encode()
    return encoded.dictionary.to_pylist(), encoded.indices.fill_null(-1).to_numpy(
        zero_copy_only=False
    ).astype(np.intp)


def _numbers(column: Any) -> NDArray[np.float64]:
    """Cells as finite numbers; NaN where one is none."""
    import pyarrow
    from pyarrow import compute

    try:
        values = compute.cast(column, pyarrow.float64()).to_numpy().astype(np.float64)
    except (
        pyarrow.ArrowInvalid,
        pyarrow.ArrowNotImplementedError,
    ):  # it does not say which cells: look at each
        values = np.array([_number(cell) for cell in column.to_pylist()], dtype=np.float64)
    return np.where(np.isfinite(values), values, np.nan)


def _number(cell: Any) -> float:
    try:
        return float(cell)
    except (TypeError, ValueError):
        return math.nan


def _times(column: Any, problems: list[str]) -> NDArray[np.float64]:
    """Seconds, from numbers or from dates; an empty cell is NaN."""
    import pyarrow
    from pyarrow import compute

    for kind in (pyarrow.float64(), pyarrow.timestamp("us"), pyarrow.timestamp("us", tz="UTC")):
        try:
            values = compute.cast(column, kind)
        except (pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError):
            continue
        if kind != pyarrow.float64():
            values = compute.divide(
                compute.cast(compute.cast(values, pyarrow.int64()), pyarrow.float64()), 1e6
            )
        seconds: NDArray[np.float64] = values.to_numpy().astype(np.float64)
        return seconds
    problems.append(f"times such as {column[0].as_py()!r} are neither seconds nor ISO 8601 throughout")
    return np.full(len(column), np.nan)


def _duplicates(rater: NDArray[np.intp], image: NDArray[np.intp], session: NDArray[np.intp]) -> list[str]:
    order = np.lexsort((session, image, rater))
    keys = np.stack([rater, image, session])[:, order]
    same = (keys[:, 1:] == keys[:, :-1]).all(axis=0) & (keys[0, 1:] >= 0) & (keys[1, 1:] >= 0)
    pairs = [f"{order[i] + 1} and {order[i + 1] + 1}" for i in np.flatnonzero(same)[:_SHOWN]]
    if not pairs:
        return []
    return [_listed("two votes of one rater for one image", int(same.sum()), pairs)]


def _rows(wrong: NDArray[np.bool_], what: str, column: Any = None) -> list[str]:
    """[] or one problem that names the rows, from 1, with their cells."""
    found = np.flatnonzero(wrong)
    if not found.size:
        return []
    cells = ["" if column is None else f" ({column[int(i)].as_py()})" for i in found[:_SHOWN]]
    return [
        _listed(what, found.size, [f"{i + 1}{cell}" for i, cell in zip(found[:_SHOWN], cells, strict=True)])
    ]


def _listed(what: str, count: int, rows: Sequence[str]) -> str:
    more = f" and {count - len(rows)} more" if count > len(rows) else ""
    return f"{what} in row{'s' if count > 1 else ''} {', '.join(rows)}{more}"
