"""The paper's figures as printed, and ours beside them in every form."""

import csv
import io
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from harmonyiqa.data.tables import write_table
from harmonyiqa.errors import UserError
from harmonyiqa.evaluate.tables import Cell, Result
from harmonyiqa.report.paper import PUBLISHED, Own, fill, mean_over_files, read_published
from harmonyiqa.report.paper_page import Figure, write_tables_page
from harmonyiqa.report.paper_text import Document, to_latex, to_markdown, to_rows

PUBLISHED_TABLES = read_published()


def results(predictor: str, value: float) -> list[Result]:
    return [
        Result(
            predictor,
            subset,
            270,
            30,
            {m: Cell(value, value - 0.1, value + 0.1) for m in ("srcc", "krcc", "plcc")},
        )
        for subset in ("All", "NGIHA", "GIHA")
    ]


def document(**changes) -> Document:
    own = {
        "II": Own(
            {("psnr", "FR"): [results("psnr", 0.5)], ("mine & <co>", "FR"): [results("mine", 0.7)]},
            results("method mean", 0.25),
        ),
        "III": Own({("harmonyiqa", "NR"): [results("h", 0.4), results("h", 0.6)]}),
        "VI": Own(
            {
                ("harmonyiqa", "NR"): [
                    [Result("h", "LIVE -> CSIQ", 866, 30, {"srcc": Cell(None, error="flat")})]
                ]
            }
        ),
    }
    return Document(
        "A <title>", fill(PUBLISHED_TABLES, own), **{"protocol": ["as <b>written</b>"], **changes}
    )


def test_the_figures_are_those_of_the_paper() -> None:
    by_name = {table.name: table for table in PUBLISHED_TABLES}
    assert list(by_name) == ["II", "III", "IV", "V", "VI"]
    assert [len(table.rows) for table in PUBLISHED_TABLES] == [21, 15, 5, 1, 3]
    rows = {row.name: row.values for table in PUBLISHED_TABLES[:3] for row in table.rows}
    assert rows["VSI"]["NGIHA", "plcc"] == 0.4975
    assert rows["MANIQA"]["All", "srcc"] == 0.7596
    assert rows["HarmonyIQA (FR)"]["GIHA", "krcc"] == 0.5414
    assert rows["LoRA on both + projector"]["GIHA", "plcc"] == 0.6771
    # the last row of the ablation is the model of table III, in the paper too
    last = by_name["IV"].rows[-1].values
    assert {column: rows["HarmonyIQA (NR)"][column] for column in last} == last
    assert by_name["V"].rows[0].values == {}


def test_names_are_read_rightly_and_every_key_is_a_method_that_can_be_scored() -> None:
    from harmonyiqa.baselines.metrics import METRICS

    names = {row.name for table in PUBLISHED_TABLES for row in table.rows}
    assert not names & {"NOM", "BRISOUE", "MANIOA", "HyperIOA", "CNNIOA", "TOPIO", "ARNIOA"}
    keys = {row.key for table in PUBLISHED_TABLES for row in table.rows if row.key}
    ours = {"harmonyiqa", "lora_vision", "lora_llm", "lora_both", "lora_projector"}
    assert keys - ours <= set(METRICS)
    for table in PUBLISHED_TABLES:
        for row in table.rows:
            if row.key in METRICS:
                assert METRICS[row.key].needs_reference == (table.mode == "FR"), row.name


def test_a_row_with_a_value_too_few_is_named(tmp_path: Path) -> None:
    tables = yaml.safe_load(PUBLISHED.read_text())
    tables["tables"][0]["rows"][1]["values"].pop()
    path = tmp_path / "published.yaml"
    path.write_text(yaml.safe_dump(tables))
    with pytest.raises(UserError, match="PSNR of table II has 8 values for 9 columns"):
        read_published(path)


def test_ours_stand_in_the_row_of_their_key_others_and_null_predictors_below() -> None:
    ii, iii, iv, v, vi = document().tables
    block = ii.blocks[1]
    assert block.subset == "NGIHA"
    lines = {line.name: line for line in block.lines}
    assert lines["PSNR"].entries["srcc"].published == 0.3171
    assert lines["PSNR"].entries["srcc"].ours == Cell(0.5, 0.4, 0.6)
    assert lines["MSE"].entries["srcc"].ours is None
    assert [(line.name, line.kind) for line in block.lines[-2:]] == [
        ("mine & <co>", "own"),
        ("method mean", "null"),
    ]
    seeds = iii.blocks[0].lines[-1].entries["srcc"].ours
    assert (seeds.value, seeds.deviation, seeds.low) == (0.5, pytest.approx(0.1414, abs=1e-4), None)
    for table in (iv, v):
        assert all(e.ours is None for b in table.blocks for line in b.lines for e in line.entries.values())
    assert vi.blocks[0].lines[2].entries["srcc"].ours.error == "flat"


def test_one_failed_seed_is_the_error_of_all() -> None:
    assert mean_over_files([Cell(0.5), Cell(None, error="flat")]).error == "flat"


def test_markdown_has_both_figures_and_marks_what_is_missing() -> None:
    text = to_markdown(document())
    line = next(line for line in text.splitlines() if line.startswith("| PSNR "))
    cells = [cell.strip() for cell in line.split("|")][1:-1]
    assert cells == [
        "PSNR",
        *(c for p in ("0.5696", "0.3976", "0.5688") for c in (p, "0.500 [0.400, 0.600]")),
    ]
    nqm = next(line for line in text.splitlines() if line.startswith("| NQM "))
    assert [cell.strip() for cell in nqm.split("|")][2:4] == ["0.6095", "-"]
    assert "error (1): flat" in text
    assert "lost the figures of this table" in text


def test_latex_is_balanced_and_escaped() -> None:
    text = to_latex(document())
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 5
    assert r"mine \& <co>" in text
    assert r"LIVE $\rightarrow$ CSIQ" in text
    assert r"0.500 $\pm$ 0.141" in text
    for row in re.findall(r"(?<=\\midrule\n).*?(?= \\\\)", text):
        assert row.count(" & ") in (3, 5, 7)


def test_csv_has_every_entry_at_full_precision(tmp_path: Path) -> None:
    rows = to_rows(document())
    write_table(rows, tmp_path / "t.csv")
    found = list(csv.DictReader(io.StringIO((tmp_path / "t.csv").read_text())))
    assert len(found) == len(rows)
    psnr = [
        row for row in found if row["method"] == "PSNR" and row["subset"] == "All" and row["metric"] == "plcc"
    ]
    assert [(row["published"], row["ours"], row["low"]) for row in psnr] == [("0.5688", "0.5", "0.4")]


@pytest.fixture
def page(tmp_path: Path) -> Path:
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" width="10" height="10"><rect width="10" height="10"/></svg>'
    )
    seeds = {"by content": [Result("method mean", "All", 270, 30, {"srcc": Cell(0.715, deviation=0.027)})]}
    write_tables_page(document(seeds=seeds), [Figure("a", 'A "figure"', svg)], tmp_path / "tables.html")
    return tmp_path / "tables.html"


def test_the_page_is_one_file_with_everything_escaped(page: Path) -> None:
    html = page.read_text(encoding="utf-8")
    assert "A &lt;title&gt;" in html
    assert "mine &amp; &lt;co&gt;" in html
    assert "as &lt;b&gt;written&lt;/b&gt;" in html
    assert "0.715 +- 0.027" in html
    assert not re.findall(r'(?:src|href)="(?!data:|#)', html)
    assert "default-src 'none'" in html


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="no browser here")
def test_a_browser_shows_both_figures_without_errors(page: Path, tmp_path: Path) -> None:
    command = [
        "chromium",
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path / 'browser'}",
        "--enable-logging=stderr",
        "--dump-dom",
        page.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
    assert "CONSOLE" not in done.stderr
    assert (
        '<td class="paper">0.5696</td><td class="own"><b>0.500</b> <small>[0.400, 0.600]</small></td>'
        in done.stdout
    )
