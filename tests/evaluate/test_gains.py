"""What harmonizing gained, image by image."""

import numpy as np
import pytest

from harmonyiqa.evaluate.gains import gains
from harmonyiqa.evaluate.harmonization import Measured


def _pair(
    image: str, before: float, after: float, *, content: str | None = None, **options
) -> list[Measured]:
    return [
        Measured(image, method, "g", {"fmse": fmse, "score": score}, content=content, **options)
        for method, fmse, score in (("copy", before, 70.0), ("mkl", after, 70 + before / 10 - after / 10))
    ]


def test_the_share_is_of_sums_and_all_stands_last() -> None:
    rows = _pair("a", 100, 40, kinds=("source x",)) + _pair("b", 300, 320, kinds=("source y",))
    found = gains(rows)
    assert [each.subset for each in found] == ["source x", "source y", "All"]
    every = found[-1]
    assert (every.method, every.images) == ("mkl", 2)
    assert every.share.value == pytest.approx(360 / 400)
    assert every.nearer.value == 0.5
    assert every.score.value == pytest.approx((6 - 2) / 2)
    assert found[0].share.value == pytest.approx(0.4)
    assert found[0].share.low is None  # one scene has no interval


def test_whole_scenes_are_drawn() -> None:
    """Copies of one scene tell no more than the scene; as scenes of their own they would."""
    random = np.random.default_rng(0)
    before, after = random.uniform(50, 150, 12), random.uniform(20, 160, 12)
    numbers = list(enumerate(zip(before, after, strict=True)))

    def width(name) -> float:
        rows = [
            each
            for copy in range(9)
            for i, (b, a) in numbers
            for each in _pair(f"{i}_{copy}", b, a, content=name(i, copy))
        ]
        share = gains(rows)[-1].share
        assert share.low < share.value < share.high
        return share.high - share.low

    assert width(lambda i, copy: f"{i}") == pytest.approx(3 * width(lambda i, copy: f"{i}_{copy}"), rel=0.15)


def test_what_lacks_its_composite_or_failed_is_left_out() -> None:
    rows = [
        *_pair("a", 100, 50),
        Measured("b", "mkl", "g", {"fmse": 9.0}),
        Measured("c", "copy", "g", {}, "the mask is empty"),
        Measured("c", "mkl", "g", {}, "the mask is empty"),
    ]
    (found,) = gains(rows)
    assert found.images == 1
    assert gains([row for row in rows if row.method != "copy"]) == []


def test_composites_that_are_perfect_have_no_share() -> None:
    (found,) = gains(_pair("a", 0, 0) + _pair("b", 0, 0))
    assert found.share is None
    assert found.nearer.value == 0


def test_scores_alone_will_do() -> None:
    rows = [Measured("a", "copy", "g", {"score": 60.0}), Measured("a", "mkl", "g", {"score": 64.0})]
    (found,) = gains(rows)
    assert (found.share, found.nearer) == (None, None)
    assert found.score.value == 4
