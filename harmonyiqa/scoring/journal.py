"""The journal of a run: rows as they are made, in a folder beside the output, until the output is whole.

``scores.csv.journal/`` holds ``settings.json`` (what the rows were made with), and for every process a file of rows
and a lock. A row is a line: CRC-32 of the rest, its place in the input, and a JSON list. A line that is cut off or
damaged does not count, and its image is scored again.
"""

import io
import json
import os
import stat
import time
import zlib
from array import array
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from glob import escape
from json.encoder import encode_basestring_ascii
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from harmonyiqa.data.predictions import Prediction
from harmonyiqa.errors import UserError
from harmonyiqa.files import atomic_path, enough_room

_SYNC_SECONDS = 5.0  # a power cut costs at most the rows of this long; a killed process none that came here
_FILE_BITS = 16  # of a row's address: which file
_NOWHERE = -1
_DECODER = json.JSONDecoder()


class Row(NamedTuple):
    """A prediction with its place in the input, from 0, and its item's fingerprint."""

    position: int
    fingerprint: str
    prediction: Prediction


class Journal:
    """One process's hand on the journal of an output file.

    Args:
        out: the output; the journal's folder is named after it.
        rank: this process's, from 0.
    """

    def __init__(self, out: str | Path, rank: int = 0) -> None:
        self.folder = Path(f"{out}.journal")
        self._out = out
        self._rank = rank
        self._lock = FileLock(self.folder / _lock_name(rank), blocking=False)
        self._file: io.FileIO | None = None
        self._synced = time.monotonic()

    def begin(self, settings: Mapping[str, Any], *, restart: bool = False) -> None:
        """Take the journal for a new run, or the one that was interrupted. For the first process alone.

        Args:
            settings: what scores depend on, as JSON types.
            restart: forget what is there.

        Raises:
            UserError: another run writes the same output, or the rows were made with other settings.
        """
        with self._writing():
            self.folder.mkdir(parents=True, exist_ok=True)
            self.lock()
            self._refuse_living()
            file = self.folder / "settings.json"
            if restart:
                for rows in self.folder.glob("*.rows"):
                    rows.unlink()
                file.unlink(missing_ok=True)
            if (before := _read_settings(file)) is not None:
                self._compare(before, settings)
                return
            with atomic_path(file) as part:
                part.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")

    def setting(self, name: str) -> Any:
        """What the interrupted run says of this setting; None if there is none."""
        return (_read_settings(self.folder / "settings.json") or {}).get(name)

    def lock(self) -> None:
        """Take this process's lock; it falls with the process.

        Raises:
            UserError: somebody has it.
        """
        try:
            self._lock.acquire()
        except Timeout as error:
            raise self._taken() from error

    def read(self) -> "Index":
        """Where each row lies that any process has written."""
        return Index(self.folder)

    def append(self, rows: Iterable[Row]) -> None:
        """Write rows, so that they outlive this process.

        Raises:
            UserError: the disk is full. What was written before stays.
        """
        lines = b"".join(map(_line, rows))
        with self._writing():
            if self._file is None:
                self._file = self._open()
            left = memoryview(lines)
            while left:
                left = left[self._file.write(left) :]
            if time.monotonic() - self._synced > _SYNC_SECONDS:
                self._sync()

    def close(self) -> None:
        """Leave the journal as it is, for another run to go on."""
        try:
            if self._file is not None:
                with self._writing(), self._file:
                    self._sync()
        finally:
            self._file = None
            self._lock.release()

    def remove(self) -> None:
        """Remove the journal, the output being whole. For the first process, when the others have closed theirs."""
        if self._file is not None:
            self._file.close()
            self._file = None
        out = Path(self._out)
        for part in out.parent.glob(
            f".{escape(out.name)}.*.part"
        ):  # of runs that were killed while they wrote it
            part.unlink(missing_ok=True)
        # in this order: cut off, it is still a journal
        for pattern in ("*.rows", "settings.json", ".settings.json.*.part", "*.lock"):
            for file in self.folder.glob(pattern):
                file.unlink(missing_ok=True)
        with suppress(OSError):  # another run may have begun
            self.folder.rmdir()
        self._lock.release()

    def _open(self) -> io.FileIO:
        """Unbuffered, so that what is written is the system's at once."""
        path = self.folder / f"{self._rank:05}.rows"
        file = path.open("ab", buffering=0)
        with path.open("rb") as written:
            if file.tell() > 0 and (written.seek(-1, os.SEEK_END), written.read())[1] != b"\n":
                file.write(b"\n")  # the last row was cut off: the next begins on a line of its own
        return file

    def _sync(self) -> None:
        if self._file is not None and stat.S_ISREG(os.fstat(self._file.fileno()).st_mode):
            os.fsync(self._file.fileno())
        self._synced = time.monotonic()

    def _refuse_living(self) -> None:
        """A process of an earlier run may have outlived its first one."""
        for path in self.folder.glob("*.lock"):
            if path.name != _lock_name(self._rank):
                try:
                    FileLock(path, blocking=False).acquire().lock.release()
                except Timeout as error:
                    raise self._taken() from error

    def _writing(self) -> AbstractContextManager[None]:
        return enough_room(self.folder, "rows written before are safe, the same command goes on from them")

    def _taken(self) -> UserError:
        return UserError(f"another run writes {self._out}: wait for it, or choose another name")

    def _compare(self, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        changed = [
            f"{name} {before.get(name)!r}, now {now.get(name)!r}"
            for name in dict.fromkeys([*before, *now])
            if before.get(name) != now.get(name)
        ]
        if changed:
            raise self.refusal("was made with other settings", "; ".join(changed))

    def refusal(self, what: str, detail: str) -> UserError:
        """What to raise where the journal's rows do not belong to this run."""
        return UserError(
            f"{self.folder} {what} ({detail}): give what was given before, or --restart to score everything again"
        )


class Index:
    """Where each row of a journal lies: 8 bytes of memory an image.

    Args:
        folder: the journal's.
    """

    def __init__(self, folder: Path) -> None:
        self._files = sorted(path for path in folder.glob("*.rows") if path.is_file())
        self._where = array("q")
        self.count = 0
        for number, path in enumerate(self._files):
            for position, offset in _scan(path):
                self._add(position, offset << _FILE_BITS | number)

    def __contains__(self, position: int) -> bool:
        return position < len(self._where) and self._where[position] != _NOWHERE

    @property
    def end(self) -> int:
        """The place after the last one that has a row."""
        return len(self._where)

    def rows(self, model: str) -> Iterator[Row]:
        """Every row, in the input's order; `model` is the name that predictions bear."""
        files = [path.open("rb") for path in self._files]
        ends = [0] * len(files)
        try:
            for position, where in enumerate(self._where):
                if where != _NOWHERE:
                    number, offset = where & ((1 << _FILE_BITS) - 1), where >> _FILE_BITS
                    if ends[number] != offset:
                        files[number].seek(offset)
                    line = files[number].readline()
                    ends[number] = offset + len(line)
                    yield _row(position, line, model)
        finally:
            for file in files:
                file.close()

    def _add(self, position: int, where: int) -> None:
        if position >= len(self._where):
            self._where.extend([_NOWHERE] * (position + 1 - len(self._where)))
        self.count += self._where[position] == _NOWHERE
        self._where[position] = where


def _lock_name(rank: int) -> str:
    return f"{rank:05}.lock"


def _read_settings(file: Path) -> dict[str, Any] | None:
    try:
        settings: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read ({error}): --restart scores everything again") from error
    return settings


def _line(row: Row) -> bytes:
    """One row; JSON of ASCII alone, so that a line break in a name is none in the file."""
    shown = row.prediction
    score = "null" if shown.score is None else repr(shown.score)
    # what json.dumps writes, in less than half the time: a row a millisecond is not rare
    cells = f"{_text(row.fingerprint)}, {_text(shown.image)}, {_text(shown.reference)}, {score}, {_text(shown.error)}"
    rest = f"{row.position} [{cells}]\n".encode("ascii")
    return b"%08x %b" % (zlib.crc32(rest), rest)


def _text(value: str | None) -> str:
    return "null" if value is None else encode_basestring_ascii(value)


def _row(position: int, line: bytes, model: str) -> Row:
    # half as long as json.loads, which would guess the encoding and look for blanks around
    cells, _ = _DECODER.raw_decode(line.split(b" ", 2)[2].decode("ascii"))
    fingerprint, image, reference, score, error = cells
    return Row(position, fingerprint, Prediction(image, reference, score, model, error))


def _scan(path: Path) -> Iterator[tuple[int, int]]:
    """Place and offset of every whole line."""
    offset = 0
    with path.open("rb") as file:
        for line in file:
            check, _, rest = line.partition(b" ")
            if len(check) == 8 and check == b"%08x" % zlib.crc32(rest):
                yield int(rest[: rest.index(b" ")]), offset
            offset += len(line)
