"""An evaluation as text: one aligned Markdown table, which a terminal shows just as well, and JSON."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from harmonyiqa.errors import UserError
from harmonyiqa.evaluate.algorithms import Ranking
from harmonyiqa.evaluate.tables import Cell, Difference, Evaluation, Result
from harmonyiqa.files import atomic_path

METRIC_TITLES = {
    "srcc": "SRCC",
    "krcc": "KRCC",
    "plcc": "PLCC (raw)",
    "plcc_fitted": "PLCC (fitted)",
    "plcc_fitted5": "PLCC (5 par.)",
    "rmse_fitted": "RMSE (fitted)",
}
# side by side, a table with all of them would not fit into a terminal
_TABLES = (("srcc", "krcc", "plcc"), ("plcc_fitted", "plcc_fitted5", "rmse_fitted"))


def to_markdown(evaluation: Evaluation) -> str:
    """Title, results, differences and notes; errors are numbered in the cells and explained below."""
    errors = Footnotes()
    parts = [f"# {evaluation.title}"]
    parts += [_result_table(evaluation.results, metrics, errors) for metrics in _TABLES]
    if evaluation.differences:
        parts.append(difference_table(evaluation.differences, errors))
    parts += [ranking_table(ranking) for ranking in evaluation.rankings]
    parts.append(bullets([*errors.lines(), *evaluation.notes]))
    return "\n\n".join(part for part in parts if part) + "\n"


def _result_table(results: Sequence[Result], metrics: Sequence[str], errors: "Footnotes") -> str:
    """The lines and columns of these metrics that anybody measured."""
    shown = [result for result in results if any(name in result.cells for name in metrics)]
    found = [name for name in metrics if any(name in result.cells for result in shown)]
    if not found:
        return ""
    return table(
        ["rows", "predictor", "images", "contents", *(METRIC_TITLES[name] for name in found)],
        [
            [
                result.subset,
                result.predictor,
                str(result.images),
                "" if result.contents is None else str(result.contents),
                *(cell_text(result.cells[name], errors) if name in result.cells else "" for name in found),
            ]
            for result in shown
        ],
    )


def difference_table(differences: Sequence[Difference], errors: "Footnotes") -> str:
    """One line a comparison, with the sign shown, and the p of its tests."""
    names = list(dict.fromkeys(test.name for each in differences for test in each.tests))
    lines = []
    for each in differences:
        p_of = {test.name: f"{test.statistic:+.2f}, p {test.p:.2g}" for test in each.tests}
        cell = cell_text(each.cell, errors, sign=True)
        first = [f"{each.first} - {each.second}", each.subset, METRIC_TITLES[each.metric], cell]
        lines.append([*first, *(p_of.get(name, "") for name in names)])
    return table(["difference", "rows", "metric", "value", *names], lines)


def ranking_table(ranking: Ranking) -> str:
    """The algorithms, best by people first, and below how well the predictor ranks them."""
    errors = Footnotes()
    lines = [
        [
            algorithm.name,
            str(algorithm.images),
            *(
                text
                for standing in (algorithm.people, algorithm.predicted)
                for text in (
                    cell_text(standing.mean, errors, digits=2),
                    cell_text(standing.rank, errors, digits=0),
                )
            ),
        ]
        for algorithm in ranking.algorithms
    ]
    header = ["algorithm", "images", "mean MOS", "rank", f"mean of {ranking.predictor}", "rank"]
    agreement = ", ".join(
        f"{METRIC_TITLES[name]} {cell_text(cell, errors)}" for name, cell in ranking.agreement.items()
    )
    below = [
        f"Ranking of the algorithms by {ranking.predictor}, agreement with people: {agreement}.",
        f"Of {ranking.told_apart} pairs of algorithms that people tell apart, {ranking.alike} stand in the same order.",
        *errors.lines(),
    ]
    return table(header, lines) + "\n\n" + bullets(below)


def bullets(lines: Iterable[str]) -> str:
    """A Markdown list."""
    return "\n".join(f"- {line}" for line in lines)


def to_json(evaluation: Evaluation) -> str:
    """Every number at full precision. A cell without a value has its error."""
    return json.dumps(asdict(evaluation), indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def read_results(path: str | Path) -> list[Result]:
    """The results of an evaluation that was written with ``to_json``.

    Raises:
        UserError: if the file is not one.
    """
    try:
        results = json.loads(Path(path).read_text(encoding="utf-8"))["results"]
        return [
            Result(**{**each, "cells": {name: Cell(**cell) for name, cell in each["cells"].items()}})
            for each in results
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not an evaluation that harmonyiqa wrote as JSON ({error})") from error


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


def cell_text(cell: Cell, errors: Footnotes, *, sign: bool = False, digits: int = 3) -> str:
    """``0.791 [0.752, 0.823]``, ``0.791 +- 0.019``, ``0.791``, or the number of the error below the table."""
    if cell.error is not None or cell.value is None:
        return errors.mark(cell.error or "no value")
    style = f"{'+' if sign else ''}.{digits}f"
    if cell.deviation is not None:
        return f"{cell.value:{style}} +- {cell.deviation:.{digits}f}"
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
