from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harmonyiqa.data.tables import read_table, write_table
from harmonyiqa.errors import UserError

text = st.text(st.characters(codec="utf-8", exclude_characters="\x00\r"), min_size=1)
SUFFIXES = [".csv", ".jsonl", ".parquet"]


@settings(max_examples=30, deadline=None)
@given(rows=st.lists(st.fixed_dictionaries({"name": text, "note": st.none() | text}), min_size=1))
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_text_comes_back_in_order(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, rows: list[dict]
) -> None:
    path = tmp_path_factory.mktemp("table") / f"t{suffix}"
    write_table(rows, path)
    assert read_table(path) == rows


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_numbers_keep_their_type_where_the_format_has_one(tmp_path: Path, suffix: str) -> None:
    rows = [{"score": 63.40, "count": 3, "note": None}, {"score": None, "count": 4, "note": "x"}]
    write_table(rows, tmp_path / f"t{suffix}")
    assert read_table(tmp_path / f"t{suffix}") == rows


def test_csv_cells_are_text_and_empty_cells_none(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("\ufeffimage, mos\r\na.png,63.4\r\n\r\nb.png,\r\n", encoding="utf-8")
    assert read_table(tmp_path / "t.csv") == [
        {"image": "a.png", "mos": "63.4"},
        {"image": "b.png", "mos": None},
    ]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_columns_are_those_asked_for(tmp_path: Path, suffix: str) -> None:
    write_table([{"a": "1", "b": "2", "c": "3"}], tmp_path / f"t{suffix}", columns=["c", "a", "d"])
    assert read_table(tmp_path / f"t{suffix}") == [{"c": "3", "a": "1", "d": None}]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.txt", b"a", r"suffix '\.txt'; use one of \.csv \.jsonl \.parquet"),
        ("t.csv", b"", "is empty; its first line must name the columns"),
        ("t.csv", b"a,a\n1,2\n", "has the column 'a' twice"),
        ("t.csv", b"a,b\n1,2\n1,2,3\n", r"line 3 of .* has 3 cells, its header 2"),
        ("t.csv", b"a\n\xff\xfe\n", "is not UTF-8 text"),
        ("t.jsonl", b'{"a": 1}\n{"a": \n', "line 2 of .* is not JSON"),
        ("t.jsonl", b"[1]\n", "line 1 of .* is not a JSON object"),
        ("t.parquet", b"PAR1 but not really", "cannot be read as parquet"),
    ],
)
def test_a_bad_table_is_told_in_one_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        read_table(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent\.csv does not exist"):
        read_table(tmp_path / "absent.csv")
