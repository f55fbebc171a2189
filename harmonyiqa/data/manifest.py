"""The manifest: one row an image, with its partners, its score and where it comes from."""

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path

from harmonyiqa.data.tables import Value, iterate_table, write_table
from harmonyiqa.errors import UserError

SPLITS = ("train", "val", "test")
PATHS = ("image", "reference", "composite", "mask")
NUMBERS = ("mos", "mos_std")
COLUMNS = (*PATHS, *NUMBERS, "method", "group", "content", "split", "mos_kind")
_SHOWN_PROBLEMS = 20


@dataclass(frozen=True, slots=True)
class Row:
    """One image of a manifest. Paths are relative to the manifest; what is unknown is None.

    Attributes:
        image: the image to be judged.
        reference: the untouched photo.
        composite: the image before harmonization.
        mask: the foreground, white.
        mos: mean opinion score, 0-100, higher is better.
        mos_std: standard deviation of the opinions.
        method: the algorithm that made the image.
        group: a subset that tables report alone.
        content: the scene; rows with one content show the same scene.
        split: train, val or test.
        mos_kind: where the score comes from; ``synthetic`` where no person gave it.
        extra: further columns, kept on writing.
    """

    image: str
    reference: str | None = None
    composite: str | None = None
    mask: str | None = None
    mos: float | None = None
    mos_std: float | None = None
    method: str | None = None
    group: str | None = None
    content: str | None = None
    split: str | None = None
    mos_kind: str | None = None
    extra: dict[str, str | float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Manifest:
    """The rows of a manifest file, in its order."""

    path: Path
    rows: list[Row]

    @property
    def root(self) -> Path:
        """The folder that paths in the rows start from."""
        return self.path.parent

    def resolve(self, relative: str) -> Path:
        """Where a path of a row lies."""
        return self.root / relative

    def select(self, predicate: Callable[[Row], bool]) -> "Manifest":
        """The rows for which ``predicate`` holds, in order."""
        return replace(self, rows=[row for row in self.rows if predicate(row)])

    def split(self, name: str) -> "Manifest":
        """The rows of one split.

        Raises:
            UserError: if the manifest has no row of that split.
        """
        chosen = self.select(lambda row: row.split == name)
        if not chosen.rows:
            found = ", ".join(sorted({row.split for row in self.rows if row.split})) or "none"
            raise UserError(
                f"{self.path} has no row of split {name!r} (found: {found}); see `harmonyiqa data split`"
            )
        return chosen


def evenly(rows: Sequence[Row], most: int) -> list[Row]:
    """At most so many rows, spread evenly over all; 0 takes all."""
    return [rows[i * len(rows) // most] for i in range(most)] if 0 < most < len(rows) else list(rows)


def read_manifest(path: str | Path) -> Manifest:
    """Read a manifest (.csv, .jsonl, .parquet) and check every cell.

    Raises:
        UserError: as `iterate_manifest`.
    """
    return Manifest(Path(path), list(iterate_manifest(path)))


def iterate_manifest(path: str | Path) -> Iterator[Row]:
    """The rows of a manifest, one after the other.

    Raises:
        UserError: after the last row, one message that lists what is wrong: a missing or misspelt column, a score
            that is not a number, a row without an image, an unknown split, no rows.
    """
    problems: list[str] = []
    names: dict[str, None] = {}
    number = 0
    for number, cells in enumerate(iterate_table(path), 1):
        names |= dict.fromkeys(cells)
        yield _row(cells, number, problems)
    if not number:
        raise UserError(f"{path} has no rows")
    if problems := _column_problems(list(names)) or problems:
        more = len(problems) - _SHOWN_PROBLEMS
        tail = f"; and {more} more" if more > 0 else ""
        raise UserError(f"{path}: " + "; ".join(problems[:_SHOWN_PROBLEMS]) + tail)


def write_manifest(rows: Iterable[Row], path: str | Path) -> None:
    """Write rows as a manifest; columns without any value are left out (``image`` stays).

    Paths are written as they stand in the rows: relative to ``path`` (see :func:`relocated`).
    """
    rows = list(rows)
    known = [
        name for name in COLUMNS if name == "image" or any(getattr(row, name) is not None for row in rows)
    ]
    extra = list(dict.fromkeys(name for row in rows for name in row.extra))
    table = [{name: getattr(row, name) for name in known} | row.extra for row in rows]
    write_table(table, path, [*known, *extra])


def relocated(manifest: Manifest, path: str | Path) -> list[Row]:
    """The manifest's rows with their paths rewritten to start from the folder of ``path``."""
    if manifest.root.resolve() == Path(path).parent.resolve():
        return manifest.rows

    def move(relative: str) -> str:
        return relative_path(manifest.resolve(relative), path)

    return [
        replace(
            row,
            image=move(row.image),
            reference=row.reference and move(row.reference),
            composite=row.composite and move(row.composite),
            mask=row.mask and move(row.mask),
        )
        for row in manifest.rows
    ]


def relative_path(file: Path, manifest: str | Path) -> str:
    """How a manifest at the path ``manifest`` writes ``file``."""
    # links in folders are followed, or ".." would lead elsewhere; the file keeps its own name
    start = Path(manifest).parent.resolve()
    return Path(os.path.relpath(file.parent.resolve() / file.name, start)).as_posix()


def _column_problems(names: list[str]) -> list[str]:
    problems = []
    absent = [name for name in COLUMNS if name not in names]
    for name in names:
        near = get_close_matches(name.lower(), absent, n=1, cutoff=0.8)
        if name not in COLUMNS and near:
            problems.append(f"unknown column {name!r}, did you mean {near[0]!r}?")
            absent.remove(near[0])
    if "image" in absent:
        problems.append(f"no column 'image' (columns: {', '.join(names)})")
    return problems


def _row(cells: dict[str, Value], number: int, problems: list[str]) -> Row:
    def text(name: str) -> str | None:
        value = cells.get(name)
        return None if value is None or value == "" else str(value)

    def score(name: str) -> float | None:
        value = cells.get(name)
        if value is None or value == "":
            return None
        try:
            parsed = float(value)
        except (TypeError, ValueError):
            parsed = math.nan
        if not math.isfinite(parsed):
            problems.append(f"{name} {value!r} in row {number} is not a number")
            return None
        return parsed

    if text("image") is None:
        problems.append(f"row {number} names no image")
    split = text("split")
    if split is not None and split not in SPLITS:
        problems.append(f"split {split!r} in row {number} is not one of {', '.join(SPLITS)}")
    return Row(
        image=text("image") or "",
        reference=text("reference"),
        composite=text("composite"),
        mask=text("mask"),
        mos=score("mos"),
        mos_std=score("mos_std"),
        method=text("method"),
        group=text("group"),
        content=text("content"),
        split=split,
        mos_kind=text("mos_kind"),
        extra={name: _plain(value) for name, value in cells.items() if name not in COLUMNS},
    )


def _plain(value: Value) -> str | float | None:
    """A cell of an unknown column. Text becomes a number only where writing it again gives the same text."""
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        return float(value)
    try:
        number = float(value)
    except ValueError:
        return value
    return number if math.isfinite(number) and repr(number) == value else value
