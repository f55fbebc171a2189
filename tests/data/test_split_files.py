import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from harmonyiqa.data.manifest import Row
from harmonyiqa.data.split_files import (
    RUN_FILE,
    Split,
    apply_split,
    images_trained_on,
    read_split,
    shipped_splits,
    split_of,
    trained_on_warning,
    write_split,
)
from harmonyiqa.data.splits import leakage
from harmonyiqa.errors import UserError

HARMONYIQAD = [
    Row(f"images/model{m}_{c}.jpg", method=f"model{m}", group="NGIHA" if m < 5 else "GIHA", content=str(c))
    for m in range(9)
    for c in range(1, 151)
]
SHIPPED = [f"harmonyiqad_{kind}_{i}" for kind in ("content", "method") for i in range(10)]
ROWS = [
    Row("x/a.png", split="train", content="1"),
    Row("x/sub/b.png", split="val", content="2"),
    Row("x/c.png", split="test", content="3"),
]


def test_twenty_splits_ship() -> None:
    assert shipped_splits() == SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_split_is_balanced_over_methods(name: str) -> None:
    cut = apply_split(read_split(name), HARMONYIQAD)
    by_method = {(row.method, row.split): 0 for row in cut}
    for row in cut:
        by_method[row.method, row.split] += 1
    assert by_method == {
        (f"model{m}", split): count
        for m in range(9)
        for split, count in (("train", 105), ("val", 15), ("test", 30))
    }
    assert (leakage(cut).contents_twice == 0) == ("content" in name)


@pytest.mark.parametrize("kind", ["content", "method"])
def test_ten_shipped_splits_test_every_image_twice(kind: str) -> None:
    tested = Counter(
        image
        for i in range(10)
        for image, split in read_split(f"harmonyiqad_{kind}_{i}").splits.items()
        if split == "test"
    )
    assert len(tested) == 1350
    assert set(tested.values()) == {2}


def test_shipped_splits_never_change() -> None:
    """Results are compared by these splits: a change here makes published figures mean something else."""
    hashes = "".join(read_split(name).split_sha256 for name in SHIPPED)
    assert Split("", "", {hashes: ""}).data_sha256 == FROZEN
    assert {read_split(name).data_sha256 for name in SHIPPED} == {DATA}


FROZEN = "e43b0caa6e1f72999cb893a45bba95d6a437c6cdb0ba662a5c080d1f523f68d1"
DATA = "97022f993345bb488608c47d8ab882c0164f2de62da98e1bca4022f2f3754d12"


def test_the_hash_is_that_of_the_sorted_names() -> None:
    """printf 'a.png\\nc.png\\nsub/b.png\\n' | sha256sum"""
    split = split_of(ROWS, "s")
    assert split.splits == {"a.png": "train", "sub/b.png": "val", "c.png": "test"}
    assert split.data_sha256 == "555b2d9e484741080278d4736dbdd53d735e8fe7b885d5abf4ca42c5ecb575c5"
    assert (
        split.split_sha256 == "ee740d80ada1667a357a980eea9e85c0c2e5834bef5843d46921af85606e4aef"
    )  # of 'a.png\ttrain\n...'


def test_hashes_do_not_depend_on_place_or_order() -> None:
    moved = [replace(row, image=row.image.replace("x/", "/data/set/")) for row in ROWS[::-1]]
    assert split_of(moved, "s").split_sha256 == split_of(ROWS, "s").split_sha256
    other = [replace(ROWS[0], split="test"), *ROWS[1:]]
    assert split_of(other, "s").split_sha256 != split_of(ROWS, "s").split_sha256
    assert split_of(other, "s").data_sha256 == split_of(ROWS, "s").data_sha256


def test_a_split_comes_back_equal_and_fits_the_moved_manifest(tmp_path: Path) -> None:
    write_split(split_of(ROWS, "mine", "by hand"), tmp_path / "s.json")
    split = read_split(tmp_path / "s.json")
    assert split == split_of(ROWS, "mine", "by hand")
    bare = [replace(row, image=f"../up/{row.image}", split=None) for row in ROWS]
    assert [row.split for row in apply_split(split, bare)] == ["train", "val", "test"]


def test_other_data_are_told_with_names() -> None:
    with pytest.raises(UserError) as caught:
        apply_split(split_of(ROWS, "mine"), [Row("x/a.png"), Row("x/d.png")])
    assert str(caught.value) == (
        "split mine belongs to other data: 2 of its 3 images are not in the manifest: c.png, sub/b.png; "
        "1 images of the manifest are not in it: x/d.png"
    )


def test_two_images_of_one_name_are_told() -> None:
    with pytest.raises(UserError, match=r"1 names of split s fit several images: a\.png"):
        apply_split(Split("s", "", {"a.png": "test"}), [Row("one/a.png"), Row("two/a.png")])


def test_a_deeper_name_tells_equal_file_names_apart() -> None:
    split = Split("live", "", {"jp2k/img1.bmp": "train", "wn/img1.bmp": "test"})
    rows = [Row("LIVE/wn/img1.bmp"), Row("LIVE/jp2k/img1.bmp")]
    assert [row.split for row in apply_split(split, rows)] == ["test", "train"]
    assert images_trained_on(split, rows) == ["LIVE/jp2k/img1.bmp"]


def test_an_image_in_two_splits_is_refused() -> None:
    with pytest.raises(UserError, match=r"image a\.png is in train and in test"):
        split_of([Row("a.png", split="train"), Row("a.png", reference="r", split="test")], "s")
    with pytest.raises(UserError, match="no row has a split"):
        split_of([Row("a.png")], "s")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": ["c.png"]}, "an image in two splits"),
        ({"train": ["b.png"]}, "was changed: its names do not fit its hashes"),
        ({"data_sha256": "0"}, "was changed"),
        ({"test": None}, "is no split file"),
    ],
)
def test_a_damaged_split_file_is_refused(change: dict, message: str, tmp_path: Path) -> None:
    write_split(split_of(ROWS, "s"), tmp_path / "s.json")
    values = json.loads((tmp_path / "s.json").read_text()) | change
    (tmp_path / "s.json").write_text(json.dumps(values))
    with pytest.raises(UserError, match=message):
        read_split(tmp_path / "s.json")


def test_an_unknown_split_is_told_which_there_are() -> None:
    with pytest.raises(UserError, match="split nowhere is neither a file nor one of harmonyiqad_content_0"):
        read_split("nowhere")


@pytest.mark.parametrize("where", ["run", "run/model"])
def test_a_model_tells_what_it_was_trained_on(where: str, tmp_path: Path) -> None:
    (tmp_path / "run" / "model").mkdir(parents=True)
    split = split_of(ROWS, "s")
    write_split(split, tmp_path / where / RUN_FILE)
    warning = trained_on_warning(tmp_path / "run" / "model", ROWS)
    assert warning is not None
    assert "was trained on 2 of these 3 images (x/a.png, x/sub/b.png;" in warning
    assert split.split_sha256[:12] in warning
    assert trained_on_warning(tmp_path / "run" / "model", ROWS[2:]) is None


def test_without_a_record_nothing_is_said(tmp_path: Path) -> None:
    assert trained_on_warning(tmp_path, ROWS) is None
    assert trained_on_warning(None, ROWS) is None
