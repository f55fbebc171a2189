from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harmonyiqa.data.manifest import COLUMNS, Row, read_manifest, relocated, write_manifest
from harmonyiqa.errors import UserError

word = st.text(st.characters(codec="utf-8", exclude_characters="\x00\r"), min_size=1)
number = st.floats(allow_nan=False, allow_infinity=False)
rows = st.lists(
    st.builds(
        Row,
        image=word,
        reference=st.none() | word,
        composite=st.none() | word,
        mask=st.none() | word,
        mos=st.none() | number,
        mos_std=st.none() | number,
        method=st.none() | word,
        group=st.none() | word,
        content=st.none() | word,
        split=st.sampled_from([None, "train", "val", "test"]),
        mos_kind=st.none() | word,
        extra=st.fixed_dictionaries(
            {"severity": st.none() | number, "decoy": st.sampled_from([None, "hue", "007"])}
        ),
    ),
    min_size=1,
    max_size=5,
)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@settings(max_examples=40, deadline=None)
@given(rows=rows)
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_every_row_comes_back_equal(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, rows: list[Row]
) -> None:
    path = tmp_path_factory.mktemp("manifest") / f"m{suffix}"
    write_manifest(rows, path)
    assert read_manifest(path).rows == rows


def test_columns_without_a_value_are_left_out(tmp_path: Path) -> None:
    write_manifest([Row("a.png", mos=50.0, extra={"severity": 1.5})], tmp_path / "m.csv")
    assert (tmp_path / "m.csv").read_text() == "image,mos,severity\na.png,50.0,1.5\n"


def test_text_that_looks_like_a_number_stays_text_unless_it_is_one(tmp_path: Path) -> None:
    path = write(tmp_path / "m.csv", "image,id,strength\na.png,007,0.5\n")
    assert read_manifest(path).rows[0].extra == {"id": "007", "strength": 0.5}


@pytest.mark.parametrize("wrong", ["MOS", "references", "conten", "mos-std", "Image"])
def test_a_misspelt_column_is_told_its_name(tmp_path: Path, wrong: str) -> None:
    path = write(tmp_path / "m.csv", "Image\na\n" if wrong == "Image" else f"image,{wrong}\na,a\n")
    with pytest.raises(UserError, match=rf"unknown column '{wrong}', did you mean '\w+'"):
        read_manifest(path)


def test_a_column_that_is_merely_unknown_is_kept(tmp_path: Path) -> None:
    assert read_manifest(write(tmp_path / "m.csv", "image,camera\na.png,X\n")).rows[0].extra == {
        "camera": "X"
    }


def test_all_problems_come_in_one_message(tmp_path: Path) -> None:
    path = write(tmp_path / "m.csv", "image,mos,split\na.png,abc,train\n,50,test\nc.png,inf,trian\n")
    with pytest.raises(UserError) as caught:
        read_manifest(path)
    for part in (
        "mos 'abc' in row 1 is not a number",
        "row 2 names no image",
        "mos 'inf' in row 3 is not a number",
        "split 'trian' in row 3 is not one of train, val, test",
    ):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_thousand_problems_are_cut_short(tmp_path: Path) -> None:
    path = write(tmp_path / "m.csv", "image,mos\n" + "a.png,x\n" * 1000)
    with pytest.raises(UserError, match=r"and 980 more$"):
        read_manifest(path)


@pytest.mark.parametrize(
    ("text", "message"), [("image\n", "has no rows"), ("mos\n50\n", "no column 'image'")]
)
def test_a_manifest_without_images_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_manifest(write(tmp_path / "m.csv", text))


def test_split_and_select_keep_the_order(tmp_path: Path) -> None:
    path = write(tmp_path / "m.csv", "image,split,mos\nc.png,test,1\na.png,train,2\nb.png,test,3\n")
    manifest = read_manifest(path)
    assert [row.image for row in manifest.split("test").rows] == ["c.png", "b.png"]
    assert [row.image for row in manifest.select(lambda row: (row.mos or 0) > 1).rows] == ["a.png", "b.png"]
    with pytest.raises(UserError, match=r"no row of split 'val' \(found: test, train\)"):
        manifest.split("val")


def test_paths_start_from_the_manifest(tmp_path: Path) -> None:
    manifest = read_manifest(write(tmp_path / "m.csv", "image\nimages/a.png\n"))
    assert manifest.resolve("images/a.png") == tmp_path / "images" / "a.png"
    assert manifest.resolve("/data/a.png") == Path("/data/a.png")


def test_relocated_paths_lead_to_the_same_files(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    manifest = read_manifest(
        write(tmp_path / "set" / "m.csv", "image,mask,mos\nimages/a.png,masks/a.png,5\n")
    )
    moved = relocated(manifest, tmp_path / "splits" / "m.csv")
    assert moved == [replace(manifest.rows[0], image="../set/images/a.png", mask="../set/masks/a.png")]
    assert relocated(manifest, tmp_path / "set" / "other.csv") == manifest.rows


def test_rows_name_every_column_once() -> None:
    assert set(COLUMNS) | {"extra"} == set(Row.__dataclass_fields__)
