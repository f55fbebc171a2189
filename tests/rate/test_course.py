"""The rules of votes: never two, never lost, whatever the browser sends."""

import sqlite3
import threading

import pytest

from harmonyiqa.rate.course import Course, Refused, Saved, Situation
from harmonyiqa.rate.settings import StudySettings
from harmonyiqa.rate.store import Store

MINUTE = 60.0


class Rater:
    """One rater with a clock of its own."""

    def __init__(self, store: Store, settings: StudySettings | None = None, number: int = 1) -> None:
        self.course = Course(store, settings or StudySettings())
        self.number, self.now = number, 1_000_000.0

    def begin(self) -> Situation:
        self.course.consent(self.number, self.now)
        return self.course.start_session(self.number, "{}", self.now)

    def vote(self, position: int, value: int = 3, revision: int = 0) -> Saved:
        return self.course.vote(self.number, position, revision, value, 900, self.now)[0]

    @property
    def situation(self) -> Situation:
        return self.course.situation(self.number, self.now)


def stored(store: Store) -> list[tuple[int, int, int, int]]:
    return [
        tuple(r) for r in store.rows("SELECT rater, position, revision, value FROM vote ORDER BY 1, 2, 3")
    ]


@pytest.fixture
def store(make_study) -> Store:
    return make_study()


@pytest.fixture
def rater(store) -> Rater:
    rater = Rater(store)
    rater.begin()
    return rater


def test_the_way_from_consent_to_the_end(store) -> None:
    rater = Rater(store)
    assert rater.situation.stage == "consent"
    with pytest.raises(Refused, match="no session can begin now: consent"):
        rater.course.start_session(1, "{}", rater.now)
    with pytest.raises(Refused, match="no session runs"):
        rater.vote(1)
    rater.course.consent(1, rater.now)
    assert rater.situation.stage == "check"
    assert rater.begin().stage == "rate"
    for position in range(1, 25):
        now = rater.situation
        assert now.item is not None
        assert (now.item.position, now.done, now.session_done) == (position, position - 1, position - 1)
        rater.vote(position)
    assert (rater.situation.stage, rater.situation.done) == ("done", 24)
    with pytest.raises(Refused, match="no session runs"):
        rater.vote(25)


def test_harmonized_composite_and_reference_are_shown(rater, store) -> None:
    item = rater.situation.item
    assert [(p.role, p.width, p.height) for p in item.pictures] == [
        ("Harmonized", 48, 40),
        ("Composite", 48, 40),
        ("Reference", 48, 40),
    ]
    assert all(picture.media in store.media for picture in item.pictures)
    assert 3 <= len(rater.situation.preload) <= 9


def test_the_same_vote_again_is_the_same_vote(rater, store) -> None:
    assert rater.vote(1, 4) == Saved(4, repeated=False)
    assert rater.vote(1, 4) == Saved(4, repeated=True)
    assert rater.vote(1, 2) == Saved(4, repeated=True), "a second tab is told what stands"
    assert stored(store) == [(1, 1, 1, 4)]


def test_a_repeated_vote_is_answered_after_its_session_too(rater, store) -> None:
    rater.vote(1, 4)
    rater.now += 31 * MINUTE
    assert rater.situation.stage == "break"
    assert rater.vote(1, 4) == Saved(4, repeated=True)


def test_one_step_back_changes_the_last_vote_and_keeps_the_first(rater, store) -> None:
    rater.vote(1, 4)
    previous = rater.situation.previous
    assert (previous.position, previous.revision, previous.value) == (1, 1, 4)
    assert rater.vote(1, 2, revision=1) == Saved(2, repeated=False)
    assert rater.vote(1, 5, revision=1) == Saved(2, repeated=True)
    assert stored(store) == [(1, 1, 1, 4), (1, 1, 2, 2)]
    assert rater.situation.item.position == 2


def test_only_one_step_back(rater) -> None:
    rater.vote(1)
    rater.vote(2)
    with pytest.raises(Refused, match="presentation 1 is not due"):
        rater.vote(1, 5, revision=1)


def test_a_forged_vote_is_refused(rater, store) -> None:
    for position, revision in ((2, 0), (1, 1), (25, 0), (1_000_000_000, 0)):
        with pytest.raises(Refused, match="is not due"):
            rater.vote(position, revision=revision)
    for value in (0, 6, -1):
        with pytest.raises(Refused, match=rf"vote {value} is not on the scale 1\.\.5"):
            rater.vote(1, value)
    assert stored(store) == []


def test_a_session_ends_with_its_share_and_the_rest_comes_later(make_study) -> None:
    rater = Rater(make_study(sessions=3))
    assert rater.begin().session_total == 8
    for position in range(1, 9):
        rater.vote(position)
    assert (rater.situation.stage, rater.situation.session) == ("break", 1)
    with pytest.raises(Refused, match="no session can begin now: break"):
        rater.begin()
    rater.now += 11 * MINUTE
    assert rater.situation.stage == "check"
    assert rater.begin().item.position == 9
    assert rater.situation.previous is None, "a vote of the last session stands"
    with pytest.raises(Refused):
        rater.vote(8, 5, revision=1)


def test_time_ends_a_session_after_the_vote_under_way(rater) -> None:
    rater.now += 31 * MINUTE
    assert rater.vote(1) == Saved(3, repeated=False), "a vote that comes late is not lost"
    assert rater.situation.stage == "break"


def test_training_comes_on_top_of_a_sessions_share(make_study, scenes) -> None:
    rater = Rater(make_study(sessions=3, training=scenes))
    begun = rater.begin()
    assert (begun.total, begun.session_total) == (48, 24 + 8)
    assert begun.item.training


def test_pauses_stop_the_clock(rater) -> None:
    rater.now += 10 * MINUTE
    assert rater.course.pause(1, True, rater.now).stage == "paused"
    with pytest.raises(Refused, match="no session runs"):
        rater.vote(1)
    rater.now += 20 * MINUTE
    rater.course.pause(1, True, rater.now)  # a second click does not begin a new pause
    rater.now += 5 * MINUTE
    assert rater.situation.seconds_left == pytest.approx(20 * MINUTE)
    assert rater.course.pause(1, False, rater.now).stage == "rate"
    rater.course.pause(1, False, rater.now)
    assert rater.situation.seconds_left == pytest.approx(20 * MINUTE)
    rater.vote(1)


def test_a_forgotten_pause_ends_the_session(rater) -> None:
    rater.course.pause(1, True, rater.now)
    rater.now += 24 * 60 * MINUTE
    rater.situation  # noqa: B018 - looking ends it
    rater.now += 11 * MINUTE
    assert rater.situation.stage == "check", "the screen may be another one tomorrow"


def test_the_organizer_pauses_everybody(rater, store) -> None:
    store.set_closed(True)
    store.set_closed(True)
    assert rater.situation.stage == "closed"
    with pytest.raises(Refused, match="the study is paused"):
        rater.vote(1)
    store.set_closed(False)
    rater.vote(1)


def test_starting_twice_is_one_session(rater, store) -> None:
    rater.course.start_session(1, "{}", rater.now + 5)
    assert len(store.rows("SELECT * FROM session")) == 1


def test_raters_do_not_touch_each_other(store) -> None:
    one, two = Rater(store), Rater(store, number=2)
    one.begin()
    two.begin()
    one.vote(1, 5)
    two.vote(1, 1)
    assert stored(store) == [(1, 1, 1, 5), (2, 1, 1, 1)]


def test_many_tabs_at_once_make_one_vote(rater, store) -> None:
    results = []
    threads = [
        threading.Thread(target=lambda value=value: results.append(rater.vote(1, value)))
        for value in (1, 2, 3, 4, 5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(stored(store)) == 1
    assert sorted(result.repeated for result in results) == [False, True, True, True, True]
    assert {result.value for result in results} == {stored(store)[0][3]}


def test_a_commit_waits_for_the_disk(store) -> None:
    with store.transaction() as db:
        assert db.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
        assert db.execute("PRAGMA synchronous").fetchone()[0] == 2  # FULL


def test_a_failed_transaction_leaves_nothing(store) -> None:
    def half() -> None:
        with store.transaction() as db:
            db.execute("UPDATE rater SET consented = 1")
            db.execute("INSERT INTO vote VALUES (1, 999, 1, 3, 1, 0, 0)")

    with pytest.raises(sqlite3.IntegrityError):
        half()
    assert store.raters()[0].consented is None


def test_pairs_show_both_versions(make_study) -> None:
    rater = Rater(make_study(mode="pairs"))
    item = rater.begin().item
    assert [p.role for p in item.pictures] == ["A", "B", "Composite", "Reference"]
    with pytest.raises(Refused, match=r"scale 1\.\.2"):
        rater.vote(1, 3)
