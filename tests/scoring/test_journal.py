"""A row is whole or does not count; a journal belongs to one run at a time, and to one question."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harmonyiqa.data.predictions import Prediction
from harmonyiqa.errors import UserError
from harmonyiqa.scoring.journal import Journal, Row

SETTINGS = {"paths": ["a"], "batch_size": 2}


def row(position: int, image: str = "a.png", score: float | None = 50.0) -> Row:
    error = None if score is not None else "broken"
    return Row(position, f"{position:016x}", Prediction(image, None, score, "m", error))


def started(out: Path, rank: int = 0) -> Journal:
    journal = Journal(out, rank)
    if rank == 0:
        journal.begin(SETTINGS)
    else:
        journal.lock()
    return journal


def rows_file(out: Path, rank: int = 0) -> Path:
    return Path(f"{out}.journal", f"{rank:05}.rows")


@given(
    image=st.text(st.characters(exclude_categories=["Cs"])),
    reference=st.none() | st.text(st.characters(exclude_categories=["Cs"])),
    score=st.floats(allow_nan=False, allow_infinity=False),
)
def test_every_row_comes_back_equal(
    tmp_path_factory, image: str, reference: str | None, score: float
) -> None:
    journal = started(tmp_path_factory.mktemp("j") / "out.csv")
    rows = [
        Row(1, "f" * 16, Prediction(image, reference, score, "m")),
        Row(0, "0" * 16, Prediction(image, reference, None, "m", image)),
    ]
    journal.append(rows)
    assert list(journal.read().rows("m")) == rows[::-1]
    journal.remove()


def test_rows_of_all_processes_in_the_input_s_order(tmp_path: Path) -> None:
    first, second = started(tmp_path / "out.csv"), started(tmp_path / "out.csv", rank=1)
    first.append([row(4), row(0)])
    second.append([row(1), row(3)])
    first.append([row(2)])
    index = first.read()
    assert [each.position for each in index.rows("m")] == [0, 1, 2, 3, 4]
    assert (index.count, index.end) == (5, 5)
    assert 3 in index
    assert 5 not in index
    second.close()
    first.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_row_cut_anywhere_does_not_count_and_the_next_run_writes_on(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    journal = started(out)
    journal.append([row(0), row(1, "b\n.png")])
    journal.close()
    whole = rows_file(out).read_bytes()
    first = whole.index(b"\n") + 1
    for length in range(len(whole) - 1):
        rows_file(out).write_bytes(whole[:length])
        again = started(out)
        expected = [0] if length >= first else []
        assert [each.position for each in again.read().rows("m")] == expected
        again.append([row(7)])
        after = (
            [0] if length >= first - 1 else []
        )  # a line that lacked its end alone gets it from the next one
        assert [each.position for each in again.read().rows("m")] == [*after, 7]
        again.close()


def test_a_damaged_row_does_not_count(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    journal = started(out)
    journal.append([row(0), row(1), row(2)])
    lines = rows_file(out).read_bytes().splitlines(keepends=True)
    for damaged in (lines[1].replace(b"50.0", b"58.0"), b"\0" * 40 + b"\n", b"\n", b"12345678 \n"):
        rows_file(out).write_bytes(lines[0] + damaged + lines[2])
        assert [each.position for each in journal.read().rows("m")] == [0, 2]


def test_two_runs_into_one_file(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    running = started(out)
    with pytest.raises(UserError, match=r"another run writes .*out\.csv"):
        Journal(out).begin(SETTINGS)
    with pytest.raises(UserError, match="another run writes"):
        Journal(out).begin(SETTINGS, restart=True)
    running.close()
    started(out).close()


def test_a_process_that_outlived_the_first_one_counts_as_a_run(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    first, second = started(out), started(out, rank=1)
    first.close()
    with pytest.raises(UserError, match="another run writes"):
        Journal(out).begin(SETTINGS)
    second.close()
    started(out).close()


def test_other_settings_are_named_and_restart_forgets_the_rows(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    journal = started(out)
    journal.append([row(0)])
    journal.close()
    with pytest.raises(
        UserError, match=r"made with other settings \(batch_size 2, now 4; text None, now True\).*--restart"
    ) as said:
        journal.begin({"paths": ["a"], "batch_size": 4, "text": True})
    assert "\n" not in str(said.value)
    journal.close()
    again = Journal(out)
    again.begin({"paths": ["b"], "batch_size": 4}, restart=True)
    assert again.read().count == 0
    again.close()


def test_a_full_disk_is_said_and_rows_before_it_stay(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    journal = started(out)
    other = started(out, rank=1)
    other.append([row(0)])
    rows_file(out).symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"No space left on device; rows written before are safe"):
        journal.append([row(1)])
    journal.close()
    rows_file(out).unlink()  # what it holds has no end
    assert [each.position for each in journal.read().rows("m")] == [0]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    pid = os.fork()
    if pid == 0:
        started(out).append([row(0)])
        os._exit(9)
    os.waitpid(pid, 0)
    journal = started(out)
    assert journal.read().count == 1
    journal.close()
