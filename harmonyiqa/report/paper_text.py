"""The paper's tables as text: Markdown (which a terminal shows as well), LaTeX and CSV."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from harmonyiqa.data.tables import Value
from harmonyiqa.evaluate.tables import Cell, Result
from harmonyiqa.report.paper import Entry, PaperTable
from harmonyiqa.report.tables import METRIC_TITLES, Footnotes, bullets, cell_text, table

MISSING = "-"  # nobody measured it, or our text of the paper lost it


@dataclass(frozen=True)
class Document:
    """Everything that the page shows.

    Attributes:
        title: what was evaluated.
        tables: the paper's, filled.
        seeds: the null predictors over many random splits, by kind of split.
        protocol: how every number was made, a line each.
    """

    title: str
    tables: list[PaperTable]
    seeds: dict[str, list[Result]] = field(default_factory=dict)
    protocol: list[str] = field(default_factory=list)


def to_markdown(document: Document) -> str:
    """All tables, block by block: a published column beside each of ours."""
    errors = Footnotes()
    parts = [f"# {document.title}"]
    for each in document.tables:
        parts.append(f"## Table {each.name}: {each.title}")
        if each.note:
            parts.append(each.note)
        parts += [
            table(
                [block.subset, *_header(each.metrics)],
                [[line.name, *_texts(line.entries, errors)] for line in block.lines],
            )
            for block in each.blocks
        ]
    for kind, results in document.seeds.items():
        parts += [
            f"## Predictors that never see a pixel, over random splits {kind}",
            seeds_table(results, errors),
        ]
    parts += ["## Protocol", bullets([*document.protocol, *errors.lines()])]
    return "\n\n".join(parts) + "\n"


def seeds_table(results: Sequence[Result], errors: Footnotes) -> str:
    """Mean and deviation of each predictor on each subset."""
    metrics = list(results[0].cells)
    return table(
        ["rows", "predictor", *(METRIC_TITLES[metric] for metric in metrics)],
        [
            [each.subset, each.predictor, *(cell_text(each.cells[metric], errors) for metric in metrics)]
            for each in results
        ],
    )


def to_latex(document: Document) -> str:
    """One `table` a table of the paper, for the packages booktabs and multirow."""
    return "\n\n".join(_latex_table(each) for each in document.tables) + "\n"


def to_rows(document: Document) -> list[dict[str, Value]]:
    """One row an entry, at full precision, for a CSV; what is missing is empty."""
    return [
        {
            "table": each.name,
            "subset": block.subset,
            "method": line.name,
            "kind": line.kind,
            "metric": metric,
            "published": entry.published,
            **_numbers(entry.ours),
        }
        for each in document.tables
        for block in each.blocks
        for line in block.lines
        for metric, entry in line.entries.items()
    ]


def published_text(entry: Entry) -> str:
    """A figure as the paper prints it."""
    return MISSING if entry.published is None else f"{entry.published:.4f}"


def own_text(entry: Entry, errors: Footnotes) -> str:
    """Our figure with its interval or deviation."""
    return MISSING if entry.ours is None else cell_text(entry.ours, errors)


def _header(metrics: Sequence[str]) -> list[str]:
    return [f"{METRIC_TITLES[metric]}, {whose}" for metric in metrics for whose in ("paper", "ours")]


def _texts(entries: dict[str, Entry], errors: Footnotes) -> list[str]:
    return [text for entry in entries.values() for text in (published_text(entry), own_text(entry, errors))]


def _latex_table(each: PaperTable) -> str:
    errors = Footnotes()
    columns = "ll" + "rr" * len(each.metrics)
    heads = " & ".join(rf"\multicolumn{{2}}{{c}}{{{METRIC_TITLES[metric]}}}" for metric in each.metrics)
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_escaped(each.title)}. Published figures beside ours with 95\% intervals.}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        rf" & & {heads} \\",
        " & Method & " + " & ".join(["paper & ours"] * len(each.metrics)) + r" \\",
    ]
    for block in each.blocks:
        lines.append(r"\midrule")
        for index, line in enumerate(block.lines):
            first = rf"\multirow{{{len(block.lines)}}}{{*}}{{{_escaped(block.subset)}}}" if index == 0 else ""
            lines.append(
                " & ".join([first, _escaped(line.name), *map(_escaped, _texts(line.entries, errors))])
                + r" \\"
            )
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines += [rf"\par {_escaped(note)}" for note in errors.lines()]
    return "\n".join([*lines, r"\end{table}"])


def _escaped(text: str) -> str:
    for character, replacement in (
        ("\\", r"\textbackslash "),
        ("&", r"\&"),
        ("%", r"\%"),
        ("$", r"\$"),
        ("#", r"\#"),
        ("_", r"\_"),
        ("{", r"\{"),
        ("}", r"\}"),
        ("~", r"\textasciitilde "),
        ("^", r"\textasciicircum "),
        ("->", r"$\rightarrow$"),
        ("+-", r"$\pm$"),
    ):
        text = text.replace(character, replacement)
    return text


def _numbers(cell: Cell | None) -> dict[str, Value]:
    cell = cell or Cell(None)
    return {
        "ours": cell.value,
        "low": cell.low,
        "high": cell.high,
        "deviation": cell.deviation,
        "error": cell.error,
    }
