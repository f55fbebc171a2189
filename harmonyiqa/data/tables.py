"""One way to read and write a small table: CSV, JSON lines or Parquet, told by the suffix."""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TextIO

from harmonyiqa.errors import UserError
from harmonyiqa.files import atomic_path

Value = str | float | int | None
SUFFIXES = (".csv", ".jsonl", ".parquet")
_ROWS_AT_A_TIME = 65_536


def read_table(path: str | Path) -> list[dict[str, Value]]:
    """Every row of `iterate_table`, at once."""
    return list(iterate_table(path))


def iterate_table(path: str | Path) -> Iterator[dict[str, Value]]:
    """Read row by row, in order. Cells of a CSV are text; an empty one is None.

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

            with pyarrow.parquet.ParquetFile(path) as table:
                for batch in table.iter_batches(_ROWS_AT_A_TIME):
                    yield from batch.to_pylist()
            return
        with path.open(encoding="utf-8-sig", newline="") as file:  # spreadsheets write a byte-order mark
            if suffix == ".csv":
                yield from _read_csv(file, path)
            else:
                lines = (line for line in enumerate(file, 1) if line[1].strip())
                yield from (_json_row(line, number, path) for number, line in lines)
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
    names = (
        list(columns) if columns is not None else list(dict.fromkeys(name for row in rows for name in row))
    )
    if _suffix(Path(path)) != ".parquet":
        stream_table(rows, path, dict.fromkeys(names, str))
        return
    import pyarrow
    import pyarrow.parquet

    with atomic_path(path) as temporary:
        table = pyarrow.table({name: [row.get(name) for row in rows] for name in names})
        pyarrow.parquet.write_table(table, temporary)


def stream_table(
    rows: Iterable[Mapping[str, Value]], path: str | Path, columns: Mapping[str, type[str] | type[float]]
) -> None:
    """Write rows as they come, in order, atomically; None is an empty cell.

    Args:
        rows: taken one after the other, never held all at once.
        path: the file.
        columns: in their order, each with its type in Parquet.

    Raises:
        UserError: if the suffix is unknown or the folder cannot be written.
    """
    path = Path(path)
    suffix = _suffix(path)
    with atomic_path(path) as temporary:
        if suffix == ".parquet":
            _write_parquet(rows, temporary, columns)
            return
        with temporary.open("w", encoding="utf-8", newline="") as file:
            if suffix == ".csv":
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(columns)
                writer.writerows([row.get(name) for name in columns] for row in rows)
            else:
                for row in rows:
                    cells = {name: row.get(name) for name in columns}
                    file.write(json.dumps(cells, ensure_ascii=False) + "\n")


def _write_parquet(
    rows: Iterable[Mapping[str, Value]], path: Path, columns: Mapping[str, type[str] | type[float]]
) -> None:
    import pyarrow
    import pyarrow.parquet

    kinds = {str: pyarrow.string(), float: pyarrow.float64()}
    schema = pyarrow.schema([(name, kinds[kind]) for name, kind in columns.items()])
    left = iter(rows)
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:
        while some := list(islice(left, _ROWS_AT_A_TIME)):
            cells = [[row.get(name) for row in some] for name in columns]
            writer.write_table(pyarrow.table(cells, schema=schema))


def _suffix(path: Path) -> str:
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"table {path} has suffix {path.suffix!r}; use one of {' '.join(SUFFIXES)}")
    return path.suffix.lower()


def _read_csv(file: TextIO, path: Path) -> Iterator[dict[str, Value]]:
    reader = csv.reader(file, strict=True)
    names = [name.strip() for name in next(reader, [])]
    if not names:
        raise UserError(f"{path} is empty; its first line must name the columns")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"{path} has the column {twice[0]!r} twice; keep one")
    for cells in reader:
        if not cells:
            continue  # a blank line
        if len(cells) != len(names):
            raise UserError(
                f"line {reader.line_num} of {path} has {len(cells)} cells, its header {len(names)}"
            )
        yield {name: cell or None for name, cell in zip(names, cells, strict=True)}


def _json_row(line: str, number: int, path: Path) -> dict[str, Value]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"line {number} of {path} is not JSON: {error.msg}") from error
    if not isinstance(row, dict):
        raise UserError(f"line {number} of {path} is not a JSON object; write one {{...}} a line")
    return row
