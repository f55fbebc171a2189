from pathlib import Path

import pytest

from harmonyiqa.data.readers.common import Scale
from harmonyiqa.data.readers.table import rows_of_table
from harmonyiqa.errors import UserError

COLUMNS: dict[str, str | None] = {
    "image": "dis_img_path",
    "reference": "ref_img_path",
    "mos": "score",
    "method": "dis_type",
    "content": None,
}
HEADER = "dis_img_path,dis_type,ref_img_path,score\n"


def write(folder: Path, text: str) -> Path:
    (folder / "labels.csv").write_text(text)
    return folder / "labels.csv"


def test_columns_of_any_name_become_a_manifest(tmp_path: Path) -> None:
    for name in ("set/d/A.png", "set/r/a.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    table = write(tmp_path, HEADER + "d/a.png,JPEG,r/a.png,0.25\n")
    rows, problems = rows_of_table(table, tmp_path / "m.csv", COLUMNS, Scale(1, 0), tmp_path / "set")
    assert problems == []
    (row,) = rows
    assert (row.image, row.reference, row.method, row.content) == ("set/d/A.png", "set/r/a.png", "JPEG", "a")
    assert (row.mos, row.extra["original_score"], row.extra["original_direction"]) == (
        75,
        0.25,
        "lower is better",
    )


def test_without_a_folder_names_stand_as_they_are(tmp_path: Path) -> None:
    rows, _ = rows_of_table(write(tmp_path, HEADER + "x/a.png,,,50\n"), "m.csv", COLUMNS, Scale(0, 100))
    assert (rows[0].image, rows[0].reference, rows[0].method, rows[0].content) == (
        "x/a.png",
        None,
        None,
        None,
    )


def test_everything_wrong_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.png").touch()
    table = write(tmp_path, HEADER + "a.png,,r.png,5\na.png,,r.png,50\nb.png,,,50\n,,,50\na.png,,,x\n")
    rows, problems = rows_of_table(table, tmp_path / "m.csv", COLUMNS, Scale(0, 10), tmp_path / "set")
    assert len(rows) == 1
    assert problems == [
        "1 rows name no image: 4",
        "1 labelled images are missing: b.png",
        "1 references are missing: r.png",
        "3 labels hold no score from 0 to 10: a.png (50 in row 2), b.png (50 in row 3), a.png (x in row 5)",
        "1 labels stand twice: a.png (row 2)",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEADER, "has no rows"),
        ("dis_img_path,mos\na,1\n", "has no column ref_img_path, score, dis_type"),
        (HEADER + "a.png,,,x\n", "has no label that can be used: 1 labels hold no score"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        rows_of_table(write(tmp_path, text), tmp_path / "m.csv", COLUMNS, Scale(0, 100))
