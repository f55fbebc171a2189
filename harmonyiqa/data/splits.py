"""Cut a manifest into train, val and test: by content, or per method as the paper does."""

import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
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
    contents = sorted({_named(row, number, "content") for number, row in enumerate(rows, 1)})
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
    by_method: defaultdict[str, list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        by_method[_named(row, index + 1, "method")].append(index)
    rng = random.Random(seed)
    splits: dict[int, str] = {}
    for method in sorted(by_method):
        splits |= _cut(by_method[method], train, val, rng)
    return [replace(row, split=splits[index]) for index, row in enumerate(rows)]


KINDS: dict[str, Callable[[Sequence[Row], float, float, int], list[Row]]] = {
    "content": split_by_content,
    "method": split_by_method,
}


def contents_in_two_splits(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Contents that stand in more than one split, and in which; empty where a split tests unseen scenes."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row.content is not None and row.split is not None:
            found[row.content].add(row.split)
    return {content: sorted(splits, key=SPLITS.index) for content, splits in found.items() if len(splits) > 1}


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


def _named(row: Row, number: int, column: str) -> str:
    value: str | None = getattr(row, column)
    if value is None:
        other = next(kind for kind in KINDS if kind != column)
        raise UserError(
            f"row {number} ({row.image}) has no {column}; fill it in, or split with --kind {other}"
        )
    return value
