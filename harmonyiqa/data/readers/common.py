"""What every reader shares: a published scale, files found in any letter case, problems told by kind."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from harmonyiqa.data.manifest import relative_path
from harmonyiqa.errors import UserError
from harmonyiqa.images import find_images

_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Scale:
    """A data set's own scale; MOS is linear on it, 0 at ``worst`` and 100 at ``best``.

    Where lower is better, as with DMOS, ``worst`` is the larger number.
    """

    worst: float
    best: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.worst) and math.isfinite(self.best)) or self.worst == self.best:
            raise UserError(f"worst {self.worst:g} and best {self.best:g} must be two different numbers")

    def mos(self, score: float) -> float:
        """The score as MOS, 0 to 100, higher is better."""
        return 100 * (score - self.worst) / (self.best - self.worst)

    def mos_std(self, cell: Any) -> float | None:
        """A standard deviation of scores in MOS points, or None if the cell holds none."""
        std = _number(cell)
        return None if std is None or std < 0 else 100 * std / abs(self.best - self.worst)

    def parse(self, cell: Any) -> float | None:
        """The score in a cell, or None if it is no number on this scale."""
        score = _number(cell)
        inside = score is not None and min(self.worst, self.best) <= score <= max(self.worst, self.best)
        return score if inside else None

    def original(self, score: float) -> dict[str, str | float | None]:
        """The columns that keep the published value beside the MOS."""
        better = "higher" if self.best > self.worst else "lower"
        return {"original_score": score, "original_direction": f"{better} is better"}

    def __str__(self) -> str:
        return f"{min(self.worst, self.best):g} to {max(self.worst, self.best):g}"


class Files:
    """The images below a folder, found in any letter case and written as a manifest at ``out`` writes them.

    Attributes:
        names: their paths from the folder, sorted.
    """

    def __init__(self, root: str | Path, out: str | Path) -> None:
        root = Path(root)
        self.names = [path.relative_to(root).as_posix() for path in find_images([root])]
        self._start = PurePosixPath(relative_path(root, out))
        self._by_path = {name.lower(): name for name in self.names}
        self._by_name: defaultdict[str, list[str]] = defaultdict(list)
        for name in self.names:
            self._by_name[name.rpartition("/")[2].lower()].append(name)

    def find(self, name: str) -> str | None:
        """The file of this path from the folder, if there is one."""
        found = self._by_path.get(name.lower())
        return None if found is None else str(self._start / found)

    def named(self, name: str) -> list[str]:
        """The files of this name, whatever the folders between."""
        found = self._by_name.get(name.rpartition("/")[2].lower(), [])
        return [str(self._start / path) for path in found]


def _number(cell: Any) -> float | None:
    try:
        number = float(cell)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def counted(names: Sequence[str], what: str) -> list[str]:
    """One line that says how many, what is wrong with them, and which; [] where there are none."""
    if not names:
        return []
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return [f"{len(names)} {what}: {', '.join(names[:_SHOWN])}{more}"]


def read_sheet(path: Path, sheet: str | None = None) -> list[tuple[Any, ...]]:
    """The cells of a sheet of an xlsx file, the first one if none is named.

    Raises:
        UserError: if the file is missing, is no xlsx, or has no such sheet.
    """
    import openpyxl

    if not path.is_file():
        raise UserError(f"{path} does not exist; the data set comes with it")
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    except Exception as error:  # zipfile, XML and openpyxl's own errors
        raise UserError(f"{path} cannot be read as xlsx: {error}") from error
    try:
        if sheet is not None and sheet not in book.sheetnames:
            raise UserError(f"{path} has no sheet {sheet!r} (sheets: {', '.join(book.sheetnames)})")
        return list((book[sheet] if sheet else book.worksheets[0]).iter_rows(values_only=True))
    finally:
        book.close()
