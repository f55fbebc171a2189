"""The paper's tables II to VI: its figures, read from one data file, with our own put beside them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import yaml

from harmonyiqa.errors import UserError
from harmonyiqa.evaluate.tables import Cell, Result

PUBLISHED = Path(__file__).with_name("published.yaml")
SETS = {"csiq": "CSIQ", "tid2013": "TID2013", "kadid10k": "KADID-10k", "live": "LIVE"}  # of tables V and VI


@dataclass(frozen=True)
class Entry:
    """A figure of the paper (None where it prints none, or our text lost it) and ours (None if not measured)."""

    published: float | None
    ours: Cell | None


@dataclass(frozen=True)
class Line:
    """One method on one subset: its entries by metric.

    Attributes:
        kind: ``published`` (a row of the paper), ``own`` (a method that the paper does not have), or ``null`` (a
            predictor that never sees a pixel).
    """

    name: str
    kind: str
    entries: dict[str, Entry]


@dataclass(frozen=True)
class Block:
    """One subset of a table: All, NGIHA, ..., a data set, or a training and a test set."""

    subset: str
    lines: list[Line]


@dataclass(frozen=True)
class PaperTable:
    """One table of the paper, filled."""

    name: str
    title: str
    note: str
    metrics: list[str]
    blocks: list[Block]


@dataclass(frozen=True)
class PublishedRow:
    """A row as printed. ``values`` is keyed by (subset, metric); empty where our text lost it."""

    name: str
    key: str | None
    values: dict[tuple[str, str], float]


@dataclass(frozen=True)
class PublishedTable:
    """A table as printed."""

    name: str
    title: str
    note: str
    mode: str
    subsets: list[str]
    metrics: list[str]
    rows: list[PublishedRow]


@dataclass
class Own:
    """What we measured: results by row key and mode (``NR`` or ``FR``), several where there were several seeds.

    Attributes:
        methods: (key, mode) -> results of one file each; a result's subset is that of the table.
        nulls: results of the predictors that never see a pixel.
    """

    methods: dict[tuple[str, str], list[list[Result]]] = field(default_factory=dict)
    nulls: list[Result] = field(default_factory=list)


def read_published(path: Path = PUBLISHED) -> list[PublishedTable]:
    """The figures that the paper prints.

    Raises:
        UserError: if a row has not one value for each subset and metric.
    """
    tables = yaml.safe_load(path.read_text(encoding="utf-8"))["tables"]
    return [
        PublishedTable(
            name=table["name"],
            title=table["title"],
            note=table.get("note", ""),
            mode=table["mode"],
            subsets=table["subsets"],
            metrics=table["metrics"],
            rows=[_row(row, table, path) for row in table["rows"]],
        )
        for table in tables
    ]


def fill(published: Sequence[PublishedTable], own: Mapping[str, Own]) -> list[PaperTable]:
    """Put our results beside the paper's.

    A method goes into the row of its key; one that no table of its mode knows stands below the published rows.

    Args:
        published: the paper's tables.
        own: name of a table -> what we measured for it.
    """
    return [_filled(table, own.get(table.name, Own())) for table in published]


def mean_over_files(cells: Sequence[Cell]) -> Cell:
    """One file's cell as it is; of several the mean and standard deviation, or the first error."""
    if len(cells) == 1:
        return cells[0]
    values = []
    for cell in cells:
        if cell.value is None:
            return Cell(None, error=cell.error)
        values.append(cell.value)
    return Cell(float(np.mean(values)), deviation=float(np.std(values, ddof=1)))


def _row(row: dict, table: dict, path: Path) -> PublishedRow:
    columns = [(subset, metric) for subset in table["subsets"] for metric in table["metrics"]]
    values = row["values"] or []
    if values and len(values) != len(columns):
        raise UserError(
            f"{path.name}: {row['name']} of table {table['name']} has {len(values)} values for "
            f"{len(columns)} columns"
        )
    return PublishedRow(row["name"], row.get("key"), dict(zip(columns, values, strict=bool(values))))


def _filled(table: PublishedTable, own: Own) -> PaperTable:
    known = {row.key for row in table.rows}
    mine = {key: files for (key, mode), files in own.methods.items() if mode == table.mode and key in known}
    others = {
        (key if mode == table.mode else f"{key} ({mode})"): files
        for (key, mode), files in own.methods.items()
        if not (mode == table.mode and key in known)
    }
    nulls = list(dict.fromkeys(result.predictor for result in own.nulls))
    blocks = []
    for subset in table.subsets:
        lines = [
            Line(
                row.name,
                "published",
                {
                    metric: Entry(
                        row.values.get((subset, metric)), _cell(mine.get(row.key or "", []), subset, metric)
                    )
                    for metric in table.metrics
                },
            )
            for row in table.rows
        ]
        for kind, found in (
            ("own", others),
            ("null", {name: [[r for r in own.nulls if r.predictor == name]] for name in nulls}),
        ):
            lines += [
                Line(name, kind, {m: Entry(None, _cell(files, subset, m)) for m in table.metrics})
                for name, files in found.items()
            ]
        blocks.append(Block(subset, lines))
    return PaperTable(table.name, table.title, table.note, table.metrics, blocks)


def _cell(files: Sequence[Sequence[Result]], subset: str, metric: str) -> Cell | None:
    cells = [
        result.cells[metric]
        for results in files
        for result in results
        if result.subset == subset and metric in result.cells
    ]
    return mean_over_files(cells) if cells else None
