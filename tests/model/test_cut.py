"""Cutting into tiles equals the library's image processor, bit by bit."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from harmonyiqa import HarmonyIQA
from harmonyiqa.model.backbone import image_processor
from harmonyiqa.model.inputs import Inputs


@pytest.fixture(scope="module")
def by_tiles(tiny_scorer_folder) -> dict[int, Inputs]:
    given = HarmonyIQA.from_pretrained(tiny_scorer_folder).inputs
    return {
        most: Inputs(given.tokenizer, image_processor(32, most), given.prompt, given.tokens_per_tile)
        for most in (1, 2, 6)
    }


@settings(max_examples=40)
@given(st.integers(1, 150), st.integers(1, 150), st.sampled_from([1, 2, 6]))
def test_equals_the_image_processor(by_tiles, width: int, height: int, most: int) -> None:
    inputs = by_tiles[most]
    pixels = np.random.default_rng(width * height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    expected = inputs.image_processor(picture, return_tensors="pt")["pixel_values"]
    assert torch.equal(inputs.cut(picture), expected)
    assert inputs.count_tiles(width, height) == len(expected)


def test_full_size_counts_the_thumbnail(by_tiles) -> None:
    given = by_tiles[1]
    inputs = Inputs(given.tokenizer, image_processor(448, 6), given.prompt, given.tokens_per_tile)
    assert [inputs.count_tiles(*size) for size in ((1344, 896), (896, 1344), (448, 448))] == [7, 7, 1]
