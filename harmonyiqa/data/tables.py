"""One way to read and write a small table: CSV, JSON lines or Parquet, told by the suffix."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TextIO

from harmonyiqa.errors import UserError
from harmonyiqa.files import atomic_path

Value = str | float | int | None
SUFFIXES = (".csv", ".jsonl", ".parquet")


def read_table(path: str | Path) -> list[dict[str, Value]]:
    """Read every row, in order. Cells of a CSV are text; an empty one is None.

    Raises:
        UserError: if the file is missing, has another suffix or cannot be parsed.
    """
    path = Path(path)
    suffix = _suffix(path)
    if not path.is_file():
        raise UserError(f"table {path} does not exist; give a {' '.join(SUFFIXES)} file")
    try:
        if suffix == ".parquet":
            import pyarrow.parquet

            rows: list[dict[str, Value]] = pyarrow.parquet.read_table(path).to_pylist()
            return rows
        with path.open(encoding="utf-8-sig", newline="") as file:  # spreadsheets write a byte-order mark
            if suffix == ".csv":
                return _read_csv(file, path)
            return [_json_row(line, number, path) for number, line in enumerate(file, 1) if line.strip()]
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text ({error.reason}); save it as UTF-8") from error
    except (csv.Error, OSError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} cannot be read as {suffix[1:]}: {error}") from error


def write_table(
    rows: Sequence[Mapping[str, Value]], path: str | Path, columns: Sequence[str] | None = None
) -> None:
    """Write the rows, in order; None is an empty cell. Without ``columns`` they stand in order of appearance.

    Raises:
        UserError: if the suffix is unknown or the folder cannot be written.
    """
    path = Path(path)
    suffix = _suffix(path)
    names = (
        list(columns) if columns is not None else list(dict.fromkeys(name for row in rows for name in row))
    )
    with atomic_path(path) as temporary:
        if suffix == ".parquet":
            import pyarrow
            import pyarrow.parquet

            table = pyarrow.table({name: [row.get(name) for row in rows] for name in names})
            pyarrow.parquet.write_table(table, temporary)
            return
        with temporary.open("w", encoding="utf-8", newline="") as file:
            if suffix == ".csv":
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(names)
                writer.writerows([row.get(name) for name in names] for row in rows)
            else:
                for row in rows:
                    file.write(json.dumps({name: row.get(name) for name in names}, ensure_ascii=False) + "\n")


def _suffix(path: Path) -> str:
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"table {path} has suffix {path.suffix!r}; use one of {' '.join(SUFFIXES)}")
    return path.suffix.lower()


def _read_csv(file: TextIO, path: Path) -> list[dict[str, Value]]:
    reader = csv.reader(file, strict=True)
    names = [name.strip() for name in next(reader, [])]
    if not names:
        raise UserError(f"{path} is empty; its first line must name the columns")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"{path} has the column {twice[0]!r} twice; keep one")
    rows: list[dict[str, Value]] = []
    for cells in reader:
        if not cells:
            continue  # a blank line
        if len(cells) != len(names):
            raise UserError(
                f"line {reader.line_num} of {path} has {len(cells)} cells, its header {len(names)}"
            )
        rows.append({name: cell or None for name, cell in zip(names, cells, strict=True)})
    return rows


def _json_row(line: str, number: int, path: Path) -> dict[str, Value]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"line {number} of {path} is not JSON: {error.msg}") from error
    if not isinstance(row, dict):
        raise UserError(f"line {number} of {path} is not a JSON object; write one {{...}} a line")
    return row
