"""Orders: everything is shown, at random, by the seed, and no scene follows itself."""

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harmonyiqa.errors import UserError
from harmonyiqa.rate.plan import Shown, pair_plan, rating_plan

IMAGES = list(range(1, 61))
SCENES = {image: f"scene{image % 12}" for image in IMAGES}
SEEDS = st.integers(0, 10_000)


def plan(**changes: object) -> list[Shown]:
    options = {"training": [70, 71], "golden": [80, 81, 82], "repeats": 6, "seed": 1, "rater": "r01"}
    return rating_plan(IMAGES, SCENES, **(options | changes))


@given(SEEDS)
@settings(max_examples=20)
def test_everything_is_shown_once_and_the_repeats_twice(seed: int) -> None:
    items = plan(seed=seed)
    kinds = Counter(item.kind for item in items)
    assert kinds == {"training": 2, "rating": 60, "repeat": 6, "golden": 3}
    assert sorted(item.image for item in items if item.kind == "rating") == IMAGES
    assert [item.image for item in items[:2]] == [70, 71], "training comes first, in its own order"
    assert {item.image for item in items if item.kind == "golden"} == {80, 81, 82}
    assert len({item.image for item in items if item.kind == "repeat"}) == 6


@given(SEEDS)
@settings(max_examples=20)
def test_a_repeat_comes_long_after_its_first_time(seed: int) -> None:
    items = plan(seed=seed)
    first = {item.image: place for place, item in enumerate(items) if item.kind == "rating"}
    assert all(place - first[item.image] > 15 for place, item in enumerate(items) if item.kind == "repeat")


@given(SEEDS)
@settings(max_examples=20)
def test_no_scene_follows_itself(seed: int) -> None:
    shown = [SCENES.get(item.image, item.image) for item in plan(seed=seed)]
    assert all(a != b for a, b in pairwise(shown))


def test_golden_images_are_spread() -> None:
    items = [item for item in plan(repeats=0) if item.kind != "training"]
    places = [place for place, item in enumerate(items) if item.kind == "golden"]
    assert places[0] <= 20 <= places[1] <= 40 < places[2]


def test_orders_differ_by_rater_and_seed_and_come_again() -> None:
    assert plan() == plan()
    assert plan() != plan(rater="r02")
    assert plan() != plan(seed=2)


def test_every_place_is_as_likely() -> None:
    places = [[item.image for item in plan(seed=seed, repeats=0, golden=[])].index(1) for seed in range(300)]
    assert 27 < sum(places) / len(places) < 36  # middle of 2..61 is 31.5, standard error 1


def test_one_scene_only_is_still_shown() -> None:
    items = rating_plan(
        [1, 2, 3], dict.fromkeys([1, 2, 3], "a"), training=[], golden=[], repeats=0, seed=0, rater="r"
    )
    assert sorted(item.image for item in items) == [1, 2, 3]


def test_too_many_repeats_are_refused() -> None:
    with pytest.raises(UserError, match=r"repeats 31 must lie in 0\.\.30 for 60 images"):
        plan(repeats=31)


@given(SEEDS)
@settings(max_examples=20)
def test_pairs_are_all_pairs_of_a_scene_on_random_sides(seed: int) -> None:
    items = pair_plan(IMAGES, SCENES, pairs=None, seed=seed, rater="r01")
    assert len(items) == len({frozenset((i.image, i.second)) for i in items}) == 12 * 10
    assert all(SCENES[item.image] == SCENES[item.second or 0] for item in items)
    assert 30 < sum(item.image < (item.second or 0) for item in items) < 90
    assert all(SCENES[a.image] != SCENES[b.image] for a, b in pairwise(items))


def test_a_share_of_the_pairs_differs_by_rater() -> None:
    one, two = (pair_plan(IMAGES, SCENES, pairs=20, seed=0, rater=rater) for rater in ("r01", "r02"))
    assert len(one) == 20
    assert {(i.image, i.second) for i in one} != {(i.image, i.second) for i in two}


def test_pairs_that_do_not_exist_are_refused() -> None:
    with pytest.raises(UserError, match="pairs 121: the manifest holds 120 pairs"):
        pair_plan(IMAGES, SCENES, pairs=121, seed=0, rater="r")
    with pytest.raises(UserError, match="holds 0 pairs"):
        pair_plan([1, 2], {1: "a", 2: "b"}, pairs=None, seed=0, rater="r")
