"""Tokenizers made of OpenGVLab's files encode as the libraries that those files belong to."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harmonyiqa.errors import UserError
from harmonyiqa.model.backbone import load_backbone
from harmonyiqa.model.convert.stream import convert
from harmonyiqa.model.convert.tokenizer import load_tokenizer
from harmonyiqa.model.inputs import Inputs
from harmonyiqa.prompts import load_prompt

TEXTS = [
    "The quality score is 63.40",
    "  two  blanks, a\ttab\nand a line\n",
    "composite image: übermäßig 图像 🙂",
    "",
    "<s> written out",
]


@pytest.fixture(scope="module")
def internlm2(internlm2_files):
    return internlm2_files, load_tokenizer(internlm2_files, "llama", 900)


def test_internlm2_begins_once_and_keeps_its_ids(internlm2) -> None:
    folder, tokenizer = internlm2
    config = json.loads((folder / "tokenizer_config.json").read_text())
    ids = tokenizer("<|im_start|> quality<IMG_CONTEXT>").input_ids
    assert ids[0] == 1
    assert ids.count(1) == 1
    for id_, token in config["added_tokens_decoder"].items():
        assert tokenizer.convert_tokens_to_ids(token["content"]) == int(id_)
    assert tokenizer.convert_ids_to_tokens(ids[1:]) == ["<|im_start|>", "▁quality", "<IMG_CONTEXT>"]
    assert tokenizer("é", add_special_tokens=False).input_ids == [
        3 + 0xC3,
        3 + 0xA9,
    ]  # bytes, after three specials


@given(st.text(max_size=40))
def test_internlm2_round_trips_any_text(internlm2, text) -> None:
    ids = internlm2[1](text, add_special_tokens=False).input_ids
    if "<" not in text:
        assert internlm2[1].decode(ids) == text


@pytest.mark.parametrize("text", [*TEXTS[:4], load_prompt("harmony_v1").question("fr")])
def test_internlm2_encodes_as_sentencepiece(internlm2, text) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    folder, tokenizer = internlm2
    oracle = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    for part in text.replace("<|im_start|>", "<|im_end|>").split("<|im_end|>"):
        assert tokenizer(part, add_special_tokens=False).input_ids == oracle.encode(part)


def test_the_prompt_works_with_both_kinds_and_the_image_token_is_the_tokenizers(
    make_opengvlab, tmp_path
) -> None:
    for kind in ("InternLM2ForCausalLM", "Qwen2ForCausalLM"):
        folder = make_opengvlab(kind, name=kind)
        convert(folder, tmp_path / f"{kind}-native")
        loaded = load_backbone(tmp_path / f"{kind}-native", max_tiles=1, dtype=torch.float32)
        prompt = load_prompt("harmony_v1")
        inputs = Inputs(loaded.tokenizer, loaded.image_processor, prompt, 4)
        assert loaded.model.config.image_token_id == inputs.image_token_id
        added = json.loads((folder / "tokenizer_config.json").read_text())["added_tokens_decoder"]
        assert added[str(inputs.image_token_id)]["content"] == "<IMG_CONTEXT>"
        assert loaded.tokenizer.decode(inputs.answer) == prompt.answer


def test_missing_files_are_named_with_the_way_out(make_opengvlab, tmp_path) -> None:
    folder = make_opengvlab()
    (folder / "tokenizer.model").unlink()
    with pytest.raises(UserError, match=r"has no tokenizer\.model.*--tokenizer"):
        convert(folder, tmp_path / "native")
    other = make_opengvlab(name="other")
    assert convert(folder, tmp_path / "native", tokenizer=other).tensors
    folder = make_opengvlab("Qwen2ForCausalLM", name="qwen")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["added_tokens_decoder"] = {}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="has no token <img>"):
        convert(folder, tmp_path / "qwen-native")


def test_a_damaged_tokenizer_is_one_clear_line(make_opengvlab, tmp_path) -> None:
    folder = make_opengvlab()
    (folder / "tokenizer.model").write_bytes(b"\xff\xff\xff junk")
    with pytest.raises(UserError, match="cannot be read"):
        convert(folder, tmp_path / "native")
