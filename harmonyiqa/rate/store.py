"""The study's SQLite file: what is shown to whom, and every vote. A commit is on the disk when it returns."""

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from harmonyiqa.errors import UserError
from harmonyiqa.rate.plan import Shown

DATABASE = "study.sqlite"
_FORMAT = 1
_BUSY_SECONDS = 30  # how long to wait for another process (backup, export, a second server)
_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value ANY NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE media (
    id TEXT PRIMARY KEY, file TEXT NOT NULL UNIQUE, width INTEGER NOT NULL, height INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE image (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,               -- as its manifest writes it
    media TEXT NOT NULL REFERENCES media,
    composite TEXT REFERENCES media,
    reference TEXT REFERENCES media,
    method TEXT,
    content TEXT,
    low INTEGER, high INTEGER         -- golden images: the accepted ratings
) STRICT;
CREATE TABLE rater (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    secret BLOB NOT NULL UNIQUE,      -- hashed
    consented REAL
) STRICT;
CREATE TABLE presentation (
    rater INTEGER NOT NULL REFERENCES rater,
    position INTEGER NOT NULL,        -- 1, 2, ... in the order shown
    image INTEGER NOT NULL REFERENCES image,
    second INTEGER REFERENCES image,  -- pair mode: on the right
    kind TEXT NOT NULL CHECK (kind IN ('training', 'rating', 'repeat', 'golden')),
    PRIMARY KEY (rater, position)
) STRICT, WITHOUT ROWID;
CREATE TABLE session (
    rater INTEGER NOT NULL REFERENCES rater,
    number INTEGER NOT NULL,
    first INTEGER NOT NULL,           -- position it began at
    started REAL NOT NULL,
    ended REAL,
    paused REAL,                      -- since when, while paused
    rested REAL NOT NULL DEFAULT 0,   -- seconds in earlier pauses
    screen TEXT NOT NULL,             -- JSON
    PRIMARY KEY (rater, number)
) STRICT, WITHOUT ROWID;
CREATE TABLE vote (
    rater INTEGER NOT NULL,
    position INTEGER NOT NULL,
    revision INTEGER NOT NULL,        -- 1; 2, ... where the rater went back; the last one counts
    value INTEGER NOT NULL,
    session INTEGER NOT NULL,
    time REAL NOT NULL,               -- seconds since 1970
    milliseconds INTEGER NOT NULL,    -- the images were on the screen
    PRIMARY KEY (rater, position, revision),
    FOREIGN KEY (rater, position) REFERENCES presentation,
    FOREIGN KEY (rater, session) REFERENCES session
) STRICT, WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Media:
    """A file of the study. ``file`` lies in the folder `media`; sizes are in pixels, as a browser shows it."""

    id: str
    file: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class StudyImage:
    """An image with its partners, each as a media id; ``low`` and ``high`` bound a golden one's ratings."""

    id: int
    name: str
    media: str
    composite: str | None = None
    reference: str | None = None
    method: str | None = None
    content: str | None = None
    low: int | None = None
    high: int | None = None


@dataclass(frozen=True, slots=True)
class Rater:
    """``name`` is a pseudonym; ``secret`` is hashed; ``consented`` is a time, or None."""

    id: int
    name: str
    secret: bytes
    consented: float | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """What is fixed when a study is made.

    Attributes:
        study: a short random name; cookies carry it, so that two studies on one machine do not mix.
        mode: ``rating`` or ``pairs``.
        points: votes are 1..points, higher is better; in pair mode 1 is left, 2 is right.
        portion: presentations a session, training not counted.
        seed: of every rater's order.
        admin: the organizer's secret, hashed.
    """

    study: str
    mode: str
    points: int
    portion: int
    seed: int
    admin: bytes


class Store:
    """A study's database, safe to share between threads.

    What never changes (images, media, raters' secrets) is read once. Everything else goes through
    :meth:`transaction`.

    Raises:
        UserError: if ``folder`` holds no study, or one of another format.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        path = self.folder / DATABASE
        if not path.is_file():
            raise UserError(f"{folder} is no study: it has no {DATABASE}; see `harmonyiqa rate create`")
        self._lock, self._reading = threading.Lock(), threading.Lock()
        with ExitStack() as opened:
            try:
                self._connection = opened.enter_context(closing(_connect(path)))
                # in WAL mode a long report on its own connection keeps no vote waiting
                self._reader = opened.enter_context(closing(_connect(path)))
                self._read_what_is_fixed(path)
            except (sqlite3.DatabaseError, KeyError) as error:
                raise UserError(f"{path} is no study database, or damaged: {error}") from error
            opened.pop_all()  # they stay open

    def _read_what_is_fixed(self, path: Path) -> None:
        db = self._reader
        meta = dict(db.execute("SELECT key, value FROM meta").fetchall())
        if meta["format"] != _FORMAT:
            raise UserError(f"{path} was made by another version of harmonyiqa; use that one")
        self.facts = Facts(**{name: meta[name] for name in Facts.__slots__})
        self.media = {row["id"]: Media(*row) for row in db.execute("SELECT * FROM media")}
        self.images = {row["id"]: StudyImage(*row) for row in db.execute("SELECT * FROM image")}
        self.totals: dict[int, int] = dict(
            db.execute("SELECT rater, count(*) FROM presentation GROUP BY rater").fetchall()
        )
        (self.training,) = db.execute(
            "SELECT count(*) FROM presentation WHERE kind = 'training' AND rater = 1"
        ).fetchone()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One at a time, all or nothing; when the block is left, its changes have reached the disk."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise

    def rows(self, query: str, values: Sequence[object] = ()) -> list[sqlite3.Row]:
        """The rows of one SELECT, as of the last commit; usable beside a transaction."""
        with self._reading:
            return self._reader.execute(query, values).fetchall()

    def raters(self) -> list[Rater]:
        """All raters, in the order of their numbers."""
        return [Rater(*row) for row in self.rows("SELECT * FROM rater ORDER BY id")]

    def is_closed(self) -> bool:
        """Whether the organizer has paused the study."""
        with self.transaction() as db:
            return is_closed(db)

    def set_closed(self, closed: bool) -> None:
        """Pause the study for everybody, or open it again."""
        with self.transaction() as db:
            if closed:
                db.execute("INSERT OR IGNORE INTO meta VALUES ('closed', 1)")
            else:
                db.execute("DELETE FROM meta WHERE key = 'closed'")

    def backup(self, path: Path) -> None:
        """Copy the database as it is at one moment, while others go on writing.

        Raises:
            UserError: if the copy cannot be written or is not sound.
        """
        try:
            copy = sqlite3.connect(path)
            try:
                with self._reading:
                    self._reader.backup(copy)
                (verdict,) = copy.execute("PRAGMA integrity_check").fetchone()
            finally:
                copy.close()
        except sqlite3.Error as error:
            raise UserError(f"cannot write the backup {path}: {error}") from error
        if verdict != "ok":
            raise UserError(f"the backup {path} is not sound: {verdict}")

    def close(self) -> None:
        """Close the file; its log is folded in."""
        self._reader.close()
        self._connection.close()


def is_closed(db: sqlite3.Connection) -> bool:
    """Whether the organizer has paused the study, inside a transaction."""
    return db.execute("SELECT 1 FROM meta WHERE key = 'closed'").fetchone() is not None


def create_database(
    path: Path,
    facts: Facts,
    media: Sequence[Media],
    images: Sequence[StudyImage],
    raters: Sequence[Rater],
    plans: dict[int, list[Shown]],
) -> None:
    """Write a new database; ``plans`` gives each rater's presentations, in order."""
    connection = _connect(path, make=True)
    try:
        connection.executescript(_SCHEMA)
        connection.execute("BEGIN")
        values = {"format": _FORMAT} | {name: getattr(facts, name) for name in Facts.__slots__}
        connection.executemany("INSERT INTO meta VALUES (?, ?)", values.items())
        for table, rows in (("media", media), ("image", images), ("rater", raters)):
            for row in rows:
                cells = [getattr(row, name) for name in row.__slots__]
                connection.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(cells))})", cells)
        for rater, plan in plans.items():
            connection.executemany(
                "INSERT INTO presentation VALUES (?, ?, ?, ?, ?)",
                [(rater, position, s.image, s.second, s.kind) for position, s in enumerate(plan, 1)],
            )
        connection.execute("COMMIT")
    finally:
        connection.close()


def _connect(path: Path, *, make: bool = False) -> sqlite3.Connection:
    mode = "rwc" if make else "rw"
    connection = sqlite3.connect(
        f"{path.resolve().as_uri()}?mode={mode}",
        uri=True,
        timeout=_BUSY_SECONDS,
        isolation_level=None,  # transactions begin and end where transaction() says
        check_same_thread=False,  # Store's lock keeps threads apart
    )
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")  # in WAL mode: the log is synced at every commit
    connection.execute("PRAGMA foreign_keys = ON")
    return connection
