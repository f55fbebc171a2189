from pathlib import Path

import numpy as np
import pytest

from harmonyiqa.data.mos.ratings import read_ratings
from harmonyiqa.data.tables import write_table
from harmonyiqa.errors import UserError

ROWS = [
    {"rater": "ann", "image": "a.png", "rating": 4, "session": "1", "time": 10.0},
    {"rater": "bob", "image": "a.png", "rating": 5, "session": "1", "time": 11.5},
    {"rater": "ann", "image": "b.png", "rating": 1, "session": "2", "time": 20.0},
    {"rater": "bob", "image": "b.png", "rating": 2, "session": "1", "time": None},
]


def write(folder: Path, text: str) -> Path:
    (folder / "ratings.csv").write_text(text, encoding="utf-8")
    return folder / "ratings.csv"


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_every_format_reads_the_same(suffix: str, tmp_path: Path) -> None:
    write_table(ROWS, tmp_path / f"r{suffix}")
    ratings = read_ratings(tmp_path / f"r{suffix}")
    assert (ratings.raters, ratings.images) == (["ann", "bob"], ["a.png", "b.png"])
    assert ratings.rater.tolist() == [0, 1, 0, 1]
    assert ratings.image.tolist() == [0, 0, 1, 1]
    assert ratings.rating.tolist() == [4, 5, 1, 2]
    assert ratings.session.tolist() == [0, 0, 1, 0]
    assert ratings.time is not None
    assert np.array_equal(ratings.time, [10, 11.5, 20, np.nan], equal_nan=True)


def test_names_that_look_like_numbers_stay_names(tmp_path: Path) -> None:
    ratings = read_ratings(write(tmp_path, '\ufeff"rater", image,rating\r\n007,1,3\r\n\r\n08,1,"4"\r\n'))
    assert (ratings.raters, ratings.images) == (["007", "08"], ["1"])


@pytest.mark.parametrize(
    "times",
    [
        ("2026-01-02T10:00:00", "2026-01-02 10:00:07.5"),
        ("2026-01-02T10:00:00Z", "2026-01-02T11:00:07.5+01:00"),
    ],
)
def test_times_may_be_dates(times: tuple[str, str], tmp_path: Path) -> None:
    ratings = read_ratings(write(tmp_path, f"rater,image,rating,time\na,x,1,{times[0]}\nb,x,2,{times[1]}\n"))
    assert ratings.time is not None
    assert np.diff(ratings.time) == pytest.approx(7.5)


def test_everything_wrong_is_told_at_once_with_its_rows(tmp_path: Path) -> None:
    text = (
        "rater,image,rating,time\n"
        "a,x,3,1\n,x,3,2\na,,3,3\na,y,good,4\nb,y,,5\nb,x,0,6\nb,z,5.5,7\na,x,4,8\na,w,nan,9\nb,v,3,noon\n"
    )
    with pytest.raises(UserError) as caught:
        read_ratings(write(tmp_path, text))
    assert str(caught.value).removeprefix(f"{tmp_path / 'ratings.csv'}: ") == (
        "no rater in row 2; no image in row 3; "
        "a rating that is no number in rows 4 (good), 5 (None), 9 (nan); "
        "a rating outside 1 to 5 (another scale: --lowest, --highest) in rows 6 (0), 7 (5.5); "
        "two votes of one rater for one image in row 1 and 8; "
        "times such as '1' are neither seconds nor ISO 8601 throughout"
    )


def test_a_thousand_problems_are_cut_short(tmp_path: Path) -> None:
    lines = [f"a,{i},9" for i in range(1000)]
    with pytest.raises(UserError, match=r"20 \(9\) and 980 more$"):
        read_ratings(write(tmp_path, "\n".join(["rater,image,rating", *lines])))


def test_a_second_session_is_no_duplicate(tmp_path: Path) -> None:
    text = "rater,image,rating,session\na,x,3,1\na,x,4,2\nb,x,2,1\n"
    assert read_ratings(write(tmp_path, text)).rating.tolist() == [3, 4, 2]


def test_another_scale_is_allowed(tmp_path: Path) -> None:
    text = "rater,image,rating\na,x,0\nb,x,100\n"
    assert read_ratings(write(tmp_path, text), lowest=0, highest=100).rating.tolist() == [0, 100]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rater,image,score\na,x,1\n", r"has no column rating \(columns: rater, image, score\)"),
        ("rater,image,rating\n", "has no rows"),
        ("rater,image,rating,rating\na,x,1,2\n", "has a column twice"),
        ("rater,image,rating\na,x,1\na,y,2\n", r"has one rater, 'a' \(rows 1 to 2\); a mean opinion needs"),
        ("rater,image,rating\na,x\n", "cannot be read as csv"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message) as caught:
        read_ratings(write(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_wrong_arguments_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--lowest 5 --highest 1: the lowest vote must be below"):
        read_ratings("ratings.csv", lowest=5, highest=1)
    with pytest.raises(UserError, match=r"nowhere\.csv does not exist"):
        read_ratings(tmp_path / "nowhere.csv")
    with pytest.raises(UserError, match=r"suffix '\.xls'"):
        read_ratings("ratings.xls")
