"""No image is lost or doubled, calls hold what belongs together, and memory that runs out costs time only."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from harmonyiqa import HarmonyIQA
from harmonyiqa.model.backbone import image_processor
from harmonyiqa.model.inputs import Inputs
from harmonyiqa.scoring.forward import Forward
from harmonyiqa.scoring.plan import (
    CPU_TOKENS,
    MOST_TOKENS,
    Shape,
    TokenBudget,
    find_budget,
    fitting_tokens,
    plan,
    shape_of,
    shapes,
    tokens,
)


@pytest.fixture(scope="module")
def inputs(tiny_scorer_folder: Path) -> Inputs:
    given = HarmonyIQA.from_pretrained(tiny_scorer_folder).inputs
    return Inputs(given.tokenizer, image_processor(32, 6), given.prompt, given.tokens_per_tile)


images = st.integers(1, 7)
windows = st.lists(
    st.builds(Shape, images)
    | st.builds(lambda tiles, name: Shape(tiles, name % 7 + 1, name), images, st.integers(0, 5))
    | st.builds(Shape, images, images),
    max_size=60,
)


@given(windows, st.integers(1, 2000))
def test_every_image_once_and_alike_within_the_budget(
    inputs: Inputs, window: list[Shape], budget: int
) -> None:
    calls = plan(inputs, window, budget)
    assert sorted(index for call in calls for index in call) == list(range(len(window)))
    for call in calls:
        rows = [window[index] for index in call]
        assert len({(row.tiles, row.reference_tiles) for row in rows}) == 1
        assert len(call) == 1 or tokens(inputs, rows) <= budget
    assert calls == plan(inputs, window, budget)


@given(windows)
def test_images_of_one_reference_share_a_call_if_they_fit(inputs: Inputs, window: list[Shape]) -> None:
    calls = plan(inputs, window, 10**6)
    assert len(calls) == len({(shape.tiles, shape.reference_tiles) for shape in window})
    for call in calls:
        names = [window[index].reference for index in call if window[index].reference is not None]
        runs = 1 + sum(a != b for a, b in pairwise(names)) if names else 0
        assert runs == len(set(names))


def test_a_whole_reference_moves_on_rather_than_being_cut(inputs: Inputs) -> None:
    window = [Shape(1, 1, name) for name in "abcabcabc"]
    three = tokens(inputs, window[::3])
    assert plan(inputs, window, three) == [[0, 3, 6], [1, 4, 7], [2, 5, 8]]
    assert plan(inputs, window, 2 * three - 1) == [[0, 3, 6], [1, 4, 7], [2, 5, 8]]
    assert plan(inputs, window, 2 * three) == [[0, 3, 6, 1, 4, 7], [2, 5, 8]]
    assert plan(inputs, window, three - 1) == [[0, 3], [6], [1, 4], [7], [2, 5], [8]]


def test_tokens_are_those_of_the_model(inputs: Inputs) -> None:
    picture, reference = Image.new("RGB", (64, 32)), Image.new("RGB", (96, 64))
    for other in (None, reference):
        example = inputs.prepare(picture, other)
        shape = Shape(3) if other is None else Shape(3, 7)
        assert shape_of(example) == shape
        assert tokens(inputs, [shape]) == len(example.question) + len(inputs.answer)
    shared = [Shape(3, 7, "a")] * 9
    alone = tokens(inputs, shared[:1])
    assert tokens(inputs, shared) == 9 * alone - 8 * 7 * inputs.tokens_per_tile


def test_headers_give_the_tiles_that_decoding_gives(inputs: Inputs, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    Image.new("RGB", (96, 32)).save(tmp_path / "wide.png")
    Image.new("RGB", (160, 32)).save(tmp_path / "turned.jpg", exif=exif)
    Image.new("RGB", (30, 30)).save(tmp_path / "small.webp")
    (tmp_path / "broken.png").write_text("text")
    wide, turned, small, broken = (
        tmp_path / name for name in ("wide.png", "turned.jpg", "small.webp", "broken.png")
    )
    pairs = [(wide, None), (turned, wide), (small, broken), (tmp_path / "gone.png", None)]
    assert shapes(inputs, pairs) == [
        Shape(4),
        Shape(inputs.count_tiles(32, 160), 4, wide),
        Shape(1, 1, broken),
        Shape(1),
    ]
    assert shapes(inputs, [(wide, None)], max_pixels=10) == [Shape(1)]


def test_a_model_of_one_tile_reads_no_header(tiny_scorer_folder: Path) -> None:
    inputs = HarmonyIQA.from_pretrained(tiny_scorer_folder).inputs
    assert shapes(inputs, [(Path("gone.png"), Path("away.png"))]) == [Shape(1, 1, Path("away.png"))]


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 10**5))
def test_memory_that_runs_out_loses_no_image(rows: int, fitting: int, budget: int) -> None:
    released = []
    tried = []

    def score(part: Sequence[int]) -> list[float]:
        tried.append(len(part))
        if len(part) > fitting:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return [float(row) for row in part]

    limit = TokenBudget(budget, lambda: released.append(1))
    assert limit.run(list(range(rows)), 100 * rows, score) == list(range(rows))
    failures = sum(size > fitting for size in tried)
    assert len(released) == failures
    assert limit.tokens <= budget / 2**failures or limit.tokens == 1
    tried.clear()
    again = limit.run(list(range(rows)), 100 * rows, score)
    assert again == list(range(rows))
    if failures:  # learned: what failed is not tried again
        assert max(tried) <= max(1, -(-rows // 2))


def test_an_image_that_does_not_fit_alone_has_its_reason_and_the_others_their_scores() -> None:
    def score(part: Sequence[str]) -> list[float]:
        if "huge" in part:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried")
        return [50.0] * len(part)

    small, huge, other = TokenBudget(1000).run(["small", "huge", "other"], 900, score)
    assert (small, other) == (50.0, 50.0)
    assert str(huge).startswith("not enough memory for this image alone (")
    assert "can't allocate memory" in str(huge)


def test_other_failures_are_not_taken_for_memory() -> None:
    def score(part: Sequence[str]) -> list[float]:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        TokenBudget(1000).run(["a", "b"], 10, score)


def test_a_budget_that_fits() -> None:
    assert fitting_tokens(bytes_per_token=2**20, free=2**30) == 512  # 60% of 1,024
    assert fitting_tokens(bytes_per_token=1, free=2**40) == MOST_TOKENS
    assert fitting_tokens(bytes_per_token=2**30, free=1) == 1


def test_a_cpu_needs_no_trial(scorer: HarmonyIQA) -> None:
    assert find_budget(Forward(scorer), scorer) == CPU_TOKENS


@pytest.mark.gpu
def test_the_budget_of_a_gpu_fits_into_it(tiny_scorer_folder: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    model = HarmonyIQA.from_pretrained(tiny_scorer_folder, device="cuda")
    forward = Forward(model)
    budget = find_budget(forward, model)
    example = model.prepare(Image.new("RGB", (32, 32)))
    rows = budget // (len(example.question) + len(model.inputs.answer))
    assert rows >= 1
    assert forward.score([example] * rows).isfinite().all()
