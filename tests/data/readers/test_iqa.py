"""The four readers against the labels that others extracted from the same releases."""

from collections.abc import Callable
from pathlib import Path

import openpyxl
import pytest
from scipy.io import savemat

from harmonyiqa.data.readers.iqa import SETS, rows_of_set
from harmonyiqa.errors import UserError
from harmonyiqa.metrics import srcc

Official = Callable[[str], tuple[Path, list[dict[str, str]]]]


@pytest.mark.parametrize("name", SETS)
def test_every_published_score_lands_on_its_image(name: str, official: Official) -> None:
    root, labels = official(name)
    rows, problems = rows_of_set(SETS[name], root, root.parent / "m.csv")
    assert problems == []
    published = {line["dis_img_path"].partition("/")[2]: line for line in labels}
    assert len(rows) == SETS[name].images == len(published)
    for row in rows:
        line = published[row.image.partition("/")[2]]
        assert row.extra["original_score"] == float(line["score"])
        assert row.reference == f"{name}/{line['ref_img_path'].partition('/')[2]}"
    assert len({row.content for row in rows}) == SETS[name].references
    assert 0 <= min(row.mos for row in rows) <= max(row.mos for row in rows) <= 100  # type: ignore[type-var]


@pytest.mark.parametrize(("name", "direction"), [("tid2013", 1), ("kadid10k", 1), ("csiq", -1), ("live", -1)])
def test_higher_is_better_whatever_the_set_counts(name: str, direction: int, official: Official) -> None:
    root, _ = official(name)
    rows, _ = rows_of_set(SETS[name], root, root / "m.csv")
    original = [row.extra["original_score"] for row in rows]
    assert srcc([row.mos for row in rows], original) == pytest.approx(direction)  # type: ignore[arg-type, list-item]
    better = "higher is better" if direction == 1 else "lower is better"
    assert {row.extra["original_direction"] for row in rows} == {better}


def test_the_weakest_distortions_score_best(official: Official) -> None:
    """Not only the sign of the scale: JPEG at level 1 beats JPEG at level 5 in CSIQ and KADID-10k."""
    for name, weak, strong in (
        ("csiq", ".JPEG.1.png", ".JPEG.5.png"),
        ("kadid10k", "_10_01.png", "_10_05.png"),
    ):
        root, _ = official(name)
        rows, _ = rows_of_set(SETS[name], root, root / "m.csv")
        mean = {
            end: sum(row.mos or 0 for row in rows if row.image.endswith(end)) / SETS[name].references
            for end in (weak, strong)
        }
        assert mean[weak] > mean[strong] + 40


def test_deviations_come_where_the_release_has_them(official: Official) -> None:
    for name, std in (("csiq", 10.0), ("live", 5.0)):
        root, _ = official(name)
        rows, _ = rows_of_set(SETS[name], root, root / "m.csv")
        assert rows[0].mos_std == pytest.approx(std)


@pytest.fixture
def small_tid(tmp_path: Path) -> Path:
    for name in (
        "distorted_images/i01_01_1.bmp",
        "distorted_images/I01_02_1.BMP",
        "reference_images/i01.bmp",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "mos_with_names.txt").write_text("5.5 I01_01_1.bmp\n4.5 I01_02_1.bmp\n")
    return tmp_path


def test_file_names_are_found_in_any_letter_case(small_tid: Path) -> None:
    rows, _ = rows_of_set(SETS["tid2013"], small_tid, small_tid / "m.csv")
    assert [(row.image, row.reference, row.method, row.content) for row in rows] == [
        ("distorted_images/i01_01_1.bmp", "reference_images/i01.bmp", "01", "i01"),
        ("distorted_images/I01_02_1.BMP", "reference_images/i01.bmp", "02", "i01"),
    ]


def test_everything_wrong_is_told_at_once(small_tid: Path) -> None:
    with (small_tid / "mos_with_names.txt").open("a") as file:
        file.write("5.5 I01_03_1.bmp\n9.5 i01_01_1.bmp\nabc I02_01_1.bmp\n")
    (small_tid / "distorted_images" / "i09_09_9.bmp").touch()
    rows, problems = rows_of_set(SETS["tid2013"], small_tid, small_tid / "m.csv")
    assert len(rows) == 2
    assert problems == [
        "2 labelled images are missing: distorted_images/I01_03_1.bmp, distorted_images/I02_01_1.bmp",
        "1 references are missing: reference_images/I02.bmp",
        "2 labels hold no score from 0 to 9: distorted_images/i01_01_1.bmp (9.5), distorted_images/I02_01_1.bmp (abc)",
        "1 images have two labels: distorted_images/i01_01_1.bmp",
        "1 images have no label: distorted_images/i09_09_9.bmp",
        "5 labels, TID2013 has 3000",
        "2 references, TID2013 has 25",
    ]


def test_lines_of_another_form_are_told_together(small_tid: Path) -> None:
    (small_tid / "mos_with_names.txt").write_text("5.5\n5.5 I01_01_1.bmp\nI01_01_1.bmp 5.5\n")
    with pytest.raises(UserError, match=r"^2 lines of .* '5\.5' \(line 1\), 'I01_01_1.bmp 5\.5' \(line 3\)"):
        rows_of_set(SETS["tid2013"], small_tid, small_tid / "m.csv")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tid2013", "mos_with_names.txt does not exist"),
        ("kadid10k", "dmos.csv does not exist"),
        ("csiq", r"csiq\.DMOS\.xlsx does not exist"),
        ("live", r"dmos\.mat does not exist"),
    ],
)
def test_a_missing_label_file_is_named(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        rows_of_set(SETS[name], tmp_path, tmp_path / "m.csv")


def test_damaged_label_files_are_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "csiq.DMOS.xlsx").write_bytes(b"not a zip")
    (tmp_path / "dmos.mat").write_bytes(b"not a matrix" * 20)
    (tmp_path / "dmos.csv").write_text("dist_img,dmos\na,1\n")
    for name, message in (
        ("csiq", "cannot be read as xlsx"),
        ("live", "cannot be read as a MATLAB file"),
        ("kadid10k", "has no column ref_img"),
    ):
        with pytest.raises(UserError, match=message) as caught:
            rows_of_set(SETS[name], tmp_path, tmp_path / "m.csv")
        assert "\n" not in str(caught.value)


def test_a_sheet_and_columns_that_are_not_there_are_named(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.active.title = "all_by_distortion"
    book.save(tmp_path / "csiq.DMOS.xlsx")
    with pytest.raises(UserError, match=r"no sheet 'all_by_image' \(sheets: all_by_distortion\)"):
        rows_of_set(SETS["csiq"], tmp_path, tmp_path / "m.csv")
    book.active.title = "all_by_image"
    book.active.append(["image", "dmos"])
    book.save(tmp_path / "csiq.DMOS.xlsx")
    with pytest.raises(UserError, match=r"no column dst_type, dst_lev \(columns: image, dmos\)"):
        rows_of_set(SETS["csiq"], tmp_path, tmp_path / "m.csv")


def test_vectors_of_another_length_are_no_live(tmp_path: Path) -> None:
    savemat(tmp_path / "dmos.mat", {"dmos": [[1.0, 2.0]], "orgs": [[0, 0]]})
    with pytest.raises(UserError, match=r"dmos in .*dmos\.mat has 2 values; that of LIVE release 2 has 982"):
        rows_of_set(SETS["live"], tmp_path, tmp_path / "m.csv")
