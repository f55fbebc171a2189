from collections import Counter
from pathlib import Path

import numpy as np
import openpyxl
import pytest

from harmonyiqa.data.readers.harmonyiqad import METHODS, read_methods, rows_of_harmonyiqad
from harmonyiqa.errors import UserError

MOSZ = Path(__file__).parents[4] / "shared" / "data" / "harmonyiqad" / "MOSz.xlsx"
NAMES = [f"model{m}_{c}.jpg" for m in range(9) for c in range(1, 151)]


def labels(folder: Path, lines: list[tuple[object, ...]]) -> Path:
    book = openpyxl.Workbook()
    for line in lines:
        book.active.append(line)
    book.save(folder / "MOSz.xlsx")
    return folder / "MOSz.xlsx"


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Everything, as empty files, with labels 40.0."""
    for folder in ("images", "real", "masks"):
        (tmp_path / folder).mkdir()
    for name in NAMES:
        (tmp_path / "images" / name).touch()
    for content in range(1, 151):
        (tmp_path / "real" / f"{content}.png").touch()
        (tmp_path / "masks" / f"mask_{content}.png").touch()
    labels(tmp_path, [(name, 40.0) for name in NAMES])
    return tmp_path


@pytest.mark.skipif(not MOSZ.is_file(), reason="the released labels are not here")
def test_the_released_labels_have_the_published_shape(tmp_path: Path) -> None:
    rows, problems = rows_of_harmonyiqad(MOSZ, tmp_path / "m.csv")
    assert problems == []
    mos = np.array([row.mos for row in rows])
    assert (len(rows), mos.min(), mos.max()) == (
        1350,
        pytest.approx(28.09, abs=0.005),
        pytest.approx(77.61, abs=0.005),
    )
    assert (mos.mean(), mos.std(ddof=1)) == (pytest.approx(49.88, abs=0.005), pytest.approx(13.11, abs=0.005))
    means = [mos[[row.method == f"model{m}" for row in rows]].mean() for m in range(9)]
    assert np.round(means, 1).tolist() == [53.2, 55.1, 58.5, 54.2, 63.4, 33.2, 33.5, 45.0, 52.9]
    assert Counter(row.group for row in rows) == {"NGIHA": 750, "GIHA": 600}
    assert set(Counter(row.content for row in rows).values()) == {9}


def test_partners_are_found_by_pattern(database: Path) -> None:
    rows, problems = rows_of_harmonyiqad(
        database / "MOSz.xlsx",
        database / "lists" / "m.csv",
        database / "images",
        references=f"{database}/real/{{content}}.*",
        masks=f"{database}/masks/mask_{{content}}.png",
    )
    assert problems == []
    assert [row.image for row in rows] == [f"../images/{name}" for name in NAMES]
    assert (rows[-1].reference, rows[-1].mask, rows[-1].composite) == (
        "../real/150.png",
        "../masks/mask_150.png",
        None,
    )


def test_everything_wrong_is_told_at_once(database: Path) -> None:
    for name in ("model3_7.jpg", "model3_8.jpg"):
        (database / "images" / name).unlink()
    (database / "images" / "model8_151.jpg").touch()
    (database / "real" / "9.png").unlink()
    (database / "real" / "10.jpg").touch()
    lines = [(name, 40.0) for name in NAMES if name != "model0_1.jpg"]
    lines += [("model9_1.jpg", 40.0), ("photo.jpg", 40.0), ("model1_2.jpg", 140.0), ("model0_999.jpg", "n/a")]
    rows, problems = rows_of_harmonyiqad(
        labels(database, lines),
        database / "m.csv",
        database / "images",
        references=f"{database}/real/{{content}}.*",
    )
    assert len(rows) == 1347
    told = "\n".join(problems)
    for line in (
        "1 names are not like model0_1.jpg: photo.jpg",
        "4 labelled images are missing: model3_7.jpg, model3_8.jpg, model9_1.jpg, model0_999.jpg",
        "1 images have a method that the methods file does not name: model9_1.jpg",
        "2 labels hold no MOS from 0 to 100: model1_2.jpg (140), model0_999.jpg (n/a)",
        "9 images have no reference: model0_9.jpg,",
        "9 images have several files as reference: model0_10.jpg,",
        "2 images have no label: model0_1.jpg, model8_151.jpg",
        "1352 labels, 9 methods of 150 contents make 1350",
        "1 contents of model0 have no label: 1",
        "1 contents of model1 stand twice: 2",
        "1 contents of model0 are not in 1 to 150: 999",
    ):
        assert line in told, line


def test_methods_get_names_from_the_file(database: Path) -> None:
    path = database / "methods.yaml"
    path.write_text(METHODS.read_text().replace("name: model4, group: NGIHA", "name: PCT, group: best"))
    rows, _ = rows_of_harmonyiqad(database / "MOSz.xlsx", database / "m.csv", methods=path)
    assert {(row.method, row.group) for row in rows if row.image.startswith("model4_")} == {("PCT", "best")}
    assert sum(row.group == "NGIHA" for row in rows) == 600


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0: PCT", "0: 'PCT' is not of the form"),
        ("model0: {name: a, group: b}", "model0: .* is not of the form"),
        ("- a", r"the file: \['a'\] is not of the form"),
        ("0: {name: a, group: b}\n1: {name: a, group: b}", "names two methods 'a'"),
        ("0: {", "is not YAML"),
    ],
)
def test_a_wrong_methods_file_is_told(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "methods.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        read_methods(tmp_path / "methods.yaml")


def test_labels_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"no label that can be used: 1 names are not like model0_1.jpg: image"
    ):
        rows_of_harmonyiqad(labels(tmp_path, [("image", "mos")]), tmp_path / "m.csv")
    with pytest.raises(UserError, match=r"suffix '\.ods'; give MOSz\.xlsx"):
        rows_of_harmonyiqad(tmp_path / "a.ods", tmp_path / "m.csv")


def test_a_pattern_with_an_unknown_field_is_refused(database: Path) -> None:
    with pytest.raises(UserError, match=r"references pattern 'real/\{scene\}.png' has another field"):
        rows_of_harmonyiqad(database / "MOSz.xlsx", database / "m.csv", references="real/{scene}.png")
