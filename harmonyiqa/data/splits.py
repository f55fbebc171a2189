"""Cut a manifest into train, val and test: by content, or per method as the paper does; and what leaks between them."""

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from harmonyiqa.data.manifest import SPLITS, Row
from harmonyiqa.errors import UserError

T = TypeVar("T")


def split_by_content(rows: Sequence[Row], train: float, val: float, seed: int) -> list[Row]:
    """Every content goes whole into one split, so that no test scene was seen in training.

    Args:
        rows: rows with ``content``; order is kept.
        train: share of the contents for training, above 0.
        val: share for validation; the rest is test.
        seed: seed of the shuffle.

    Raises:
        UserError: if a row has no content, the shares are impossible, or there are too few contents for them.
    """
    contents = _contents(rows)
    splits = _cut(contents, train, val, random.Random(seed))
    if lacking := [
        name for name, share in _shares(train, val).items() if share and name not in splits.values()
    ]:
        raise UserError(
            f"{len(contents)} contents are too few: none is left for {lacking[0]}; change --train, --val"
        )
    return [replace(row, split=splits[row.content or ""]) for row in rows]


def split_by_method(rows: Sequence[Row], train: float, val: float, seed: int) -> list[Row]:
    """Each method's images are cut in the same shares (HarmonyIQA, section IV: 4:1).

    Scenes stand on both sides: a model may know a test image's scene from training. Only for comparison with
    published figures.

    Args:
        rows: rows with ``method``; order is kept.
        train: share of each method's rows for training, above 0.
        val: share for validation; the rest is test.
        seed: seed of the shuffle.

    Raises:
        UserError: if a row has no method, or the shares are impossible.
    """
    rng = random.Random(seed)
    splits: dict[int, str] = {}
    for indices in _by_method(rows):
        splits |= _cut(indices, train, val, rng)
    return [replace(row, split=splits[index]) for index, row in enumerate(rows)]


def folds_by_content(rows: Sequence[Row], count: int, val: float, seed: int) -> list[list[Row]]:
    """``count`` splits by content, in which every content is tested exactly once.

    Args:
        rows: rows with ``content``; order is kept.
        count: how many folds, at least 2; each tests one part in ``count``.
        val: share of all contents for validation, drawn anew from the others of each fold.
        seed: seed of the shuffle.

    Raises:
        UserError: if a row has no content, or there are too few contents for the folds.
    """
    folds = _folds(_contents(rows), count, val, random.Random(seed))
    return [[replace(row, split=splits[row.content or ""]) for row in rows] for splits in folds]


def folds_by_method(rows: Sequence[Row], count: int, val: float, seed: int) -> list[list[Row]]:
    """``count`` splits as ``split_by_method`` makes them, in which every image is tested exactly once.

    Args:
        rows: rows with ``method``; order is kept.
        count: how many folds, at least 2; each tests one part in ``count`` of every method.
        val: share of each method's rows for validation, drawn anew from the others of each fold.
        seed: seed of the shuffle.

    Raises:
        UserError: if a row has no method, or one has too few rows for the folds.
    """
    rng = random.Random(seed)
    folds: list[dict[int, str]] = [{} for _ in range(count)]
    for indices in _by_method(rows):
        for fold, part in zip(folds, _folds(indices, count, val, rng), strict=True):
            fold |= part
    return [[replace(row, split=splits[index]) for index, row in enumerate(rows)] for splits in folds]


KINDS: dict[str, Callable[[Sequence[Row], float, float, int], list[Row]]] = {
    "content": split_by_content,
    "method": split_by_method,
}
FOLDS: dict[str, Callable[[Sequence[Row], int, float, int], list[list[Row]]]] = {
    "content": folds_by_content,
    "method": folds_by_method,
}


def contents_in_two_splits(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Contents that stand in more than one split, and in which; empty where a split tests unseen scenes."""
    return _in_two_splits((row.content, row.split) for row in rows)


@dataclass(frozen=True)
class Leakage:
    """What a split lets a model know about the images that it is tested on.

    Attributes:
        test: test images.
        seen: test images whose content training or validation shows too.
        siblings: those of them that share its group as well; there even a predictor without eyes does well.
        contents: contents in all, 0 where the rows name none.
        contents_twice: contents in two splits.
        images_twice: images in two splits.
        references_twice: reference photos in two splits.
    """

    test: int
    seen: int
    siblings: int
    contents: int
    contents_twice: int
    images_twice: int
    references_twice: int

    def lines(self) -> list[str]:
        """The report: one line where nothing leaks."""
        if self.contents:
            lines = [f"{self.contents_twice} of {self.contents} contents stand in two splits"]
        else:
            lines = ["The rows name no contents: how many stand in two splits is unknown"]
        if self.seen:
            lines.append(
                f"{self.seen} of {self.test} test images show a scene that training saw, "
                f"{self.siblings} of them made by a method of the same group"
            )
        if self.references_twice:
            lines.append(f"{self.references_twice} references stand in two splits")
        if self.images_twice:
            lines.append(f"{self.images_twice} images stand in two splits: the test set is trained on")
        return lines


def leakage(rows: Sequence[Row]) -> Leakage:
    """Count what the splits of a manifest share."""
    seen = {row.content for row in rows if row.content and row.split in ("train", "val")}
    siblings = {(row.content, row.group) for row in rows if row.content and row.split in ("train", "val")}
    test = [row for row in rows if row.split == "test"]
    return Leakage(
        test=len(test),
        seen=sum(row.content in seen for row in test),
        siblings=sum((row.content, row.group) in siblings for row in test),
        contents=len({row.content for row in rows if row.content}),
        contents_twice=len(contents_in_two_splits(rows)),
        images_twice=len(_in_two_splits((row.image, row.split) for row in rows)),
        references_twice=len(_in_two_splits((row.reference, row.split) for row in rows)),
    )


def _in_two_splits(pairs: Iterable[tuple[str | None, str | None]]) -> dict[str, list[str]]:
    found: defaultdict[str, set[str]] = defaultdict(set)
    for name, split in pairs:
        if name is not None and split is not None:
            found[name].add(split)
    return {name: sorted(splits, key=SPLITS.index) for name, splits in found.items() if len(splits) > 1}


def _shares(train: float, val: float) -> dict[str, float]:
    # rounded, so that 0.7 + 0.3 leaves nothing and not 1e-17
    return dict(zip(SPLITS, (train, val, round(1 - train - val, 9)), strict=True))


def _cut(items: Sequence[T], train: float, val: float, rng: random.Random) -> dict[T, str]:
    shares = _shares(train, val)
    if train <= 0 or min(shares.values()) < 0:
        raise UserError(
            f"--train {train:g} --val {val:g}: shares must not be negative, sum to 1 at most, train above 0"
        )
    shuffled = rng.sample(items, len(items))
    first, second = round(len(items) * train), round(len(items) * (train + val))
    return {item: SPLITS[(i >= first) + (i >= second)] for i, item in enumerate(shuffled)}


def _folds(items: Sequence[T], count: int, val: float, rng: random.Random) -> list[dict[T, str]]:
    validated = round(len(items) * val)
    if not 2 <= count <= len(items):
        raise UserError(f"--folds {count} must be at least 2, and at most the {len(items)} there are to fold")
    if val < 0 or validated >= len(items) - -(-len(items) // count):
        raise UserError(f"--val {val:g} with --folds {count} must be 0 or more and leave some for training")
    shuffled = rng.sample(items, len(items))
    folds = []
    for fold in range(count):
        test = shuffled[fold::count]
        others = [item for i, item in enumerate(shuffled) if i % count != fold]
        chosen = set(rng.sample(others, validated))
        folds.append(
            {item: "val" if item in chosen else "train" for item in others} | dict.fromkeys(test, "test")
        )
    return folds


def _contents(rows: Sequence[Row]) -> list[str]:
    return sorted({_named(row, number, "content") for number, row in enumerate(rows, 1)})


def _by_method(rows: Sequence[Row]) -> list[list[int]]:
    """Indices of the rows of each method, methods sorted."""
    by_method: defaultdict[str, list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        by_method[_named(row, index + 1, "method")].append(index)
    return [by_method[method] for method in sorted(by_method)]


def _named(row: Row, number: int, column: str) -> str:
    value: str | None = getattr(row, column)
    if value is None:
        other = next(kind for kind in KINDS if kind != column)
        raise UserError(
            f"row {number} ({row.image}) has no {column}; fill it in, or split with --kind {other}"
        )
    return value
