"""What a command line names, as one source of items."""

import glob
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from harmonyiqa.data.manifest import iterate_manifest
from harmonyiqa.data.tables import SUFFIXES
from harmonyiqa.errors import UserError
from harmonyiqa.scoring.items import Files, Item, item_from_row, matching
from harmonyiqa.scoring.shards import HUB, dataset_items, holds_images, is_saved_dataset, tar_items

_COMPRESSED = (".gz", ".bz2", ".xz", ".zst")


class Source:
    """Items in their order; iterated again, they are read anew from the files.

    Args:
        words: files, folders, patterns and lists (see `Files`); or one manifest; or tar shards and datasets (see
            `harmonyiqa.scoring.shards`).
        reference: as in `Files`.
        no_reference: score every image by itself.
        follow_links: as in `Files`.
        split: the split of a dataset.

    Raises:
        UserError: a word names nothing, a manifest has a mistake, or the words do not go together.
    """

    def __init__(
        self,
        words: Sequence[str],
        reference: str | None = None,
        *,
        no_reference: bool = False,
        follow_links: bool = False,
        split: str | None = None,
    ) -> None:
        words = list(chain.from_iterable(map(_shards_of, words)))
        kinds = [_kind(word) for word in words]
        alone = next((w for w, kind in zip(words, kinds, strict=True) if kind != "files"), None)
        if reference is not None and no_reference:
            raise UserError(
                f"reference {reference!r} and no_reference contradict each other: give one of them"
            )
        if split is not None and "dataset" not in kinds:
            raise UserError(f"split {split!r} goes with a dataset: leave it out")
        if alone is not None and reference is not None:
            raise UserError(f"{alone} names its own references: leave reference {reference!r} out")
        self.total: int | None = None  # how many items there are, where that is known
        self._parts: list[Callable[[], Iterator[Item]]] = []
        if alone is None:
            files = Files(words, reference, follow_links=follow_links)
            self._parts.append(lambda: iter(files))
        elif "manifest" in kinds:
            if len(words) > 1:
                raise UserError(
                    f"{words[kinds.index('manifest')]} is a manifest: score it alone, without other paths"
                )
            self.total = sum(
                1 for _ in iterate_manifest(words[0])
            )  # every cell is checked before anything is scored
            self._parts.append(lambda: _rows(Path(words[0]), no_reference))
        elif "files" in kinds:
            raise UserError(f"{alone} is a shard or a dataset: score it without files and folders")
        else:
            self._parts += [
                _opener(w, kind, no_reference, split) for w, kind in zip(words, kinds, strict=True)
            ]
            for part, word in zip(self._parts, words, strict=True):
                if next(part(), None) is None:
                    raise UserError(f"{word} holds no image")

    def __iter__(self) -> Iterator[Item]:
        return chain.from_iterable(part() for part in self._parts)


def _rows(manifest: Path, no_reference: bool) -> Iterator[Item]:
    return (
        item_from_row(row, manifest.parent, no_reference=no_reference) for row in iterate_manifest(manifest)
    )


def _opener(word: str, kind: str, no_reference: bool, split: str | None) -> Callable[[], Iterator[Item]]:
    if kind == "tar":
        return lambda: tar_items(Path(word), no_reference=no_reference)
    return lambda: dataset_items(word, split, no_reference=no_reference)


def _shards_of(word: str) -> list[str]:
    """A pattern of shards, such as `'shards/*.tar'`, as what it matches; any other word as it is."""
    if (
        not glob.has_magic(word)
        or Path(word).exists()
        or Path(word).suffix.lower() not in (".tar", ".parquet")
    ):
        return [word]
    found = [str(path) for path in matching(Path(word))]
    if not found:
        raise UserError(f"{word} names no file")
    return found


def _kind(word: str) -> str:
    """manifest, tar, dataset, or files: what a word names."""
    path = Path(word)
    suffix = path.suffix.lower()
    if word.startswith(HUB) or is_saved_dataset(path):
        return "dataset"
    if path.is_dir():
        return "files"
    if suffix == ".parquet" and path.is_file() and holds_images(path):
        return "dataset"
    if suffix in SUFFIXES:
        return "manifest"
    if suffix == ".tar":
        if not path.is_file():
            raise UserError(f"{word} does not exist; give image files, folders or a manifest")
        return "tar"
    if suffix == ".tgz" or (suffix in _COMPRESSED and Path(path.stem).suffix.lower() == ".tar"):
        raise UserError(f"{word} is compressed: unpack it to .tar, which can be read from the middle")
    return "files"
