"""Files: write aside and rename, find what ships with the package, hash."""

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harmonyiqa.errors import UserError

_PACKAGE = Path(__file__).resolve().parent


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it into place if the block succeeds, else remove it.

    Raises:
        UserError: if the folder cannot be made or written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except PermissionError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror}; choose a folder that you may write to"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def enough_room(path: str | Path, hint: str) -> Iterator[None]:
    """Say in one line that the disk was full while the block wrote `path`.

    Args:
        path: what is written.
        hint: what to do about it.

    Raises:
        UserError: no space, quota, or a file larger than may be.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise UserError(f"cannot write {path}: {error.strerror}; {hint}") from error


def resource_folder(kind: str) -> Path:
    """The folder ``prompts`` or ``configs``: inside the installed package, or at the top of a checkout."""
    installed = _PACKAGE / "_data" / kind
    return installed if installed.is_dir() else _PACKAGE.parent / kind


def sha256_of(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
