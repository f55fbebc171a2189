"""Images that do not lie in files of their own: WebDataset's tar shards, and rows of `datasets`."""

import tarfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from harmonyiqa.errors import UserError
from harmonyiqa.images import SUFFIXES
from harmonyiqa.scoring.items import Item, name_of, printable
from harmonyiqa.scoring.locations import Encoded, Location, Part

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

HUB = "hf://datasets/"
_SAVED = ("dataset_info.json", "dataset_dict.json")  # one of them lies in a folder of `save_to_disk`
_REFERENCE = "reference"


def is_saved_dataset(path: Path) -> bool:
    """Whether `datasets` wrote this folder with `save_to_disk`."""
    return any((path / name).is_file() for name in _SAVED)


def holds_images(parquet: Path) -> bool:
    """Whether a Parquet file holds encoded images, as `datasets` writes them; a manifest names files instead.

    Raises:
        UserError: it is no Parquet file.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        schema = pyarrow.parquet.read_schema(parquet)
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise UserError(f"{parquet} cannot be read as parquet: {error}") from error
    return any(_is_encoded(field.type) for field in schema)


def tar_items(path: Path, *, no_reference: bool = False) -> Iterator[Item]:
    """Images of an uncompressed tar, in its order, as `shard.tar/key.jpg`; only headers are read here.

    As in WebDataset, neighbouring members whose names agree up to the first dot are one sample. Its members
    `key.jpg`, `key.png` and so on are scored, against its `key.reference.jpg` if there is one.

    Args:
        path: the shard.
        no_reference: leave references out.

    Yields:
        An item a member; one with the reason where the archive is damaged.
    """
    try:
        with tarfile.open(path, "r:", errorlevel=2) as tar:
            for _, sample in groupby(_members(tar, path), key=lambda member: member.key):
                members = list(sample)
                pictures = [m for m in members if f".{m.kind}" in SUFFIXES]
                partners = [m for m in members if _is_reference(m.kind)] if not no_reference else []
                for picture in pictures:
                    partner = partners[0] if partners else None
                    yield Item(
                        picture.name,
                        partner and partner.name,
                        picture.part,
                        partner and partner.part,
                        picture.error or (partner and partner.error),
                    )
    except (tarfile.TarError, OSError, ValueError, EOFError) as error:
        yield Item(
            name_of(path), None, path, None, printable(f"{path} is no tar archive or damaged: {error}")
        )


class _Member(NamedTuple):
    key: str
    kind: str  # what follows the first dot, in lower case: jpg, reference.png
    name: str
    part: Part
    error: str | None


def _members(tar: tarfile.TarFile, path: Path) -> Iterator[_Member]:
    while (info := tar.next()) is not None:
        tar.members.clear()  # type: ignore[attr-defined]  # or it would remember every one
        name = PurePosixPath(info.name)
        stem, _, kind = name.name.partition(".")
        if info.isdir() or not stem or not kind:
            continue
        shown = printable(f"{path}/{info.name}")
        plain = info.isreg() and not info.issparse()
        error = None if plain else f"{shown} is not a plain file of the archive"
        yield _Member(
            str(name.with_name(stem)), kind.lower(), shown, Part(path, info.offset_data, info.size), error
        )


def _is_reference(kind: str) -> bool:
    field, _, suffix = kind.partition(".")
    return field == _REFERENCE and f".{suffix}" in SUFFIXES


def dataset_items(word: str, split: str | None = None, *, no_reference: bool = False) -> Iterator[Item]:
    """Images of a dataset, in its order, as `word#row`, rows from 0.

    The column `image` is scored, or the only one that holds images; a column `reference` of images is the
    reference.

    Args:
        word: a Parquet file, a folder of `save_to_disk`, or a hub name behind `hf://datasets/`.
        split: which split, where there are several.
        no_reference: leave references out.

    Raises:
        UserError: there is no such dataset, split or column.
    """
    from datasets import Image

    rows = _open(word, split)
    images = [name for name, kind in (rows.features or {}).items() if isinstance(kind, Image)]
    others = [name for name in images if name != _REFERENCE]
    column = "image" if "image" in images else others[0] if len(others) == 1 else None
    if column is None:
        found = ", ".join(rows.column_names or [])
        raise UserError(f"{word} needs one column of images, best called 'image' (columns: {found})")
    wanted = [column, _REFERENCE] if _REFERENCE in images and not no_reference else [column]
    rows = rows.select_columns(wanted)
    for name in wanted:
        rows = rows.cast_column(name, Image(decode=False))
    for number, row in enumerate(rows):
        shown = printable(f"{word}#{number}")
        yield _dataset_item(shown, row[column], row.get(_REFERENCE))


def _dataset_item(shown: str, image: dict | None, reference: dict | None) -> Item:
    located = _bytes_of(image)
    if located is None:
        error = f"{shown} holds no image" + (f", only the name {image['path']}" if image else "")
        return Item(shown, None, Encoded(b""), None, error)
    if reference is None:
        return Item(shown, None, located, None)
    name, other = f"{shown}/{_REFERENCE}", _bytes_of(reference)
    lost = None if other is not None else f"{name} holds no image, only the name {reference['path']}"
    return Item(shown, name, located, other, lost)


def _bytes_of(cell: dict | None) -> Location | None:
    """An image's own bytes; a cell may instead name a file, which is not the dataset's to have read."""
    return Encoded(cell["bytes"]) if cell and cell.get("bytes") is not None else None


def _open(word: str, split: str | None) -> "Dataset | IterableDataset":
    import datasets
    from datasets.exceptions import DatasetsError

    try:
        if word.startswith(HUB):
            name, _, revision = word.removeprefix(HUB).partition("@")
            loaded = datasets.load_dataset(name, revision=revision or None, split=split, streaming=True)
        elif Path(word).is_dir():
            loaded = datasets.load_from_disk(word)
        else:
            loaded = datasets.load_dataset("parquet", data_files=word, split="train", streaming=True)
    except (OSError, ValueError, DatasetsError) as error:
        raise UserError(f"{word} cannot be opened as a dataset: {' '.join(str(error).split())}") from error
    if not hasattr(loaded, "keys"):
        if split is not None and Path(word).exists():
            raise UserError(f"{word} has no splits: leave split {split!r} out")
        return loaded
    if split is None and len(loaded) == 1:
        return next(iter(loaded.values()))
    if split not in loaded:
        raise UserError(f"{word} has the splits {', '.join(loaded)}: choose one with --split")
    return loaded[split]


def _is_encoded(kind: object) -> bool:
    import pyarrow

    return pyarrow.types.is_struct(kind) and kind.get_field_index("bytes") >= 0  # type: ignore[attr-defined]
