from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harmonyiqa.data.commands import check, folder, split
from harmonyiqa.data.manifest import Row, read_manifest, write_manifest
from harmonyiqa.data.split_files import read_split, split_of
from harmonyiqa.errors import UserError


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for i in range(10):
        pixels = np.random.default_rng(i).integers(0, 256, (4, 4, 3), np.uint8)
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{i}.png")
    return tmp_path / "images"


def test_folder_then_check_then_split(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest, out = images.parent / "m.csv", images.parent / "splits" / "m.parquet"
    labels = images.parent / "labels.csv"
    write_manifest([Row(f"{i}", mos=50.0 + i, content=f"c{i // 2}") for i in range(10)], labels)

    assert folder(str(images), str(manifest), labels=str(labels)) == 0
    assert check(str(manifest)) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{manifest}: 10 images",
        f"{manifest}: 10 rows, 5 contents, 10 MOS from 50.00 to 59.00",
        "nothing wrong",
    ]

    split(str(manifest), str(out), train=0.6, val=0.2)
    assert capsys.readouterr().out.splitlines() == [
        f"{out}: 10 rows, 5 contents, 6 train, 2 val, 2 test, 10 MOS from 50.00 to 59.00, split "
        + split_of(read_manifest(out).rows, "m").split_sha256[:12],
        "0 of 5 contents stand in two splits",
    ]
    assert check(str(out)) == 0  # its paths lead back to the images


def test_check_lists_problems_and_returns_one(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_manifest([Row("images/0.png", mos=120.0), Row("gone.png")], images.parent / "m.csv")
    assert check(str(images.parent / "m.csv")) == 1
    lines = capsys.readouterr().out.splitlines()
    assert any("gone.png" in line for line in lines)
    assert "row 1: mos 120 lies outside 0-100" in lines
    assert lines[-1] == "problems: 2"


def test_folder_returns_one_where_a_partner_is_missing(
    images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    masks = images.parent / "masks"
    masks.mkdir()
    Image.new("L", (4, 4), 255).save(masks / "3.png")
    assert folder(str(images), str(images.parent / "m.csv"), masks=str(masks)) == 1
    assert "9 without a partner or label" in capsys.readouterr().out
    assert len(read_manifest(images.parent / "m.csv").rows) == 10


def test_split_by_method_counts_the_contents_that_leak(
    images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [Row(f"{m}_{c}.png", method=m, content=f"{c}") for m in "ab" for c in range(20)]
    write_manifest(rows, images.parent / "m.csv")
    split(str(images.parent / "m.csv"), str(images.parent / "out.csv"), kind="method", train=0.8, val=0.0)
    told = capsys.readouterr().out.splitlines()[1]
    by_content: dict[str | None, set[str | None]] = {}
    for row in read_manifest(images.parent / "out.csv").rows:
        by_content.setdefault(row.content, set()).add(row.split)
    leaking = sum(len(splits) > 1 for splits in by_content.values())
    assert leaking > 0
    assert told == f"{leaking} of 20 contents stand in two splits"


def test_repeated_folds_are_numbered_files(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_manifest([Row(f"images/{i}.png", content=f"{i}") for i in range(10)], images.parent / "m.csv")
    split(str(images.parent / "m.csv"), str(images.parent / "s.json"), folds=5, repeats=2)
    files = [read_split(images.parent / f"s_{i}.json") for i in range(10)]
    tested = [name for file in files for name, where in file.splits.items() if where == "test"]
    assert sorted(tested) == sorted(2 * [f"{i}.png" for i in range(10)])
    assert files[7].about == "by content, seed 1, fold 2 of 5, val 0.1"
    assert len(capsys.readouterr().out.splitlines()) == 20


def test_a_split_file_is_used_instead_of_cutting(images: Path) -> None:
    manifest, out = str(images.parent / "m.csv"), str(images.parent / "out.csv")
    write_manifest([Row(f"images/model{m}_{c}.jpg") for m in range(9) for c in range(1, 151)], manifest)
    split(manifest, out, use="harmonyiqad_method_3")
    used = split_of(read_manifest(out).rows, "again")
    assert used.split_sha256 == read_split("harmonyiqad_method_3").split_sha256


def test_no_repeats_are_refused(images: Path) -> None:
    write_manifest([Row("images/0.png", content="0")], images.parent / "m.csv")
    with pytest.raises(UserError, match="--repeats 0 must be at least 1"):
        split(str(images.parent / "m.csv"), str(images.parent / "o.csv"), repeats=0)


def test_synthetic_scores_are_called_synthetic(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_manifest([Row("images/0.png", mos=50.0, mos_kind="synthetic")], images.parent / "m.csv")
    check(str(images.parent / "m.csv"))
    assert "1 synthetic MOS" in capsys.readouterr().out
