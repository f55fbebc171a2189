"""Markdown that survives its contents, JSON that holds every number."""

import json
from pathlib import Path

import pytest

from harmonyiqa.evaluate.algorithms import Algorithm, Ranking, Standing
from harmonyiqa.evaluate.comparisons import CorrelationTest
from harmonyiqa.evaluate.tables import Cell, Difference, Evaluation, Result
from harmonyiqa.report.tables import Footnotes, cell_text, table, to_json, to_markdown, write_text

CELLS = {"srcc": Cell(0.79149, 0.7519, 0.8231), "krcc": Cell(None, error="no | bars"), "plcc": Cell(-0.5)}
EVALUATION = Evaluation(
    title="test.csv (synthetic MOS)",
    notes=["a note"],
    results=[
        Result("ours, NR", "All", 270, 30, CELLS),
        Result("ours, NR", "within method", 270, None, {"srcc": Cell(0.1)}),
    ],
    differences=[
        Difference(
            "ours",
            "null",
            "All",
            "srcc",
            Cell(0.05, -0.01, 0.11),
            [CorrelationTest("Williams t", 2.1, 0.0371)],
        )
    ],
    rankings=[
        Ranking(
            "ours, NR",
            [
                Algorithm(
                    "pct", 150, Standing(Cell(63.4, 62, 65), Cell(1, 1, 1)), Standing(Cell(0.7), Cell(2))
                )
            ],
            {"srcc": Cell(0.93, 0.8, 1.0)},
            told_apart=30,
            alike=29,
        )
    ],
)


@pytest.mark.parametrize(
    ("cell", "sign", "expected"),
    [
        (Cell(0.79149, 0.7519, 0.8231), False, "0.791 [0.752, 0.823]"),
        (Cell(0.5), False, "0.500"),
        (Cell(0.05, -0.01, 0.11), True, "+0.050 [-0.010, +0.110]"),
        (Cell(0.7151, deviation=0.0266), False, "0.715 +- 0.027"),
        (Cell(None, error="constant"), False, "error (1)"),
    ],
)
def test_cells(cell: Cell, sign: bool, expected: str) -> None:
    assert cell_text(cell, Footnotes(), sign=sign) == expected


def test_equal_errors_share_a_footnote() -> None:
    notes = Footnotes()
    assert [notes.mark(error) for error in ("x", "y", "x")] == ["error (1)", "error (2)", "error (1)"]
    assert notes.lines() == ["error (1): x", "error (2): y"]


def test_tables_are_aligned_and_no_cell_breaks_them() -> None:
    text = table(["name", "n"], [["a|b\nc", "1"], ["longer than that", "22"]])
    lines = text.splitlines()
    assert len(lines) == 4
    assert len({len(line) for line in lines}) == 1
    assert r"a\|b c" in lines[2]


def test_markdown_holds_the_interval_the_error_and_its_reason_once() -> None:
    text = to_markdown(EVALUATION)
    assert text.startswith("# test.csv (synthetic MOS)\n\n| rows ")
    assert "| 0.791 [0.752, 0.823] | error (1) | -0.500 " in text
    assert "- error (1): no | bars\n- a note\n" in text
    assert "| ours - null | All  | SRCC   | +0.050 [-0.010, +0.110] | +2.10, p 0.037 |" in text
    assert "| pct       | 150    | 63.40 [62.00, 65.00] | 1 [1, 1] | 0.70             | 2    |" in text
    assert "agreement with people: SRCC 0.930 [0.800, 1.000]." in text
    assert "Of 30 pairs of algorithms that people tell apart, 29 stand in the same order." in text
    assert "PLCC (fitted)" not in text  # nobody measured it


def test_json_keeps_full_precision_and_errors() -> None:
    found = json.loads(to_json(EVALUATION))
    assert found["results"][0]["cells"]["srcc"] == {
        "value": 0.79149,
        "low": 0.7519,
        "high": 0.8231,
        "error": None,
        "deviation": None,
    }
    assert found["results"][0]["cells"]["krcc"]["error"] == "no | bars"
    assert found["differences"][0]["metric"] == "srcc"


def test_text_is_written_whole(tmp_path: Path) -> None:
    write_text("dé\n", tmp_path / "new" / "t.md")
    assert (tmp_path / "new" / "t.md").read_bytes() == "dé\n".encode()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["t.md"]
