"""What is scored, against what, and under which name."""

import os
from pathlib import Path

import pytest

from harmonyiqa.data.manifest import read_manifest
from harmonyiqa.errors import UserError
from harmonyiqa.scoring.items import Item, items_from_manifest, items_from_paths


def test_images_are_named_as_found(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(pictures.parent)
    items = items_from_paths(["pictures/b.png", "pictures"])
    assert [item.image for item in items[:3]] == ["pictures/b.png", "pictures/a.png", "pictures/c.png"]
    assert items[0] == Item("pictures/b.png", None, Path("pictures/b.png"), None)


def test_an_image_without_its_partner_is_an_error_that_names_it(pictures: Path, tmp_path: Path) -> None:
    references = tmp_path / "references"
    references.mkdir()
    (references / "b.jpg").touch()
    first, second = items_from_paths([pictures / "a.png", pictures / "b.png"], references)
    assert first.error == f"no reference named a.* in {references}"
    assert first.reference is None
    assert second.reference == str(references / "b.jpg")
    assert second.error is None


def test_the_reference_folder_is_no_input(pictures: Path) -> None:
    inside = pictures / "references"
    inside.mkdir()
    (pictures / "a.png").rename(inside / "b.png")
    items = items_from_paths([pictures], inside)
    assert [Path(item.image).name for item in items] == ["b.png", "c.png", "d.png", "e.png", "f.png", "g.png"]
    assert items[0].reference_path == inside / "b.png"
    with pytest.raises(UserError, match="every image lies in the reference folder"):
        items_from_paths([pictures], pictures)


def test_one_reference_file_serves_all(pictures: Path) -> None:
    reference = pictures / "a.png"
    assert {item.reference_path for item in items_from_paths([pictures], reference)} == {reference}


def test_a_file_name_that_is_no_utf8_can_be_written_down(tmp_path: Path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png")
    Path(path).touch()
    [item] = items_from_paths([tmp_path])
    assert item.image.encode() == os.fsencode(tmp_path) + rb"/caf\udce9.png"
    assert item.image_path.exists()


def test_a_manifest_keeps_its_order_and_names(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    path = tmp_path / "set" / "m.csv"
    path.write_text("image,reference\nz.png,r/z.png\na.png,\n")
    manifest = read_manifest(path)
    assert items_from_manifest(manifest) == [
        Item("z.png", "r/z.png", path.parent / "z.png", path.parent / "r/z.png"),
        Item("a.png", None, path.parent / "a.png", None),
    ]
    assert all(item.reference is None for item in items_from_manifest(manifest, no_reference=True))
