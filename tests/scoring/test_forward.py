"""Shared computing changes no score: every way of batching gives what the plain path gives."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from harmonyiqa import HarmonyIQA
from harmonyiqa.config import StartSettings, TrainableSettings
from harmonyiqa.errors import UserError
from harmonyiqa.model.inputs import Example
from harmonyiqa.model.storage import start
from harmonyiqa.model.tiny import make_tiny_model
from harmonyiqa.prompts import load_prompt
from harmonyiqa.scoring.forward import Forward

SHAPES = [(32, 32), (64, 32), (32, 96), (64, 64)]  # 1, 2, 3 and 4 tiles; a thumbnail where there are several


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., HarmonyIQA]:
    """Small random scorers with room for four tiles."""

    def make(**settings: object) -> HarmonyIQA:
        folder = tmp_path_factory.mktemp("model")
        name = settings.setdefault("prompt", "harmony_v1")
        make_tiny_model(folder, **settings)
        torch.manual_seed(1)
        start_settings = StartSettings(str(folder), prompt=str(name), max_tiles=4)
        model = start(start_settings, TrainableSettings("full", "full"), stage=2).eval()
        model.settings.mos_mean, model.settings.mos_std = 49.88, 13.11  # those of HarmonyIQAD
        return model

    return make


@pytest.fixture(scope="module")
def models(build, tmp_path_factory: pytest.TempPathFactory) -> dict[str, HarmonyIQA]:
    path = tmp_path_factory.mktemp("prompt") / "bare.yaml"
    prompt = load_prompt("harmony_v1")
    replace(
        prompt, text={"nr": "<image>", "fr": "<image><image>How does the second look, beside the first?"}
    ).save(path)
    return {
        "qwen2": build(),
        "llama": build(language_model="llama", seed=2),
        "qwen3": build(language_model="qwen3", seed=3),
        "stem": build(stem=True, seed=4),
        "bare prompt": build(prompt=str(path), seed=5),
    }


def picture(seed: int, size: tuple[int, int] = (32, 32)) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (3, 3, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def plain(model: HarmonyIQA, examples: list[Example]) -> list[float]:
    return [model.predict(model.collate([example])).item() for example in examples]


rows = st.tuples(
    st.integers(0, 3), st.integers(0, 3), st.none() | st.integers(0, 3)
)  # seed, shape, reference


@settings(max_examples=40)
@given(
    st.sampled_from(["qwen2", "llama", "qwen3", "stem", "bare prompt"]),
    st.lists(rows, min_size=1, max_size=8),
    st.booleans(),
    st.sampled_from([0, 10_000, 2**20]),
)
def test_equals_the_plain_path(models, name: str, asked: list, reuse: bool, kept_bytes: int) -> None:
    model = models[name]
    forward = Forward(model, reuse=reuse, reference_bytes=kept_bytes, image_bytes=kept_bytes)
    examples = []
    for seed, shape, reference in asked:
        other = None if reference is None else picture(reference, SHAPES[reference])
        examples.append(model.prepare(picture(seed, SHAPES[shape]), other))
    references = [None if reference is None else (reference, reference) for _, _, reference in asked]
    images = [(seed, shape) for seed, shape, _ in asked]
    expected = plain(model, examples)
    assert forward.score(examples, references, images).tolist() == pytest.approx(expected, abs=1e-5)
    again = forward.score(examples[::-1], references[::-1], images[::-1])  # now from what was kept
    assert again.tolist() == pytest.approx(expected[::-1], abs=1e-5)
    assert forward.score(examples).tolist() == pytest.approx(expected, abs=1e-5)  # nothing known to be equal


def test_scores_tell_images_and_references_apart(models) -> None:
    """Or equality would say little."""
    model = models["qwen2"]
    examples = [model.prepare(picture(i), picture(r)) for i in range(3) for r in range(3)]
    scores = Forward(model).score(examples, [r for _ in range(3) for r in range(3)]).tolist()
    assert len({round(score, 3) for score in scores}) == 9


def test_a_reference_is_seen_once_for_all_its_images(models, monkeypatch: pytest.MonkeyPatch) -> None:
    model = models["qwen2"]
    seen = []
    see = model.backbone.model.get_image_features
    monkeypatch.setattr(
        model.backbone.model,
        "get_image_features",
        lambda pixels, **settings: seen.append(len(pixels)) or see(pixels, **settings),
    )
    examples = [model.prepare(picture(i), picture(9, (64, 32))) for i in range(5)]
    forward = Forward(model)
    forward.score(examples[:3], ["a"] * 3)
    assert seen == [3, 3]  # the reference's two tiles and thumbnail, then three images
    forward.score(examples[3:], ["a"] * 2)
    assert seen == [3, 3, 2]
    forward.score(examples[3:], [None, None])
    assert seen == [3, 3, 2, 6, 2]
    Forward(model, reuse=False).score(examples, ["a"] * 5)
    assert seen[-1] == 20


def test_an_image_that_comes_again_is_not_looked_at_again(models, monkeypatch: pytest.MonkeyPatch) -> None:
    model = models["qwen2"]
    forward = Forward(model, image_bytes=2**20)
    example = model.prepare(picture(0))
    expected = plain(model, [example]) * 2
    assert forward.score([example, example], images=["a", "a"]).tolist() == pytest.approx(expected, abs=1e-5)
    monkeypatch.setattr(model.backbone.model, "get_image_features", None)
    assert forward.score([example], images=["a"]).tolist() == pytest.approx(expected[:1], abs=1e-5)
    forward.clear()
    with pytest.raises(TypeError, match="not callable"):
        forward.score([example], images=["a"])


@given(
    st.lists(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2)), min_size=1, max_size=4), max_size=4),
)
@settings(max_examples=15)
def test_a_call_does_not_show_what_was_scored_before_it(models, calls: list) -> None:
    """To the last bit: so a run that goes on after a stop writes what one without a stop would have written."""
    model = models["llama"]
    used = Forward(model)
    for asked in calls:
        call = [model.prepare(picture(seed), picture(reference)) for seed, reference in asked]
        names = [reference for _, reference in asked], [seed for seed, _ in asked]
        assert torch.equal(used.score(call, *names), Forward(model).score(call, *names))


def test_memory_stays_within_its_bounds(models) -> None:
    model = models["qwen2"]
    features = 4 * 32 * 4  # image tokens x width x bytes
    forward = Forward(model, reference_bytes=100_000, image_bytes=3 * features)
    for seed in range(10):
        forward.score([model.prepare(picture(seed), picture(seed))], [seed], [seed])
    assert forward._features.currsize == 3 * features
    assert 50_000 < forward._begun.currsize <= 100_000
    storages = [next(iter(forward._features.values())).untyped_storage()]
    storages += [part.untyped_storage() for layer in next(iter(forward._begun.values())) for part in layer]
    assert storages[0].nbytes() == features  # no view of its batch
    one = sum(storage.nbytes() for storage in storages[1:])
    assert one * len(forward._begun) == forward._begun.currsize


@pytest.mark.parametrize("name", ["llama", "stem"])
def test_the_model_itself_is_left_as_it_was(models, name: str) -> None:
    model = models[name]
    example = model.prepare(picture(0), picture(1))
    batch = model.collate([example])
    before = model.backbone(**vars(batch)).logits
    Forward(model).score([example])
    assert torch.equal(model.backbone(**vars(batch)).logits, before)
    assert len(before[0]) == len(batch.input_ids[0])
    assert all(weight.is_contiguous() for weight in model.parameters())  # or it could not be saved


def test_rope_that_grows_with_the_question_is_not_shared_beyond_the_trained_length(build) -> None:
    """Its base follows the longest position, so a beginning by itself would get other keys (InternLM2: dynamic NTK)."""
    model = build(language_model="llama")
    text = model.backbone.config.text_config
    text.rope_parameters = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    text.max_position_embeddings = 120
    language = model.backbone.model.language_model
    language.rotary_emb = type(language.rotary_emb)(text)
    short, long = model.prepare(picture(0)), model.prepare(picture(0, (64, 64)), picture(1, (64, 64)))
    answer = len(model.inputs.answer)
    assert len(short.question) + answer <= 120 < len(long.question) + answer
    assert Forward(model).score([short, long]).tolist() == pytest.approx(
        plain(model, [short, long]), abs=1e-5
    )


def test_adapters_are_heeded(tiny_checkpoint: Path) -> None:
    model = start(StartSettings(str(tiny_checkpoint)), TrainableSettings("lora", "lora"), stage=2).eval()
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.2)
    examples = [model.prepare(picture(i), picture(7)) for i in range(3)]
    assert Forward(model).score(examples, ["a"] * 3).tolist() == pytest.approx(
        plain(model, examples), abs=1e-5
    )


def test_without_a_head_there_is_no_score(models, tiny_checkpoint: Path) -> None:
    model = start(StartSettings(str(tiny_checkpoint)), TrainableSettings("full", "full"), stage=1)
    with pytest.raises(UserError, match="has no score head"):
        Forward(model).score([model.prepare(picture(0))])


def test_no_examples_have_no_scores(models) -> None:
    assert Forward(models["qwen2"]).score([]).shape == (0,)
