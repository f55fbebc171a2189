from pathlib import Path

import numpy as np
import pytest

from harmonyiqa.data.manifest import Row, read_manifest, write_manifest
from harmonyiqa.data.mos.command import mos
from harmonyiqa.data.tables import read_table, write_table
from harmonyiqa.errors import UserError


@pytest.fixture
def ratings(honest: np.ndarray, tmp_path: Path) -> Path:
    honest[7] = 3
    rows = [
        {"rater": f"r{i}", "image": f"{j}.png", "rating": honest[i, j]}
        for i in range(honest.shape[0])
        for j in range(honest.shape[1])
    ]
    write_table(rows, tmp_path / "ratings.csv")
    return tmp_path / "ratings.csv"


def test_the_table_is_a_manifest_with_intervals(ratings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, raters = ratings.parent / "mos.csv", ratings.parent / "raters.csv"
    assert mos(str(ratings), str(out), raters=str(raters)) == 0
    rows = read_manifest(out).rows
    assert [row.image for row in rows] == [f"{j}.png" for j in range(200)]
    for row in rows:
        assert row.extra["mos_low"] < row.mos < row.extra["mos_high"]
        assert row.extra["mos_se"] == pytest.approx(row.mos_std / int(row.extra["votes"]) ** 0.5)
    report = read_table(raters)
    assert [line["rater"] for line in report] == [f"r{i}" for i in range(20)]
    assert report[7]["rejected"]
    assert report[7]["agreement"] is None
    told = capsys.readouterr().out
    assert told.startswith("4000 votes of 20 raters on 200 images; ")
    assert "rater r7: rejected, " in told
    assert "valid votes: ICC(2,1) 0." in told
    assert told.endswith(f"{out}: 200 MOS\n")


def test_without_screening_every_vote_of_a_varied_rater_counts(ratings: Path) -> None:
    out = ratings.parent / "mos.csv"
    mos(str(ratings), str(out), screening=False)
    assert {line["votes"] for line in read_table(out)} == {"19"}


def test_an_image_without_mos_is_status_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "r.csv").write_text("rater,image,rating\na,x,1\na,y,2\nb,x,2\nb,y,1\nc,z,3\n")
    assert mos(str(tmp_path / "r.csv"), str(tmp_path / "m.csv")) == 1
    assert "no valid vote for z: it has no MOS" in capsys.readouterr().out
    assert read_table(tmp_path / "m.csv")[2]["mos"] is None


def test_a_manifest_gets_its_mos_and_keeps_the_rest(ratings: Path) -> None:
    mos(str(ratings), str(ratings.parent / "mos.csv"))
    expected = {row.image: row.mos for row in read_manifest(ratings.parent / "mos.csv").rows}
    rows = [
        Row(f"{j}.png", "photo.png", mos=1.0, method="m", mos_kind="synthetic", extra={"camera": "c"})
        for j in range(200)
    ]
    (ratings.parent / "images").mkdir()
    write_manifest(rows[::-1], ratings.parent / "images/manifest.csv")
    assert (
        mos(str(ratings), str(ratings.parent / "out.csv"), str(ratings.parent / "images/manifest.csv")) == 0
    )
    joined = read_manifest(ratings.parent / "out.csv").rows
    assert [row.image for row in joined] == [f"images/{j}.png" for j in range(199, -1, -1)], "its order"
    assert all(row.mos == expected[Path(row.image).name] for row in joined)
    assert {(row.reference, row.method, row.mos_kind) for row in joined} == {("images/photo.png", "m", None)}
    assert all(row.extra["camera"] == "c" and row.extra["mos_low"] < row.mos for row in joined)


def test_a_manifest_and_ratings_that_do_not_fit_are_named(
    ratings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [Row(f"{j}.png") for j in range(201)]
    write_manifest(rows, ratings.parent / "more.csv")
    assert mos(str(ratings), str(ratings.parent / "out.csv"), str(ratings.parent / "more.csv")) == 1
    assert "no valid vote for 200.png: it has no MOS" in capsys.readouterr().out
    write_manifest(rows[1:], ratings.parent / "fewer.csv")
    with pytest.raises(UserError, match=r"lacks 1 of the rated images, among them '0\.png'"):
        mos(str(ratings), str(ratings.parent / "out.csv"), str(ratings.parent / "fewer.csv"))
