"""A split file: which images are train, val and test, by name only, so that results can be compared.

It is JSON with ``name``, ``about``, ``train``, ``val``, ``test`` (names, sorted) and two hashes:

- ``data_sha256``: of the sorted names, one a line: which data the split belongs to
- ``split_sha256``: of ``name<TAB>split``, sorted, one a line: which split it is

A name is the image's path below the folder that all images of the manifest share, so that it does not depend on
where the data lie. Twenty splits of HarmonyIQAD come with the package (``shipped_splits``).
"""

import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from harmonyiqa.data.manifest import SPLITS, Row
from harmonyiqa.errors import UserError
from harmonyiqa.files import atomic_path

SHIPPED = Path(__file__).with_name("shipped_splits")
RUN_FILE = "split.json"  # in the folder of a training run and in that of its model
_SHOWN = 5


@dataclass(frozen=True)
class Split:
    """Which image is in which split.

    Attributes:
        name: what results call it.
        about: how it was made.
        splits: image name -> train, val or test.
    """

    name: str
    about: str
    splits: dict[str, str]

    @property
    def data_sha256(self) -> str:
        """Hash of the images' names: the data that the split belongs to."""
        return _sha256(self.splits)

    @property
    def split_sha256(self) -> str:
        """Hash of names and splits: what to quote beside a result."""
        return _sha256(f"{name}\t{split}" for name, split in self.splits.items())


def split_of(rows: Sequence[Row], name: str, about: str = "") -> Split:
    """The split that the rows of a manifest have; rows without one are left out.

    Raises:
        UserError: if no row has a split, or one image has two.
    """
    cut = [row for row in rows if row.split is not None]
    if not cut:
        raise UserError("no row has a split; see `harmonyiqa data split`")
    splits: dict[str, str] = {}
    for image, row in zip(_names([row.image for row in cut]), cut, strict=True):
        if splits.setdefault(image, row.split or "") != row.split:
            raise UserError(f"image {image} is in {splits[image]} and in {row.split}; keep one")
    return Split(name, about, splits)


def apply_split(split: Split, rows: Sequence[Row]) -> list[Row]:
    """The rows with the splits of a split file, in their order.

    Raises:
        UserError: if an image of one is not in the other, or two rows' images could be meant by one name.
    """
    found = _matched(split.splits, [row.image for row in rows])
    strangers = [row.image for row in rows if row.image not in found]
    missing = sorted(set(split.splits) - set(found.values()))
    parts = []
    if missing:
        parts.append(
            f"{len(missing)} of its {len(split.splits)} images are not in the manifest: {_some(missing)}"
        )
    if strangers:
        parts.append(f"{len(strangers)} images of the manifest are not in it: {_some(strangers)}")
    if parts:
        raise UserError(f"split {split.name} belongs to other data: {'; '.join(parts)}")
    images: defaultdict[str, set[str]] = defaultdict(set)
    for image, name in found.items():
        images[name].add(image)
    if twice := sorted(name for name, paths in images.items() if len(paths) > 1):
        raise UserError(f"{len(twice)} names of split {split.name} fit several images: {_some(twice)}")
    return [replace(row, split=split.splits[found[row.image]]) for row in rows]


def images_trained_on(split: Split, rows: Sequence[Row]) -> list[str]:
    """Images of the rows that a model of this split has seen: trained on, or chosen by (val).

    Compared by name, since the files may have moved: an image counts where its path ends in the name, or the
    name in its path.
    """
    found = _matched(split.splits, [row.image for row in rows])
    return [image for image, name in found.items() if split.splits[name] != "test"]


def trained_on_warning(model: str | Path | None, rows: Sequence[Row]) -> str | None:
    """What to say loudly before a model is judged on images that it was trained on.

    Args:
        model: a model's folder, as given to ``HarmonyIQA.from_pretrained``.
        rows: the rows that it is to be judged on.

    Returns:
        One line with the count, names and the split's hash; None where no image was seen, or where the model
        has no record of its training data (a hub id, the bundled model, a model of somebody else).

    Raises:
        UserError: if the record is there but damaged.
    """
    split = split_of_model(model)
    seen = [] if split is None else images_trained_on(split, rows)
    if split is None or not seen:
        return None
    return (
        f"WARNING: {model} was trained on {len(seen)} of these {len(rows)} images ({_some(seen)}; split "
        f"{split.split_sha256[:12]}): the result says what it remembers, not what it can judge"
    )


def split_of_model(model: str | Path | None) -> Split | None:
    """The split that a model was trained on, from its folder or that of its run; None without a record."""
    if model is None:
        return None
    for folder in (Path(model), Path(model).parent):
        if (folder / RUN_FILE).is_file():
            return read_split(folder / RUN_FILE)
    return None


def shipped_splits() -> list[str]:
    """Names of the splits that come with the package."""
    return sorted(path.stem for path in SHIPPED.glob("*.json"))


def read_split(path: str | Path) -> Split:
    """Read a split file, or a shipped one by its name.

    Raises:
        UserError: if there is none, or it is damaged: no JSON, a key missing, an image twice, or names that do
            not fit its hashes.
    """
    found = Path(path)
    if not found.is_file():
        found = SHIPPED / f"{path}.json"
    if not found.is_file():
        raise UserError(f"split {path} is neither a file nor one of {', '.join(shipped_splits())}")
    try:
        values = json.loads(found.read_text(encoding="utf-8"))
        parts = {name: [str(image) for image in values[name]] for name in SPLITS}
        split = Split(
            str(values["name"]),
            str(values["about"]),
            {image: name for name, images in parts.items() for image in images},
        )
        hashes = values["data_sha256"], values["split_sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{found} is no split file: {error!r}") from error
    if sum(map(len, parts.values())) != len(split.splits):
        raise UserError(f"{found} has an image in two splits; make it again with `harmonyiqa data split`")
    if hashes != (split.data_sha256, split.split_sha256):
        raise UserError(f"{found} was changed: its names do not fit its hashes; take an untouched copy")
    return split


def write_split(split: Split, path: str | Path) -> None:
    """Write a split file, atomically; one line a key."""
    values: dict[str, str | list[str]] = {
        "name": split.name,
        "about": split.about,
        "data_sha256": split.data_sha256,
        "split_sha256": split.split_sha256,
    }
    for part in SPLITS:
        values[part] = sorted(name for name, where in split.splits.items() if where == part)
    lines = [f"  {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]
    with atomic_path(path) as part_path:
        part_path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def _sha256(lines: Iterable[str]) -> str:
    return hashlib.sha256("".join(f"{line}\n" for line in sorted(lines)).encode()).hexdigest()


def _names(images: Sequence[str]) -> list[str]:
    """Paths below the folder that they all share; as they stand where some are absolute and some are not."""
    if len({PurePosixPath(image).is_absolute() for image in images}) > 1:
        return list(images)
    folder = os.path.commonpath([PurePosixPath(image).parent.as_posix() for image in images]) or "."
    return [PurePosixPath(os.path.relpath(image, folder)).as_posix() for image in images]


def _matched(names: Iterable[str], images: Iterable[str]) -> dict[str, str]:
    """Image -> its name in a split: one path is the end of the other, as much of it as possible."""
    by_file: defaultdict[str, list[tuple[str, ...]]] = defaultdict(list)
    for name in names:
        parts = PurePosixPath(name).parts
        by_file[parts[-1]].append(parts)
    found = {}
    for image in images:
        parts = PurePosixPath(image).parts
        ends = [end for end in by_file.get(parts[-1], []) if _one_ends_the_other(parts, end)]
        if ends:
            longest = max(ends, key=len)
            found[image] = "/".join(longest)
    return found


def _one_ends_the_other(a: tuple[str, ...], b: tuple[str, ...]) -> bool:
    length = min(len(a), len(b))
    return a[-length:] == b[-length:]


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
