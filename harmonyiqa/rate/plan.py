"""Who sees what, and in which order: every rater has an own random order that the seed gives again."""

import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Literal

from harmonyiqa.errors import UserError

Kind = Literal["training", "rating", "repeat", "golden"]
_TRIES = 50  # places tried for an item whose neighbours must show other scenes


@dataclass(frozen=True, slots=True)
class Shown:
    """What is shown once to a rater.

    Attributes:
        image: number of the image; in pair mode, of the one on the left.
        second: pair mode: the one on the right.
        kind: why it is shown: to practise, to be rated, a second time, or with a known answer.
    """

    image: int
    kind: Kind
    second: int | None = None


def rating_plan(
    images: Sequence[int],
    scenes: dict[int, str],
    *,
    training: Sequence[int],
    golden: Sequence[int],
    repeats: int,
    seed: int,
    rater: str,
) -> list[Shown]:
    """One rater's sequence: training in its own order, then everything else at random.

    No scene follows itself where that can be avoided (BT.500-13: the same picture never on two successive
    occasions). A repeated image is one of the first half, and comes again at least a quarter of the sequence
    later; golden images are spread evenly.

    Args:
        images: numbers of the images to be rated.
        scenes: number -> what it shows; numbers that are not in it stand for a scene of their own.
        training: numbers shown first.
        golden: numbers with a known answer.
        repeats: how many images are shown a second time, drawn anew for each rater.
        seed: of the study.
        rater: name; with the seed it fixes the order.

    Raises:
        UserError: if more than half of the images should be repeated.
    """
    rng = random.Random(f"{seed}/{rater}")
    gap = len(images) // 4
    if not 0 <= repeats <= len(images) // 2:
        raise UserError(f"repeats {repeats} must lie in 0..{len(images) // 2} for {len(images)} images")

    def scene(item: Shown) -> str:
        return scenes.get(item.image, f"#{item.image}")

    items = _shuffled([Shown(image, "rating") for image in images], scene, rng)
    for item in rng.sample(items[: len(images) // 2], repeats):
        again = Shown(item.image, "repeat")
        _insert(items, again, items.index(item) + gap + 1, len(items), scene, rng)
    for index, image in enumerate(rng.sample(golden, len(golden))):
        start = index * len(items) // len(golden)
        stop = (index + 1) * len(items) // len(golden)
        _insert(items, Shown(image, "golden"), start, stop, scene, rng)
    return [*(Shown(image, "training") for image in training), *items]


def pair_plan(
    images: Sequence[int],
    scenes: dict[int, str],
    *,
    pairs: int | None,
    seed: int,
    rater: str,
) -> list[Shown]:
    """One rater's pairs: two images of one scene, left and right at random, no scene twice in a row.

    Args:
        images: numbers of the images.
        scenes: number -> what it shows.
        pairs: how many pairs a rater sees, drawn anew for each rater; None: all of them.
        seed: of the study.
        rater: name; with the seed it fixes pairs, sides and order.

    Raises:
        UserError: if no scene has two images, or there are fewer pairs than asked for.
    """
    rng = random.Random(f"{seed}/{rater}")
    by_scene: defaultdict[str, list[int]] = defaultdict(list)
    for image in images:
        by_scene[scenes[image]].append(image)
    every = [pair for members in by_scene.values() for pair in combinations(members, 2)]
    if not every or not 1 <= (pairs or 1) <= len(every):
        raise UserError(
            f"{'pairs' if pairs is None else f'pairs {pairs}'}: the manifest holds {len(every)} pairs of "
            "images with one content; name contents that have two images or more, or ask for fewer pairs"
        )
    chosen = rng.sample(every, pairs or len(every))
    sided = [pair if rng.random() < 0.5 else pair[::-1] for pair in chosen]
    items = [Shown(left, "rating", right) for left, right in sided]
    return _shuffled(items, lambda item: scenes[item.image], rng)


def _shuffled(items: list[Shown], scene: Callable[[Shown], str], rng: random.Random) -> list[Shown]:
    """Random order; an item beside its own scene is put elsewhere where possible."""
    rng.shuffle(items)
    for _ in range(len(items)):
        pairs = enumerate(pairwise(items))
        beside = next((i for i, (first, second) in pairs if scene(first) == scene(second)), None)
        if beside is None:
            break
        _insert(items, items.pop(beside), 0, len(items) - 1, scene, rng)
    return items


def _insert(
    items: list[Shown],
    item: Shown,
    start: int,
    stop: int,
    scene: Callable[[Shown], str],
    rng: random.Random,
) -> None:
    """Put ``item`` at a random place in start..stop, not beside its own scene if a try finds such a place."""
    for _ in range(_TRIES):
        place = rng.randint(start, stop)
        beside = items[max(place - 1, 0) : place + 1]
        if all(scene(other) != scene(item) for other in beside):
            break
    items.insert(place, item)
