"""Small InternVL models from random weights: what the bundled model grows from, and what tests use."""

from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import InternVLConfig, InternVLForConditionalGeneration, PreTrainedTokenizerFast

from harmonyiqa.model.initial import start_from_differences
from harmonyiqa.model.inputs import IMAGE_TOKEN
from harmonyiqa.model.tower import StemInternVLConfig
from harmonyiqa.prompts import IMAGE, Prompt, load_prompt

_SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<img>", "</img>", IMAGE_TOKEN]


def make_tokenizer(prompt: Prompt) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer whose merges are the prompt's words: any text encodes, the prompt in few tokens.

    A digit is one token, with the blank before it if there is one, so that the token after the score slot is the
    score's first digit.
    """
    tokenizer = Tokenizer(models.BPE())
    words = pre_tokenizers.Split(Regex(r" ?\d| ?\w+|\s+|[^\s\w]"), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        special_tokens=_SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        vocab_size=2000,
        show_progress=False,
    )
    texts = [prompt.question(mode).replace(IMAGE, "") + prompt.answer for mode in ("nr", "fr")]
    tokenizer.train_from_iterator([*texts, *(f" {digit}" for digit in range(10))], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=_SPECIAL[0], eos_token=prompt.end, padding_side="left"
    )


def make_tiny_model(
    folder: str | Path,
    *,
    tile_size: int = 32,
    patch_size: int = 8,
    vision_width: int = 32,
    vision_layers: int = 2,
    llm_width: int = 32,
    llm_layers: int = 2,
    head_size: int = 16,
    downsample_ratio: float = 0.5,
    compare: bool = False,
    stem: bool = False,
    language_model: str = "qwen2",
    vocabulary: int = 0,
    prompt: str = "harmony_v1",
    seed: int = 0,
) -> Path:
    """Write a native InternVL checkpoint with random weights: InternViT, pixel shuffle, projector, LLM.

    Args:
        folder: where to write it.
        tile_size: side of a tile in pixels, a multiple of `patch_size / downsample_ratio`.
        patch_size: side of a vision patch in pixels.
        vision_width: size of the vision encoder's hidden state.
        vision_layers: its layers.
        llm_width: size of the LLM's hidden state.
        llm_layers: its layers.
        head_size: size of an attention head in both.
        downsample_ratio: of pixel shuffle; 1 leaves every patch a token of its own.
        compare: begin with weights that compare colours (`harmonyiqa.model.initial`); else all random.
        stem: a convolutional stem below the vision encoder (`harmonyiqa.model.tower`).
        language_model: its kind: qwen2, qwen3 or llama.
        vocabulary: tokens it has at least; those beyond the tokenizer's are never read.
        prompt: the prompt whose words make the vocabulary.
        seed: seeds the weights.
    """
    torch.manual_seed(seed)
    tokenizer = make_tokenizer(load_prompt(prompt))
    config = (StemInternVLConfig if stem else InternVLConfig)(
        vision_config={
            "hidden_size": vision_width,
            "num_hidden_layers": vision_layers,
            "num_attention_heads": vision_width // head_size,
            "intermediate_size": 4 * vision_width,
            "image_size": [tile_size, tile_size],
            "patch_size": [patch_size, patch_size],
            "attention_bias": True,
            # from scratch and shallow: 0.1, the value for 24 pretrained layers, starts far too quiet
            "layer_scale_init_value": 1.0,
            **({"stem_mix": 2} if stem else {}),
        },
        text_config={
            "model_type": language_model,
            "hidden_size": llm_width,
            "num_hidden_layers": llm_layers,
            "num_attention_heads": llm_width // head_size,
            "num_key_value_heads": llm_width // head_size // (1 if compare else 2),
            "intermediate_size": 3 * llm_width,
            "vocab_size": max(len(tokenizer), vocabulary),
            "max_position_embeddings": 4096,
            "tie_word_embeddings": True,
            "bos_token_id": None,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        image_token_id=tokenizer.convert_tokens_to_ids(IMAGE_TOKEN),
        image_seq_length=int(tile_size // patch_size * downsample_ratio) ** 2,
        downsample_ratio=downsample_ratio,
        tie_word_embeddings=True,
    )
    model = InternVLForConditionalGeneration(config)
    if compare:
        start_from_differences(model, _distance(tokenizer, load_prompt(prompt), config.image_seq_length))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Path(folder)


def _distance(tokenizer: PreTrainedTokenizerFast, prompt: Prompt, tokens: int) -> int:
    """Tokens from an image token of the reference to its twin in the image, in the full-reference question."""
    between = prompt.question("fr").split(IMAGE)[1]
    return tokens + len(tokenizer(f"</img>{between}<img>").input_ids)
