from pathlib import Path

import pytest
from PIL import Image

from harmonyiqa.data.folder import rows_of_folder
from harmonyiqa.errors import UserError


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("images/b.jpg", "images/sub/a.PNG", "references/a.jpg", "references/b.png", "masks/b.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    return tmp_path


def test_partners_are_paired_by_name_without_suffix(photos: Path) -> None:
    rows, problems = rows_of_folder(
        photos / "images", photos / "m.csv", photos / "references", photos / "masks"
    )
    assert [(row.image, row.reference, row.mask) for row in rows] == [
        ("images/b.jpg", "references/b.png", "masks/b.png"),
        ("images/sub/a.PNG", "references/a.jpg", None),
    ]
    assert problems == [f"{photos / 'images/sub/a.PNG'} has no mask in {photos / 'masks'}"]


def test_folders_of_partners_may_lie_among_the_images(photos: Path) -> None:
    rows, _ = rows_of_folder(photos, photos / "m.csv", photos / "references", photos / "masks")
    assert [row.image for row in rows] == ["images/b.jpg", "images/sub/a.PNG"]


def test_paths_start_from_the_manifest(photos: Path) -> None:
    rows, _ = rows_of_folder(photos / "images", photos / "lists" / "m.csv")
    assert rows[0].image == "../images/b.jpg"


def test_labels_come_by_name_or_by_path(photos: Path) -> None:
    (photos / "labels.csv").write_text("image,mos,method,camera\nsub/a.PNG,60.5,x,Leica\nb,40,y,Zeiss\n")
    rows, problems = rows_of_folder(photos / "images", photos / "m.csv", labels=photos / "labels.csv")
    assert [(row.image, row.mos, row.method, row.extra["camera"]) for row in rows] == [
        ("images/b.jpg", 40, "y", "Zeiss"),
        ("images/sub/a.PNG", 60.5, "x", "Leica"),
    ]
    assert problems == []


def test_what_has_no_label_or_no_image_is_told(photos: Path) -> None:
    (photos / "labels.csv").write_text("image,mos\nb.jpg,40\nc.jpg,50\n")
    rows, problems = rows_of_folder(photos / "images", photos / "m.csv", labels=photos / "labels.csv")
    assert [row.mos for row in rows] == [40, None]
    assert problems == [
        f"sub/a.PNG has no label in {photos / 'labels.csv'}",
        f"label 'c.jpg' of {photos / 'labels.csv'} has no image",
    ]


def test_two_labels_of_one_image_are_refused(photos: Path) -> None:
    (photos / "labels.csv").write_text("image,mos\nb.jpg,40\nb.png,50\nb.tif,1\n")
    (photos / "images" / "b.jpg").rename(photos / "images" / "b.webp")
    with pytest.raises(UserError, match=r"has 3 labels for b\.webp"):
        rows_of_folder(photos / "images", photos / "m.csv", labels=photos / "labels.csv")


def test_one_label_of_two_images_is_refused(photos: Path) -> None:
    Image.new("RGB", (4, 4)).save(photos / "images" / "sub" / "b.png")
    (photos / "labels.csv").write_text("image,mos\nb,40\na,50\n")
    with pytest.raises(UserError, match=r"label 'b' of .* fits several images, sub/b\.png too"):
        rows_of_folder(photos / "images", photos / "m.csv", labels=photos / "labels.csv")


def test_a_folder_that_is_not_there_is_named(photos: Path) -> None:
    with pytest.raises(UserError, match="nowhere does not exist"):
        rows_of_folder(photos / "nowhere", photos / "m.csv")
