"""A rater's way through the study: consent, sessions, votes, pauses. Every rule about votes is here."""

from dataclasses import dataclass
from sqlite3 import Connection, Row
from typing import Literal

from harmonyiqa.rate.settings import StudySettings
from harmonyiqa.rate.store import Store, is_closed

Stage = Literal["consent", "check", "rate", "paused", "break", "closed", "done"]
_AHEAD = 3  # presentations whose images the page loads beforehand


class Refused(Exception):
    """A vote or step that may not be taken now; the message says why."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One image on the page: its role, its media id, its size in pixels."""

    role: str
    media: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Item:
    """One presentation. ``revision`` counts the votes it has; ``value`` is the last one."""

    position: int
    revision: int
    value: int | None
    training: bool
    pictures: list[Picture]


@dataclass(frozen=True, slots=True)
class Situation:
    """Where a rater stands.

    Attributes:
        stage: what the page shows now.
        done: presentations voted on.
        total: presentations of the study.
        session: number of the last session, 0 before the first.
        session_done: presentations voted on in it.
        session_total: where it ends.
        seconds_left: in the session, or until the break is over.
        item: what to vote on; None unless the stage is ``rate``.
        previous: what may still be changed, one step back.
        preload: media ids that come next.
    """

    stage: Stage
    done: int
    total: int
    session: int
    session_done: int = 0
    session_total: int = 0
    seconds_left: float = 0
    item: Item | None = None
    previous: Item | None = None
    preload: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Saved:
    """A vote that is on the disk. ``repeated``: it was there before this request."""

    value: int
    repeated: bool


class Course:
    """The rules. ``rater`` is a rater's number; ``now`` is seconds since 1970, from one clock."""

    def __init__(self, store: Store, settings: StudySettings) -> None:
        self._store = store
        self._limit = settings.session_minutes * 60
        self._break = settings.break_minutes * 60

    def situation(self, rater: int, now: float) -> Situation:
        """Where the rater stands; a session whose time is over ends here."""
        with self._store.transaction() as db:
            return self._situation(db, rater, now)

    def consent(self, rater: int, now: float) -> Situation:
        """Note that the rater agreed; the first time counts."""
        with self._store.transaction() as db:
            db.execute("UPDATE rater SET consented = ? WHERE id = ? AND consented IS NULL", (now, rater))
            return self._situation(db, rater, now)

    def start_session(self, rater: int, screen: str, now: float) -> Situation:
        """Begin the next session; while one runs, nothing happens.

        Args:
            rater: the rater's number.
            screen: what is known of the rater's screen, as JSON.
            now: the time.

        Raises:
            Refused: before consent, in a break, while the study is paused or when all is done.
        """
        with self._store.transaction() as db:
            situation = self._situation(db, rater, now)
            if situation.stage in ("rate", "paused"):  # a second tab, or a repeated request
                return situation
            if situation.stage != "check":
                raise Refused(f"no session can begin now: {situation.stage}")
            db.execute(
                "INSERT INTO session (rater, number, first, started, screen) VALUES (?, ?, ?, ?, ?)",
                (rater, situation.session + 1, situation.done + 1, now, screen),
            )
            return self._situation(db, rater, now)

    def pause(self, rater: int, paused: bool, now: float) -> Situation:
        """Stop the session's clock, or let it run on.

        Raises:
            Refused: if no session runs.
        """
        with self._store.transaction() as db:
            stage = self._situation(db, rater, now).stage
            if stage not in ("rate", "paused"):
                raise Refused(f"there is no session to pause: {stage}")
            if paused and stage == "rate":
                db.execute("UPDATE session SET paused = ? WHERE rater = ? AND ended IS NULL", (now, rater))
            elif not paused:
                db.execute(
                    "UPDATE session SET rested = rested + coalesce(? - paused, 0), paused = NULL "
                    "WHERE rater = ? AND ended IS NULL",
                    (now, rater),
                )
            return self._situation(db, rater, now)

    def vote(
        self, rater: int, position: int, revision: int, value: int, milliseconds: int, now: float
    ) -> tuple[Saved, Situation]:
        """Save a vote. The same request again changes nothing and gets the same answer.

        A vote is taken on the presentation that is due (``revision`` 0) or, as a correction, on the one
        before it (``revision`` as given with it). A request whose vote is already there, from a double
        click, a second tab or a lost answer, is told what stands.

        Args:
            rater: the rater's number.
            position: of the presentation in the rater's order, from 1.
            revision: how many votes the page knew on it.
            value: 1..points.
            milliseconds: how long the images were on the screen.
            now: the time.

        Raises:
            Refused: if the value is off the scale, the presentation is not due, or no session runs.
        """
        points = self._store.facts.points
        if not 1 <= value <= points:
            raise Refused(f"vote {value} is not on the scale 1..{points}")
        with self._store.transaction() as db:
            standing = _last_vote(db, rater, position)
            count = standing["revision"] if standing else 0
            if standing and revision < count:
                return Saved(standing["value"], repeated=True), self._situation(db, rater, now)
            # the session is not ended by the clock here: a vote that comes late through a lost connection counts
            session = _last_session(db, rater)
            if is_closed(db):
                raise Refused("the study is paused; the vote was not saved")
            if session is None or session["ended"] or session["paused"]:
                raise Refused("no session runs; the vote was not saved")
            done = _done(db, rater)
            is_due = position == done + 1 and done < self._store.totals[rater]
            is_correction = position == done and standing and standing["session"] == session["number"]
            if revision != count or not (is_due or is_correction):
                raise Refused(f"presentation {position} is not due; the vote was not saved")
            db.execute(
                "INSERT INTO vote VALUES (?, ?, ?, ?, ?, ?, ?)",
                (rater, position, count + 1, value, session["number"], now, milliseconds),
            )
            return Saved(value, repeated=False), self._situation(db, rater, now)

    def _situation(self, db: Connection, rater: int, now: float) -> Situation:
        store = self._store
        done, total = _done(db, rater), store.totals[rater]
        session = _last_session(db, rater)
        (consented,) = db.execute("SELECT consented FROM rater WHERE id = ?", (rater,)).fetchone()
        number = session["number"] if session else 0
        session_done, session_total = self._portion(session, done, total)
        ended = session["ended"] if session else None
        left = self._limit - _worked(session, now) if session else 0.0
        if session and not ended:
            forgotten = session["paused"] and now - session["paused"] > self._limit
            if done == total or session_done >= session_total or left <= 0 or forgotten:
                ended = now
                db.execute(
                    "UPDATE session SET ended = ? WHERE rater = ? AND number = ?", (now, rater, number)
                )
        rest = ended + self._break - now if ended else 0.0

        def at(stage: Stage, seconds: float = 0) -> Situation:
            return Situation(stage, done, total, number, session_done, session_total, seconds)

        if done == total:
            return at("done")
        if is_closed(db):
            return at("closed")
        if consented is None:
            return at("consent")
        if session is None or ended:
            return at("break", rest) if rest > 0 else at("check")
        if session["paused"]:
            return at("paused", left)
        return Situation(
            "rate",
            done,
            total,
            number,
            session_done,
            session_total,
            left,
            *self._items(db, rater, done, number),
        )

    def _portion(self, session: Row | None, done: int, total: int) -> tuple[int, int]:
        """How much of the session is done, and how much it has: its share, and training on top."""
        if session is None:
            return 0, 0
        before = session["first"] - 1
        training = max(self._store.training - before, 0)
        return done - before, min(self._store.facts.portion + training, total - before)

    def _items(
        self, db: Connection, rater: int, done: int, session: int
    ) -> tuple[Item | None, Item | None, tuple[str, ...]]:
        rows = db.execute(
            "SELECT * FROM presentation WHERE rater = ? AND position BETWEEN ? AND ? ORDER BY position",
            (rater, done, done + 1 + _AHEAD),
        ).fetchall()
        by_position = {row["position"]: row for row in rows}
        previous = None
        if done:
            vote = _last_vote(db, rater, done)
            if vote and vote["session"] == session:
                previous = self._item(by_position[done], vote)
        ahead = [self._pictures(row) for position, row in by_position.items() if position > done + 1]
        preload = dict.fromkeys(picture.media for pictures in ahead for picture in pictures)
        return self._item(by_position[done + 1], None), previous, tuple(preload)

    def _item(self, row: Row, vote: Row | None) -> Item:
        return Item(
            row["position"],
            vote["revision"] if vote else 0,
            vote["value"] if vote else None,
            row["kind"] == "training",
            self._pictures(row),
        )

    def _pictures(self, row: Row) -> list[Picture]:
        """What is shown: the image (or A and B), the composite, the reference; what is unknown is left out."""
        image = self._store.images[row["image"]]
        if row["second"] is None:
            judged = [("Harmonized", image.media)]
        else:
            judged = [("A", image.media), ("B", self._store.images[row["second"]].media)]
        partners = [("Composite", image.composite), ("Reference", image.reference)]
        return [
            Picture(role, media, self._store.media[media].width, self._store.media[media].height)
            for role, media in [*judged, *partners]
            if media is not None
        ]


def _last_vote(db: Connection, rater: int, position: int) -> Row | None:
    row: Row | None = db.execute(
        "SELECT * FROM vote WHERE rater = ? AND position = ? ORDER BY revision DESC LIMIT 1",
        (rater, position),
    ).fetchone()
    return row


def _last_session(db: Connection, rater: int) -> Row | None:
    row: Row | None = db.execute(
        "SELECT * FROM session WHERE rater = ? ORDER BY number DESC LIMIT 1", (rater,)
    ).fetchone()
    return row


def _done(db: Connection, rater: int) -> int:
    """Votes are given in order, so the last position is also the number of presentations done."""
    (position,) = db.execute("SELECT max(position) FROM vote WHERE rater = ?", (rater,)).fetchone()
    return position or 0


def _worked(session: Row, now: float) -> float:
    """Seconds of a session, its pauses not counted."""
    return float((session["paused"] or now) - session["started"] - session["rested"])
