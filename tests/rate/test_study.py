"""A study folder is made whole or not at all, holds no path of a client, and can be copied while it runs."""

import csv
import stat
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harmonyiqa.data.manifest import Row, write_manifest
from harmonyiqa.errors import UserError
from harmonyiqa.images import open_rgb
from harmonyiqa.rate.commands import create
from harmonyiqa.rate.course import Course
from harmonyiqa.rate.secret_links import hashed
from harmonyiqa.rate.settings import StudySettings, write_settings
from harmonyiqa.rate.store import Store
from harmonyiqa.rate.study import backup_study, create_study, open_study
from tests.rate.conftest import DEFAULTS


def manifest(folder: Path, rows: list[Row], name: str = "m.csv") -> Path:
    write_manifest(rows, folder / name)
    return folder / name


def test_every_file_is_taken_once_under_a_random_name(make_study) -> None:
    store = make_study()
    assert len(store.images) == 24
    assert len(store.media) == 24 + 8 + 8, "composites and references are shared by methods"
    assert {path.name for path in (store.folder / "media").iterdir()} == {
        m.file for m in store.media.values()
    }
    for image in store.images.values():
        assert Path(image.name).stem not in store.media[image.media].file


def test_a_secret_is_written_in_its_link_only(make_study) -> None:
    store = make_study(raters=3)
    with (store.folder / "invitations.csv").open(encoding="utf-8") as file:
        links = {row["rater"]: row["link"] for row in csv.DictReader(file)}
    assert list(links) == ["r01", "r02", "r03"]
    secrets = [link.removeprefix("http://127.0.0.1:8000/join/") for link in links.values()]
    admin = (store.folder / "admin_link.txt").read_text().strip().rpartition("/")[2]
    assert len({*secrets, admin}) == 4
    assert all(len(secret) == 43 for secret in secrets)  # 256 bits
    assert [rater.secret for rater in store.raters()] == [hashed(secret) for secret in secrets]
    database = b"".join(path.read_bytes() for path in store.folder.glob("study.sqlite*"))
    assert not any(secret.encode() in database for secret in [*secrets, admin])
    for name, mode in ((".", 0o700), ("invitations.csv", 0o600), ("admin_link.txt", 0o600)):
        assert stat.S_IMODE((store.folder / name).stat().st_mode) == mode


def test_browsers_get_formats_they_know_with_the_same_pixels(make_study, tmp_path) -> None:
    rng = np.random.default_rng(0)
    grain = Image.fromarray(rng.integers(0, 256, (30, 20, 3), dtype=np.uint8))
    grain.save(tmp_path / "a.tif")
    grain.convert("RGBA").save(tmp_path / "b.png")
    grain.convert("CMYK").save(tmp_path / "c.jpg")
    grain.save(tmp_path / "d.jpg")
    turned = Image.Exif()
    turned[0x0112] = 6  # a camera held upright
    grain.save(tmp_path / "e.jpg", exif=turned)
    names = ["a.tif", "b.png", "c.jpg", "d.jpg", "e.jpg"]
    path = manifest(tmp_path, [Row(name) for name in names])
    store = create_study(path, tmp_path / "formats", StudySettings(), **DEFAULTS)
    try:
        for image in store.images.values():
            media = store.media[image.media]
            copy = store.folder / "media" / media.file
            assert np.array_equal(open_rgb(copy), open_rgb(tmp_path / image.name)), image.name
            assert open_rgb(copy).size == (media.width, media.height)
        suffixes = [Path(store.media[image.media].file).suffix for image in store.images.values()]
        assert suffixes == [".png", ".png", ".png", ".jpg", ".jpg"]
        last = store.media[store.images[5].media]
        assert (last.width, last.height) == (30, 20)
        assert (store.folder / "media" / last.file).read_bytes() == (tmp_path / "e.jpg").read_bytes()
    finally:
        store.close()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"raters": 0}, "raters 0 must be at least 1"),
        ({"sessions": 0}, "sessions 0 must be at least 1"),
        ({"repeats": 13}, "repeats 13"),
        ({"pairs": 5}, "pairs belongs to --mode pairs"),
        ({"mode": "pairs", "repeats": 2}, "belong to --mode rating"),
        ({"mode": "pairs", "settings": StudySettings()}, "labels has 5"),
        ({"training": "nowhere.csv"}, "nowhere.csv does not exist"),
    ],
)
def test_a_wrong_setting_leaves_no_folder(options, said, make_study, tmp_path) -> None:
    with pytest.raises(UserError, match=said):
        make_study(**options)
    assert list(tmp_path.iterdir()) == []


def test_bad_images_are_all_named_at_once(make_study, scenes, tmp_path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "small.png")
    Image.new("RGB", (9, 8)).save(tmp_path / "wide.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    rows = [Row("broken.png"), Row("gone.png"), Row("small.png", reference="wide.png"), Row("small.png")]
    with pytest.raises(UserError) as caught:
        make_study(training=manifest(tmp_path, rows))
    for said in ("row 1", "row 2", "gone.png does not exist", "wide.png is 9 x 8, its image 8 x 8"):
        assert said in str(caught.value)
    assert not (tmp_path / "study").exists()


def test_one_image_twice_is_refused(tmp_path) -> None:
    with pytest.raises(UserError, match=r"has a\.png 2 times"):
        create(str(manifest(tmp_path, [Row("a.png"), Row("a.png")])), str(tmp_path / "study"))


@pytest.mark.parametrize("extra", [{}, {"low": 4.0}, {"low": 4.0, "high": 3.0}, {"low": 0.0, "high": 9.0}])
def test_golden_images_need_their_right_answers(extra, make_study, scenes, tmp_path) -> None:
    rows = [Row(str(scenes.parent / "images/first_0.png"), extra=extra)]
    with pytest.raises(UserError, match="1 <= low <= high <= 5"):
        make_study(golden=manifest(tmp_path, rows))


def test_pairs_need_contents_and_methods(tmp_path) -> None:
    path = manifest(tmp_path, [Row("a.png", content="x", method="m"), Row("b.png", content="x")])
    with pytest.raises(UserError, match=r"row 2 of .* lacks content or method"):
        create(str(path), str(tmp_path / "study"), mode="pairs")


def test_an_existing_folder_is_not_touched(make_study, tmp_path) -> None:
    make_study()
    with pytest.raises(UserError, match="exists"):
        make_study()


def test_words_of_the_scale_may_change_their_number_may_not(make_study) -> None:
    store = make_study()
    write_settings(StudySettings(labels=["un", "deux", "trois", "quatre", "cinq"]), store.folder)
    opened, settings = open_study(store.folder)
    opened.close()
    assert settings.labels[0] == "un"
    write_settings(StudySettings(labels=["no", "yes"]), store.folder)
    with pytest.raises(UserError, match=r"has 2 labels, its votes are 1\.\.5"):
        open_study(store.folder)


@pytest.mark.parametrize("make", ["nothing", "text"])
def test_what_is_no_study_is_named(make, tmp_path) -> None:
    if make == "text":
        (tmp_path / "study.sqlite").write_text("not a database, but long enough to be taken for one" * 20)
    with pytest.raises(UserError, match="is no study"):
        Store(tmp_path)


def test_a_backup_taken_during_voting_is_a_study(make_study, tmp_path) -> None:
    store = make_study()
    course = Course(store, StudySettings())
    course.consent(1, 0)
    course.start_session(1, "{}", 0)
    course.vote(1, 1, 0, 5, 900, 1)
    with store.transaction() as db:  # another vote is under way
        db.execute("UPDATE rater SET consented = 7 WHERE id = 2")
        backup_study(store.folder, tmp_path / "copy")
    course.vote(1, 2, 0, 4, 900, 2)
    opened, _ = open_study(tmp_path / "copy")
    assert [tuple(r) for r in opened.rows("SELECT position, value FROM vote")] == [(1, 5)]
    assert opened.raters()[1].consented is None
    opened.close()
    names = {path.name for path in (tmp_path / "copy").iterdir()}
    assert names == {"study.sqlite", "settings.yaml", "media"}, "no secret links"
    assert len(list((tmp_path / "copy" / "media").iterdir())) == 40

    backup_study(store.folder, tmp_path / "copy")
    opened, _ = open_study(tmp_path / "copy")
    assert len(opened.rows("SELECT * FROM vote")) == 2
    opened.close()


def test_a_backup_replaces_nothing_else(make_study, tmp_path) -> None:
    one, two = make_study(), make_study(name="other", seed=1)
    backup_study(one.folder, tmp_path / "copy")
    with pytest.raises(UserError, match="another study"):
        backup_study(two.folder, tmp_path / "copy")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(UserError, match="holds other files"):
        backup_study(one.folder, tmp_path / "full")
