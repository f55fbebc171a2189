"""Random checkpoints in OpenGVLab's own layout, with every structural feature of the large ones; their tokenizers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers.convert_slow_tokenizer import import_protobuf

from harmonyiqa.prompts import IMAGE, load_prompt

SPECIAL = ["<|im_start|>", "<|im_end|>", "<img>", "</img>", "<IMG_CONTEXT>"]
WIDTH, HEADS, LAYERS, MLP = 32, 2, 2, 48  # vision encoder
LLM_WIDTH, LLM_HEADS, KV_HEADS, LLM_MLP, VOCABULARY = 64, 4, 2, 80, 900

Make = Callable[..., Path]


def _config(llm: str, *, qk_norm: bool, bias: bool, tied: bool, scaled_rope: bool) -> dict[str, Any]:
    return {
        "architectures": ["InternVLChatModel"],
        "auto_map": {"AutoModel": "modeling_internvl_chat.InternVLChatModel"},
        "model_type": "internvl_chat",
        "downsample_ratio": 0.5,
        "force_image_size": 32,
        "max_dynamic_patch": 12,
        "ps_version": "v2",
        "select_layer": -1,
        "torch_dtype": "bfloat16",
        "llm_config": {
            "architectures": [llm],
            "vocab_size": VOCABULARY,
            "hidden_size": LLM_WIDTH,
            "intermediate_size": LLM_MLP,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": LLM_HEADS,
            "num_key_value_heads": KV_HEADS,
            "rms_norm_eps": 1e-5,
            "rope_theta": 5000.0,
            "rope_scaling": {"type": "dynamic", "factor": 2.0} if scaled_rope else None,
            "max_position_embeddings": 32,
            "hidden_act": "silu",
            "bias": bias,
            "tie_word_embeddings": tied,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 2,
        },
        "vision_config": {
            "architectures": ["InternVisionModel"],
            "hidden_size": WIDTH,
            "intermediate_size": MLP,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-6,
            "norm_type": "rms_norm" if qk_norm else "layer_norm",
            "qk_normalization": qk_norm,
            "qkv_bias": not qk_norm,
            "image_size": 32,
            "patch_size": 8,
        },
    }


def _vision_tensors(*, qk_norm: bool) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "vision_model.embeddings.class_embedding": (1, 1, WIDTH),
        "vision_model.embeddings.patch_embedding.weight": (WIDTH, 3, 8, 8),
        "vision_model.embeddings.patch_embedding.bias": (WIDTH,),
        "vision_model.embeddings.position_embedding": (1, 17, WIDTH),
        "mlp1.0.weight": (4 * WIDTH,),
        "mlp1.0.bias": (4 * WIDTH,),
        "mlp1.1.weight": (LLM_WIDTH, 4 * WIDTH),
        "mlp1.1.bias": (LLM_WIDTH,),
        "mlp1.3.weight": (LLM_WIDTH, LLM_WIDTH),
        "mlp1.3.bias": (LLM_WIDTH,),
    }
    for i in range(LAYERS):
        layer = f"vision_model.encoder.layers.{i}."
        shapes |= {layer + "ls1": (WIDTH,), layer + "ls2": (WIDTH,)}
        shapes |= {layer + "attn.qkv.weight": (3 * WIDTH, WIDTH)}
        shapes |= {layer + "attn.proj.weight": (WIDTH, WIDTH), layer + "attn.proj.bias": (WIDTH,)}
        shapes |= {layer + "mlp.fc1.weight": (MLP, WIDTH), layer + "mlp.fc1.bias": (MLP,)}
        shapes |= {layer + "mlp.fc2.weight": (WIDTH, MLP), layer + "mlp.fc2.bias": (WIDTH,)}
        shapes |= {layer + "norm1.weight": (WIDTH,), layer + "norm2.weight": (WIDTH,)}
        if qk_norm:
            shapes |= {layer + "attn.q_norm.weight": (WIDTH,), layer + "attn.k_norm.weight": (WIDTH,)}
        else:
            shapes |= {layer + "attn.qkv.bias": (3 * WIDTH,)}
            shapes |= {layer + "norm1.bias": (WIDTH,), layer + "norm2.bias": (WIDTH,)}
    return shapes


def _internlm2_tensors(*, bias: bool, tied: bool) -> dict[str, tuple[int, ...]]:
    size = LLM_WIDTH // LLM_HEADS
    rows = (LLM_HEADS + 2 * KV_HEADS) * size
    shapes: dict[str, tuple[int, ...]] = {
        "language_model.model.tok_embeddings.weight": (VOCABULARY, LLM_WIDTH),
        "language_model.model.norm.weight": (LLM_WIDTH,),
    }
    if not tied:
        shapes["language_model.output.weight"] = (VOCABULARY, LLM_WIDTH)
    for i in range(LAYERS):
        layer = f"language_model.model.layers.{i}."
        shapes |= {layer + "attention.wqkv.weight": (rows, LLM_WIDTH)}
        shapes |= {layer + "attention.wo.weight": (LLM_WIDTH, LLM_WIDTH)}
        if bias:
            shapes |= {layer + "attention.wqkv.bias": (rows,), layer + "attention.wo.bias": (LLM_WIDTH,)}
        shapes |= {layer + f"feed_forward.{w}.weight": (LLM_MLP, LLM_WIDTH) for w in ("w1", "w3")}
        shapes |= {layer + "feed_forward.w2.weight": (LLM_WIDTH, LLM_MLP)}
        shapes |= {layer + f"{norm}.weight": (LLM_WIDTH,) for norm in ("attention_norm", "ffn_norm")}
    return shapes


def _qwen_tensors(*, tied: bool, qwen3: bool) -> dict[str, tuple[int, ...]]:
    size = LLM_WIDTH // LLM_HEADS
    shapes: dict[str, tuple[int, ...]] = {
        "language_model.model.embed_tokens.weight": (VOCABULARY, LLM_WIDTH),
        "language_model.model.norm.weight": (LLM_WIDTH,),
    }
    if not tied:
        shapes["language_model.lm_head.weight"] = (VOCABULARY, LLM_WIDTH)
    for i in range(LAYERS):
        layer = f"language_model.model.layers.{i}."
        for name, heads in (("q", LLM_HEADS), ("k", KV_HEADS), ("v", KV_HEADS)):
            shapes[layer + f"self_attn.{name}_proj.weight"] = (heads * size, LLM_WIDTH)
            if not qwen3:
                shapes[layer + f"self_attn.{name}_proj.bias"] = (heads * size,)
        if qwen3:
            shapes |= {layer + f"self_attn.{name}_norm.weight": (size,) for name in "qk"}
        shapes[layer + "self_attn.o_proj.weight"] = (LLM_WIDTH, LLM_WIDTH)
        shapes |= {layer + f"mlp.{w}_proj.weight": (LLM_MLP, LLM_WIDTH) for w in ("gate", "up")}
        shapes[layer + "mlp.down_proj.weight"] = (LLM_WIDTH, LLM_MLP)
        shapes |= {
            layer + f"{norm}.weight": (LLM_WIDTH,) for norm in ("input_layernorm", "post_attention_layernorm")
        }
    return shapes


def _random(shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    tensors = {n: torch.randn(s, generator=generator) * 0.2 for n, s in sorted(shapes.items())}
    for name, tensor in tensors.items():
        if "norm" in name and name.endswith("weight"):
            tensor.add_(1)
    return tensors


def write_checkpoint(
    folder: Path, config: dict[str, Any], tensors: dict[str, torch.Tensor], shards: int
) -> None:
    """As OpenGVLab lays one out: `config.json`, shards and their index."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    names = sorted(tensors)
    if shards == 1:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return
    weight_map = {}
    for i in range(shards):
        file = f"model-{i + 1:05}-of-{shards:05}.safetensors"
        part = {name: tensors[name] for name in names[i::shards]}
        save_file(part, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, file)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def write_sentencepiece(folder: Path) -> None:
    """A byte-pair model as InternLM2's: every word of the prompt is a chain of merges; bytes for all the rest."""
    proto = import_protobuf().ModelProto()
    proto.trainer_spec.model_type = 2
    proto.trainer_spec.byte_fallback = True
    proto.trainer_spec.unk_piece = "<unk>"
    proto.normalizer_spec.name = "identity"
    proto.normalizer_spec.add_dummy_prefix = False
    proto.normalizer_spec.remove_extra_whitespaces = False
    proto.normalizer_spec.escape_whitespaces = True
    pieces = [("<unk>", 2), ("<s>", 3), ("</s>", 3), *((f"<0x{i:02X}>", 6) for i in range(256))]
    prompt = load_prompt("harmony_v1")
    text = prompt.question("fr").replace(IMAGE, "") + prompt.answer + " 0123456789."
    for token in ("<|im_start|>", "<|im_end|>"):
        text = text.replace(token, " ")
    words = [word.replace(" ", "▁") for word in text.replace("\n", " ").replace(" ", "\n ").split("\n")]
    chains = [word[:end] for word in words for end in range(2, len(word) + 1)]
    letters = sorted(set("".join(words)))
    pieces += [(piece, 1) for piece in dict.fromkeys([*chains, *letters])]
    # the first two special tokens take the places of pieces that were kept free, the others follow
    pieces += [("[UNUSED_TOKEN_145]", 4), ("[UNUSED_TOKEN_146]", 4)]
    for number, (piece, kind) in enumerate(pieces):
        score = -float(number) if kind == 1 else 0.0
        proto.pieces.add(piece=piece, score=score, type=kind)
    assert len(pieces) + len(SPECIAL) <= VOCABULARY, len(pieces)
    (folder / "tokenizer.model").write_bytes(proto.SerializeToString())
    added = {str(len(pieces) - 2 + i): {"content": token, "special": True} for i, token in enumerate(SPECIAL)}
    config = {
        "tokenizer_class": "InternLM2Tokenizer",
        "auto_map": {"AutoTokenizer": ["tokenization_internlm2.InternLM2Tokenizer", None]},
        "bos_token": "<s>",
        "eos_token": "</s>",
        "pad_token": "</s>",
        "unk_token": "<unk>",
        "added_tokens_decoder": added,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "tokenization_internlm2.py").write_text("raise RuntimeError('remote code was run')\n")


def write_qwen_tokenizer(folder: Path) -> None:
    """`vocab.json`, `merges.txt` and added tokens, as Qwen2's repositories have them."""
    from tokenizers.pre_tokenizers import ByteLevel

    letters = sorted(ByteLevel.alphabet())
    vocabulary = {letter: i for i, letter in enumerate(letters)} | {"Ġs": 256, "co": 257}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\nĠ s\nc o\n", encoding="utf-8")
    added = {
        str(258 + i): {"content": token, "special": True}
        for i, token in enumerate(["<|endoftext|>", *SPECIAL])
    }
    config = {
        "tokenizer_class": "Qwen2Tokenizer",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "unk_token": None,
        "added_tokens_decoder": added,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


@pytest.fixture
def make_opengvlab(tmp_path: Path) -> Make:
    """A checkpoint of random weights; returns its folder."""

    def make(
        llm: str = "InternLM2ForCausalLM",
        *,
        qk_norm: bool = False,
        bias: bool = False,
        tied: bool = False,
        scaled_rope: bool = True,
        shards: int = 3,
        name: str = "opengvlab",
    ) -> Path:
        folder = tmp_path / name
        config = _config(llm, qk_norm=qk_norm, bias=bias, tied=tied, scaled_rope=scaled_rope)
        if llm == "InternLM2ForCausalLM":
            language = _internlm2_tensors(bias=bias, tied=tied)
        else:
            language = _qwen_tensors(tied=tied, qwen3=llm == "Qwen3ForCausalLM")
        write_checkpoint(folder, config, _random(_vision_tensors(qk_norm=qk_norm) | language), shards)
        (write_sentencepiece if llm == "InternLM2ForCausalLM" else write_qwen_tokenizer)(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def internlm2_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tokenizer files of an InternLM2 checkpoint alone."""
    folder = tmp_path_factory.mktemp("internlm2")
    write_sentencepiece(folder)
    return folder
