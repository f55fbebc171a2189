from pathlib import Path

import pytest
from PIL import Image

from harmonyiqa.data.manifest import Row, read_manifest, write_manifest
from harmonyiqa.errors import UserError
from harmonyiqa.harmonize.jobs import jobs_from_manifest, jobs_from_paths


def _save(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(path)


def test_folders_keep_their_folders_and_masks_pair_by_name(tmp_path) -> None:
    _save(
        tmp_path / "in/x/a.jpg",
        tmp_path / "in/b.png",
        tmp_path / "in/masks/a.png",
        tmp_path / "in/masks/b.png",
    )
    jobs = jobs_from_paths([tmp_path / "in"], [tmp_path / "in/masks"])
    assert [(job.name, job.mask and job.mask.name) for job in jobs] == [
        ("b.png", "b.png"),
        ("x/a.jpg", "a.png"),
    ]


def test_one_mask_serves_all_and_a_missing_one_is_an_error_of_its_image(tmp_path) -> None:
    _save(tmp_path / "a.jpg", tmp_path / "b.jpg", tmp_path / "m/b.png", tmp_path / "m/c.png")
    paths = [tmp_path / "a.jpg", tmp_path / "b.jpg"]
    assert {job.mask for job in jobs_from_paths(paths, [tmp_path / "m/c.png"])} == {tmp_path / "m/c.png"}
    first, second = jobs_from_paths(paths, [tmp_path / "m/b.png", tmp_path / "m/c.png"])
    assert first.error is not None
    assert "a.jpg has no mask: none is named a.*" in first.error
    assert second.mask == tmp_path / "m/b.png"


def test_names_that_would_meet_are_refused(tmp_path) -> None:
    _save(tmp_path / "x/a.jpg", tmp_path / "y/A.png", tmp_path / "m/a.png", tmp_path / "m/n/a.png")
    with pytest.raises(UserError, match="would both become"):
        jobs_from_paths([tmp_path / "x/a.jpg", tmp_path / "y/A.png"], [tmp_path / "m/a.png"])
    with pytest.raises(UserError, match="could both be the mask of a"):
        jobs_from_paths([tmp_path / "x"], [tmp_path / "m"])
    with pytest.raises(UserError, match="every image lies in the folder of masks"):
        jobs_from_paths([tmp_path / "m/n"], [tmp_path / "m"])


def test_a_manifest_gives_one_job_a_composite(tmp_path) -> None:
    rows = [
        Row("out/a_1.png", composite="in/a.png", mask="m/a.png", reference="r/a.png", method="x", group="g"),
        Row("out/a_2.png", composite="in/a.png", mask="m/a.png", reference="r/a.png", method="y"),
        Row("../b.png"),
    ]
    write_manifest(rows, tmp_path / "m.csv")
    first, second = jobs_from_manifest(read_manifest(tmp_path / "m.csv"))
    assert (first.name, first.reference) == ("in/a.png", tmp_path / "r/a.png")
    assert second.name == "b.png"
    assert second.error is not None
    assert "../b.png has no mask" in second.error
