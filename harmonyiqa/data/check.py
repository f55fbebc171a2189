"""Is a manifest complete and sound? Every file is opened, every rule is tried, everything wrong is listed."""

import sys
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from harmonyiqa.data.manifest import PATHS, Manifest
from harmonyiqa.data.splits import contents_in_two_splits
from harmonyiqa.errors import UserError
from harmonyiqa.files import sha256_of
from harmonyiqa.images import open_mask, open_rgb


@dataclass(frozen=True, slots=True)
class _File:
    """A decoded file: its size (width, height) and hash, or why it cannot be read."""

    size: tuple[int, int] | None = None
    sha256: str | None = None
    error: str | None = None


def find_problems(manifest: Manifest) -> list[str]:
    """Everything that is wrong with a manifest, one line each; empty if it is sound.

    Tried: every file exists and decodes; a partner that some rows have is there in all; reference, composite
    and mask have their image's size; no row and no file's bytes stand twice; MOS lies in 0-100, its deviation
    is not negative; no content stands in two splits.
    """
    files = _examine(manifest)
    problems = [*_file_problems(manifest, files), *_missing_partners(manifest), *_repeated(manifest, files)]
    for number, row in enumerate(manifest.rows, 1):
        if row.mos is not None and not 0 <= row.mos <= 100:
            problems.append(f"row {number}: mos {row.mos:g} lies outside 0-100")
        if row.mos_std is not None and row.mos_std < 0:
            problems.append(f"row {number}: mos_std {row.mos_std:g} is negative")
    for content, splits in contents_in_two_splits(manifest.rows).items():
        problems.append(f"content {content!r} stands in {' and '.join(splits)}")
    return problems


def _examine(manifest: Manifest) -> dict[tuple[str, bool], _File]:
    """Decode each file once; key: (path as written, whether it is a mask)."""
    from tqdm import tqdm

    wanted = dict.fromkeys(
        (path, kind == "mask") for row in manifest.rows for kind in PATHS if (path := getattr(row, kind))
    )
    with ThreadPoolExecutor() as pool:  # Pillow and hashlib let go of the interpreter lock
        results = pool.map(lambda key: _open(manifest.resolve(key[0]), is_mask=key[1]), wanted)
        bar = tqdm(results, total=len(wanted), desc="check", unit="file", file=sys.stderr)
        return dict(zip(wanted, bar, strict=True))


def _open(path: Path, is_mask: bool) -> _File:
    try:
        if is_mask:
            height, width = open_mask(path).shape
            return _File(size=(width, height), sha256=sha256_of(path))
        return _File(size=open_rgb(path).size, sha256=sha256_of(path))
    except (UserError, OSError) as error:
        return _File(error=str(error))


def _file_problems(manifest: Manifest, files: dict[tuple[str, bool], _File]) -> Iterator[str]:
    for number, row in enumerate(manifest.rows, 1):
        size = files[row.image, False].size
        for kind in PATHS:
            path = getattr(row, kind)
            if path is None:
                continue
            file = files[path, kind == "mask"]
            if file.error:
                yield f"row {number}: {kind}: {file.error}"
            elif size and file.size and file.size != size:
                yield (
                    f"row {number}: {kind} {path} is {file.size[0]} x {file.size[1]}, "
                    f"its image {size[0]} x {size[1]}"
                )


def _missing_partners(manifest: Manifest) -> Iterator[str]:
    for kind in PATHS[1:]:
        without = [number for number, row in enumerate(manifest.rows, 1) if getattr(row, kind) is None]
        if len(without) < len(manifest.rows):
            yield from (f"row {number}: no {kind}, though other rows have one" for number in without)


def _repeated(manifest: Manifest, files: dict[tuple[str, bool], _File]) -> Iterator[str]:
    """Rows of one (image, reference), the key of predictions; and different files of the same bytes."""
    same_row = _groups(manifest, lambda index: (manifest.rows[index].image, manifest.rows[index].reference))
    for numbers in same_row:
        row = manifest.rows[numbers[0] - 1]
        yield f"rows {_listed(numbers)}: the same image {row.image}" + (
            " and reference" if row.reference else ""
        )
    for numbers in _groups(manifest, lambda index: files[manifest.rows[index].image, False].sha256):
        paths = {manifest.rows[number - 1].image for number in numbers}
        if len(paths) > 1:
            yield f"rows {_listed(numbers)}: the same bytes in {', '.join(sorted(paths))}"


def _groups(manifest: Manifest, key: Callable[[int], Hashable | None]) -> list[list[int]]:
    """Row numbers (from 1) that share a key; a key of None is shared with nobody."""
    groups: defaultdict[Hashable, list[int]] = defaultdict(list)
    for index in range(len(manifest.rows)):
        if (value := key(index)) is not None:
            groups[value].append(index + 1)
    return [numbers for numbers in groups.values() if len(numbers) > 1]


def _listed(numbers: list[int]) -> str:
    return " and ".join(map(str, numbers))
