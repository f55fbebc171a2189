"""The paper's tables and figures as one HTML file that needs nothing else."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harmonyiqa.files import atomic_path
from harmonyiqa.report.page import environment
from harmonyiqa.report.paper import PaperTable
from harmonyiqa.report.paper_text import Document, own_text, published_text
from harmonyiqa.report.tables import METRIC_TITLES, Footnotes


@dataclass(frozen=True)
class Figure:
    """A picture with its caption; ``svg`` is a whole SVG file."""

    name: str
    caption: str
    svg: str

    @property
    def source(self) -> str:
        """The picture as a data URI."""
        return f"data:image/svg+xml;base64,{base64.b64encode(self.svg.encode()).decode()}"


def write_tables_page(document: Document, figures: Sequence[Figure], path: str | Path) -> None:
    """Write the page, atomically. It loads nothing: pictures and style are inside.

    Args:
        document: tables and protocol.
        figures: in order.
        path: the HTML file.
    """
    errors = Footnotes()
    html = (
        environment()
        .get_template("tables.html")
        .render(
            title=document.title,
            tables=[_shown(each, errors) for each in document.tables],
            seeds=document.seeds,
            figures=figures,
            protocol=document.protocol,
            metric_titles=METRIC_TITLES,
            errors=errors,
        )
    )
    with atomic_path(path) as part:
        part.write_text(html, encoding="utf-8", errors="backslashreplace")


@dataclass(frozen=True)
class _Shown:
    """A table with its cells as text: for each block the lines, each (name, kind, [(paper, ours, interval)])."""

    name: str
    title: str
    note: str
    metrics: list[str]
    blocks: list[tuple[str, list[tuple[str, str, list[tuple[str, str, str]]]]]]


def _shown(each: PaperTable, errors: Footnotes) -> _Shown:
    blocks = []
    for block in each.blocks:
        lines = []
        for line in block.lines:
            texts = []
            for entry in line.entries.values():
                own, _, interval = own_text(entry, errors).partition(" ")
                texts.append((published_text(entry), own, interval))
            lines.append((line.name, line.kind, texts))
        blocks.append((block.subset, lines))
    return _Shown(each.name, each.title, each.note, [METRIC_TITLES[m] for m in each.metrics], blocks)
