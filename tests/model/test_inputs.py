import pytest
import torch
from PIL import Image

from harmonyiqa import HarmonyIQA
from harmonyiqa.model.inputs import IGNORED
from harmonyiqa.prompts import load_prompt


@pytest.fixture(scope="module")
def inputs(tiny_scorer_folder):
    return HarmonyIQA.from_pretrained(tiny_scorer_folder).inputs


@pytest.fixture
def picture() -> Image.Image:
    return Image.new("RGB", (40, 30), (200, 30, 90))


def test_joined_ids_decode_to_the_sentence(inputs, picture) -> None:
    prompt = load_prompt("harmony_v1")
    batch = inputs.collate_sentences([inputs.prepare(picture)], [63.4])
    labels = batch["labels"][0]
    answer = inputs.tokenizer.decode(labels[labels != IGNORED])
    assert answer == "The quality score is 63.40<|im_end|>"
    assert prompt.parse_score(answer) == 63.4
    text = inputs.tokenizer.decode(batch["input_ids"][0])
    assert (
        text.replace("<IMG_CONTEXT>", "") == prompt.question("nr").replace("<image>", "<img></img>") + answer
    )


def test_the_slot_is_the_last_token_before_the_score(inputs, picture) -> None:
    batch = inputs.collate([inputs.prepare(picture)])
    assert inputs.tokenizer.decode(batch.input_ids[0, -4:]) == "The quality score is"


def test_the_first_score_token_holds_the_first_digit(inputs) -> None:
    assert inputs.tokenizer.convert_ids_to_tokens(inputs.tokenizer(" 63.40").input_ids)[0] == "Ġ6"


def test_image_tokens_match_the_tiles_in_both_modes(inputs, picture) -> None:
    for references in ((), (picture,)):
        example = inputs.prepare(picture, *references)
        assert (
            example.question.count(inputs.image_token_id)
            == len(example.pixel_values) * inputs.tokens_per_tile
        )
        assert len(example.pixel_values) == 1 + len(references)


def test_the_reference_comes_first(inputs, picture) -> None:
    black = Image.new("RGB", (8, 8))
    example = inputs.prepare(picture, black)
    assert torch.equal(example.pixel_values[0], inputs.prepare(black).pixel_values[0])
    assert torch.equal(example.pixel_values[1], inputs.prepare(picture).pixel_values[0])


def test_pixels_are_imagenet_normalised(inputs) -> None:
    white = inputs.prepare(Image.new("RGB", (9, 9), "white")).pixel_values[0].mean((1, 2))
    expected = [(1 - m) / s for m, s in zip((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)]
    assert white.tolist() == pytest.approx(expected, abs=1e-5)


def test_padding_is_on_the_left_and_masked(inputs, picture) -> None:
    batch = inputs.collate([inputs.prepare(picture), inputs.prepare(picture, picture)])
    short = batch.attention_mask[0]
    padding = int((short == 0).sum())
    assert padding > 0
    assert short[:padding].sum() == 0
    assert short[padding:].all()


def test_full_size_tiling_is_six_tiles_and_a_thumbnail() -> None:
    from harmonyiqa.model.backbone import image_processor

    tiles = image_processor(448, 6)(Image.new("RGB", (1344, 896)), return_tensors="pt")["pixel_values"]
    assert tiles.shape == (7, 3, 448, 448)


def test_mos_labels_stay_float32(inputs, picture) -> None:
    labels = inputs.collate_scores([inputs.prepare(picture)], [63.4])["labels"]
    assert labels.dtype == torch.float32
    assert labels.item() == pytest.approx(63.4, abs=1e-5)


def test_the_vocabulary_reads_any_text(inputs) -> None:
    for text in ("Größe 北京 \t 12.5%", "naïve <b>&amp;</b>"):
        assert inputs.tokenizer.decode(inputs.tokenizer(text).input_ids) == text
