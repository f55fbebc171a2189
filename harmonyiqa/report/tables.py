"""An evaluation as text: one aligned Markdown table, which a terminal shows just as well, and JSON."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from harmonyiqa.evaluate.tables import Cell, Difference, Evaluation
from harmonyiqa.files import atomic_path

METRIC_TITLES = {"srcc": "SRCC", "krcc": "KRCC", "plcc": "PLCC (raw)", "plcc_fitted": "PLCC (fitted)"}


def to_markdown(evaluation: Evaluation) -> str:
    """Title, results, differences and notes; errors are numbered in the cells and explained below."""
    errors = Footnotes()
    parts = [f"# {evaluation.title}"]
    metrics = [name for name in METRIC_TITLES if any(name in result.cells for result in evaluation.results)]
    parts.append(
        table(
            ["rows", "predictor", "images", "contents", *(METRIC_TITLES[name] for name in metrics)],
            [
                [
                    result.subset,
                    result.predictor,
                    str(result.images),
                    "" if result.contents is None else str(result.contents),
                    *(
                        cell_text(result.cells[name], errors) if name in result.cells else ""
                        for name in metrics
                    ),
                ]
                for result in evaluation.results
            ],
        )
    )
    if evaluation.differences:
        parts.append(difference_table(evaluation.differences, errors))
    parts.append(bullets([*errors.lines(), *evaluation.notes]))
    return "\n\n".join(part for part in parts if part) + "\n"


def difference_table(differences: Sequence[Difference], errors: "Footnotes") -> str:
    """One line a comparison, with the sign shown."""
    return table(
        ["difference", "rows", "metric", "value"],
        [
            [
                f"{each.first} - {each.second}",
                each.subset,
                METRIC_TITLES[each.metric],
                cell_text(each.cell, errors, sign=True),
            ]
            for each in differences
        ],
    )


def bullets(lines: Iterable[str]) -> str:
    """A Markdown list."""
    return "\n".join(f"- {line}" for line in lines)


def to_json(evaluation: Evaluation) -> str:
    """Every number at full precision. A cell without a value has its error."""
    return json.dumps(asdict(evaluation), indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def write_text(text: str, path: str | Path) -> None:
    """Write UTF-8 text beside ``path`` and rename it into place."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


class Footnotes:
    """Numbers for the different errors of a table."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def mark(self, error: str) -> str:
        """What stands in the cell."""
        return f"error ({self._numbers.setdefault(error, len(self._numbers) + 1)})"

    def lines(self) -> list[str]:
        """What stands below the table."""
        return [f"error ({number}): {error}" for error, number in self._numbers.items()]


def cell_text(cell: Cell, errors: Footnotes, *, sign: bool = False) -> str:
    """``0.791 [0.752, 0.823]``, ``0.791`` without an interval, or the number of the error below the table."""
    if cell.error is not None or cell.value is None:
        return errors.mark(cell.error or "no value")
    style = "+.3f" if sign else ".3f"
    if cell.low is None or cell.high is None:
        return format(cell.value, style)
    return f"{cell.value:{style}} [{cell.low:{style}}, {cell.high:{style}}]"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table with aligned columns; a bar or a line break inside a cell does not break it."""
    cells = [[_plain(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in cells
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def _plain(cell: str) -> str:
    return " ".join(cell.split()).replace("|", "\\|")
