"""Made-up trees in the official layouts: underscores in names, upper case, lists of foregrounds only."""

import shutil
from pathlib import Path

import pytest
from PIL import Image

from harmonyiqa import cli
from harmonyiqa.data.manifest import read_manifest
from harmonyiqa.data.readers.harmonization import hold_out, rows_of_ccharmony, rows_of_iharmony4
from harmonyiqa.errors import UserError


def _save(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L" if path.suffix == ".png" else "RGB", (4, 4)).save(path)


@pytest.fixture
def iharmony4(tmp_path) -> Path:
    root = tmp_path / "iHarmony4"
    # folder as found, subset, photos with their composites
    for folder, photos in (
        ("HCOCO", ["c12_3_1", "c12_3_2", "c9_44_1"]),
        ("HAdobe5k", ["a0002-dgw_005_b_1_4", "a0003_1_2"]),
        ("hday2night", ["d90000002-2_1_3"]),
    ):
        for name in photos:
            foreground, photo = name.rsplit("_", 1)[0], name.rsplit("_", 2)[0]
            upper = ".JPG" if folder == "HAdobe5k" else ".jpg"
            _save(
                root / folder / f"composite_images/{name}{upper}", root / folder / f"masks/{foreground}.png"
            )
            _save(root / folder / f"real_images/{photo}.jpg")
        split = {"train": photos[:-1], "test": photos[-1:]}
        for which, names in split.items():
            lines = [f"{name}.jpg" for name in names]
            (root / folder / f"{folder}_{which}.txt").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture
def ccharmony(tmp_path) -> Path:
    root = tmp_path / "ccHarmony"
    for foreground in ("IMG_0281_a", "IMG_0281_b", "8D5U5594_a"):
        for k in range(1, 11):
            _save(root / f"composite_images/{foreground}_{k}.jpg")
        _save(root / f"masks/{foreground}.png", root / f"real_images/{foreground.rpartition('_')[0]}.jpg")
    (root / "train_list.txt").write_text("IMG_0281_a\nIMG_0281_b\n")
    (root / "test_list.txt").write_text("8D5U5594_a\n")
    return root


def test_iharmony4_pairs_by_the_last_underscores(iharmony4, tmp_path) -> None:
    rows, problems = rows_of_iharmony4(iharmony4, tmp_path / "m.csv")
    by_image = {row.image: row for row in rows}
    row = by_image["iHarmony4/HAdobe5k/composite_images/a0002-dgw_005_b_1_4.JPG"]
    assert row.mask == "iHarmony4/HAdobe5k/masks/a0002-dgw_005_b_1.png"
    assert row.reference == "iHarmony4/HAdobe5k/real_images/a0002-dgw_005_b.jpg"
    assert (row.group, row.split) == ("HAdobe5k", "train")
    assert by_image["iHarmony4/hday2night/composite_images/d90000002-2_1_3.jpg"].group == "Hday2night"
    assert [row.split for row in rows].count("test") == 3
    same = [r.content for r in rows if r.group == "HCOCO"]
    assert same[0] == same[1] != same[2]
    assert problems[0] == "1 subsets are missing: HFlickr"
    assert "HCOCO train: 2, not 38545" in problems[-1]
    assert len(problems) == 2


def test_one_list_for_all_subsets_does_too(iharmony4, tmp_path) -> None:
    before, _ = rows_of_iharmony4(iharmony4, tmp_path / "m.csv")
    for which in ("train", "test"):
        lines = []
        for subset in ("HCOCO", "HAdobe5k", "Hday2night"):
            folder = next(p for p in iharmony4.iterdir() if p.name.lower() == subset.lower())
            (path,) = folder.glob(f"*_{which}.txt")
            lines += [f"{subset}/composite_images/{name}" for name in path.read_text().split()]
            path.unlink()
        (iharmony4 / f"IHD_{which}.txt").write_text("\n".join([*lines, "HElse/composite_images/x_1_1.jpg"]))
    rows, problems = rows_of_iharmony4(iharmony4, tmp_path / "m.csv")
    assert rows == before
    assert "2 lines name no subset: HElse/composite_images/x_1_1.jpg (IHD_train.txt)" in problems[1]


def test_everything_wrong_in_iharmony4_is_told_at_once(iharmony4, tmp_path) -> None:
    coco = iharmony4 / "HCOCO"
    (coco / "masks/c12_3.png").unlink()
    (coco / "real_images/c9.jpg").unlink()
    _save(coco / "composite_images/c77_1_1.jpg")
    with (coco / "HCOCO_train.txt").open("a") as file:
        file.write("c500_1_1.jpg\nplain.jpg\nc12_3_1.jpg\n")
    rows, problems = rows_of_iharmony4(iharmony4, tmp_path / "m.csv")
    assert not [row for row in rows if row.group == "HCOCO"]
    text = "\n".join(problems)
    assert "1 listed names are not like a_b_c.jpg: HCOCO/plain.jpg" in text
    assert "1 listed composites are missing: HCOCO/c500_1_1" in text
    assert "2 masks are missing: HCOCO/c12_3, HCOCO/c500_1" in text
    assert "2 real photos are missing: HCOCO/c500, HCOCO/c9" in text
    assert "1 composites are listed twice: hcoco/c12_3_1" in text
    assert "1 composites are in no list: hcoco/c77_1_1" in text


def test_ccharmony_lists_name_foregrounds(ccharmony, tmp_path) -> None:
    rows, problems = rows_of_ccharmony(ccharmony, tmp_path / "m.csv")
    assert [row.split for row in rows] == ["train"] * 20 + ["test"] * 10
    assert rows[9].image == "ccHarmony/composite_images/IMG_0281_a_10.jpg"  # in order of the numbers
    assert rows[9].mask == "ccHarmony/masks/IMG_0281_a.png"
    assert rows[9].reference == "ccHarmony/real_images/IMG_0281.jpg"
    assert {row.content for row in rows} == {"IMG_0281", "8D5U5594"}
    assert {row.group for row in rows} == {"ccHarmony"}
    assert problems == [
        "2 official counts differ: train: 2 foregrounds, not 308, test: 1 foregrounds, not 118",
    ]


def test_ccharmony_in_other_folders_and_with_gaps(ccharmony, tmp_path) -> None:
    for before, after in (("composite_images", "composite"), ("masks", "mask"), ("real_images", "real")):
        (ccharmony / before).rename(ccharmony / after)
    (ccharmony / "composite/IMG_0281_a_3.jpg").unlink()
    with (ccharmony / "train_list.txt").open("a") as file:
        file.write("IMG_9999_a\n")
    rows, problems = rows_of_ccharmony(ccharmony, tmp_path / "m.csv")
    assert len(rows) == 29
    assert "1 listed foregrounds have no composite: IMG_9999_a" in problems
    assert "IMG_0281_a: 9 composites, not 10" in problems[-1]


def test_a_line_of_ccharmony_may_name_a_composite(ccharmony, tmp_path) -> None:
    (ccharmony / "test_list.txt").write_text("8D5U5594_a_1.jpg\n8D5U5594_a_2.jpg\n")
    rows, _ = rows_of_ccharmony(ccharmony, tmp_path / "m.csv")
    assert [Path(row.image).stem for row in rows if row.split == "test"] == ["8D5U5594_a_1", "8D5U5594_a_2"]


def test_a_wrong_tree_is_refused(iharmony4, ccharmony, tmp_path) -> None:
    with pytest.raises(UserError, match="none of the folders HCOCO"):
        rows_of_iharmony4(ccharmony, tmp_path / "m.csv")
    with pytest.raises(UserError, match=r"train_list\.txt does not exist"):
        rows_of_ccharmony(iharmony4, tmp_path / "m.csv")
    shutil.rmtree(ccharmony / "masks")
    with pytest.raises(UserError, match="no composite that can be used: 3 masks are missing"):
        rows_of_ccharmony(ccharmony, tmp_path / "m.csv")


def test_validation_photos_are_held_out_of_training_only(ccharmony, tmp_path) -> None:
    rows, _ = rows_of_ccharmony(ccharmony, tmp_path / "m.csv")
    assert hold_out(rows, 0) == rows
    held = hold_out(rows * 1, 0.9)
    assert [row.split for row in held] == ["val"] * 20 + ["test"] * 10
    with pytest.raises(UserError, match=r"val 1 must be in \[0, 1\)"):
        hold_out(rows, 1)


def test_the_commands_write_manifests(iharmony4, ccharmony, tmp_path, capsys) -> None:
    for name, root, count in (("iharmony4", iharmony4, 6), ("ccharmony", ccharmony, 30)):
        out = tmp_path / f"{name}.csv"
        assert (
            cli.main(["data", name, "--root", str(root), "--out", str(out)]) == 1
        )  # not the official counts
        assert len(read_manifest(out).rows) == count
        assert "official counts differ" in capsys.readouterr().out
