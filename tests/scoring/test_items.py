"""What is scored, against what, and under which name."""

import os
from pathlib import Path

import pytest

from harmonyiqa.data.manifest import read_manifest
from harmonyiqa.errors import UserError
from harmonyiqa.scoring.items import Files, Item, items_from_manifest, items_from_paths


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


def names(items: Files) -> list[str]:
    return [item.image_path.name for item in items if isinstance(item.image_path, Path)]


def test_a_file_that_two_words_name_is_listed_once(pictures: Path) -> None:
    (pictures / "sub").mkdir()
    (pictures / "a.png").rename(pictures / "sub/a.png")
    (pictures / "sub/notes").touch()
    words = ["sub/a.png", "", "sub", "b.png", "sub/notes", "b.png"]
    found = [path.removesuffix(".png") for path in names(Files([str(pictures / word) for word in words]))]
    assert found == ["a", "b", "c", "d", "e", "f", "g", "notes"]


def test_a_quoted_pattern_and_a_list(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(pictures)
    Path("sub").mkdir()
    Path("a.png").rename("sub/a.png")
    Path("b.png").rename(".b.png")
    assert [item.image for item in Files(["**/*.png"])][-1] == "sub/a.png"
    assert names(Files(["[c-d].png"])) == ["c.png", "d.png"]
    Path("list.txt").write_text("g.png\n\nsub/a.png\ng.png\ngone.png\n")
    assert [item.image for item in Files(["list.txt"])] == ["g.png", "sub/a.png", "g.png", "gone.png"]
    with pytest.raises(UserError, match=r"x\*.png names no image"):
        Files(["x*.png"])


@pytest.mark.parametrize("word", ["inside", "inside/*.png"])
def test_a_link_that_leads_out_is_an_error_unless_it_may_be_followed(
    tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    monkeypatch.chdir(tmp_path)
    inside = Path("inside")
    inside.mkdir()
    (pictures / "a.png").rename(inside / "a.png")
    (inside / "b.png").symlink_to("a.png")
    (inside / "c.png").symlink_to(pictures / "c.png")
    (inside / "d.png").symlink_to("d.png")  # a circle
    (inside / "e.png").symlink_to("../pictures/e.png")
    errors = [item.error for item in Files([word])]
    assert errors[:2] == [None, None]
    assert [str(error).partition(" is a link that leads out of ")[0] for error in errors[2:]] == [
        "inside/c.png",
        "inside/d.png",
        "inside/e.png",
    ]
    assert [item.error for item in Files([word], follow_links=True)] == [None] * 5


def test_linked_folders_are_entered_on_demand_and_circles_end(tmp_path: Path, pictures: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    (pictures / "a.png").rename(inside / "a.png")
    (inside / "out").symlink_to(pictures)
    (pictures / "back").symlink_to(inside)
    assert names(Files([str(inside)])) == ["a.png"]
    assert names(Files([str(inside)], follow_links=True)) == [f"{name}.png" for name in "abcdefg"]


def test_a_reference_that_two_files_could_be_is_the_image_s_error(pictures: Path, tmp_path: Path) -> None:
    references = tmp_path / "references"
    (references / "x").mkdir(parents=True)
    for name in ("a.png", "x/a.jpg", "b.png"):
        (references / name).touch()
    first, second, *_ = Files([str(pictures)], references)
    assert str(first.error).startswith(f"two references, {references / 'a.png'} and {references / 'x/a.jpg'}")
    assert second.reference_path == references / "b.png"


def test_a_fingerprint_changes_with_the_file_its_date_and_its_partner(pictures: Path) -> None:
    path, other = pictures / "a.png", pictures / "b.png"
    seen = {Item("a", None, path, None).fingerprint() for _ in range(2)}
    assert len(seen) == 1
    seen.add(Item("a", "b", path, other).fingerprint())
    os.utime(path, (1, 1))
    seen.add(Item("a", None, path, None).fingerprint())
    path.write_bytes(b"1")
    os.utime(path, (1, 1))
    seen.add(Item("a", None, path, None).fingerprint())
    path.unlink()
    seen.add(Item("a", None, path, None).fingerprint())
    assert len(seen) == 5
