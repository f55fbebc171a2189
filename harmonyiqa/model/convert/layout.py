"""OpenGVLab's own checkpoint layout (InternVL2, 2.5, 3, 3.5) in transformers' terms: settings, and each tensor's place.

Everything here is names and shapes; no weight is read. Facts: the modelling files that ship with those checkpoints
(`modeling_internvl_chat.py`, `modeling_intern_vit.py`, `modeling_internlm2.py`).
"""

import re
from dataclasses import dataclass
from typing import Any

import torch
from transformers import InternVLConfig, InternVLForConditionalGeneration

from harmonyiqa.errors import UserError

# the LLM's class in OpenGVLab's config -> the model type in transformers that computes the same
LLM_KINDS = {"InternLM2ForCausalLM": "llama", "Qwen2ForCausalLM": "qwen2", "Qwen3ForCausalLM": "qwen3"}
_LLM_NEEDS = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "rms_norm_eps",
    "rope_theta",
    "max_position_embeddings",
)
_LLM_MAY_HAVE = ("hidden_act", "initializer_range", "attention_dropout", "head_dim", "attention_bias")
_LLM_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")
_VISION_NEEDS = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "layer_norm_eps",
    "norm_type",
)


@dataclass(frozen=True)
class Layout:
    """A checkpoint's settings in both languages.

    Attributes:
        config: transformers' settings; its image token is set later, from the tokenizer.
        llm: "llama" (made of InternLM2), "qwen2" or "qwen3".
        max_tiles: tiles an image at most, as the checkpoint's own preprocessing has it.
    """

    config: InternVLConfig
    llm: str
    max_tiles: int


def read_layout(values: dict[str, Any], name: str) -> Layout:
    """Translate an OpenGVLab `config.json`.

    Args:
        values: the file's content.
        name: the checkpoint, for messages.

    Raises:
        UserError: it is another kind of model, of a family that is not converted, or a setting is missing.
    """
    if values.get("model_type") == "internvl":
        raise UserError(f"{name} is in transformers' own layout already: use it as it is")
    if values.get("model_type") != "internvl_chat":
        raise UserError(f"{name} is a {values.get('model_type')!r} model, not OpenGVLab's 'internvl_chat'")
    llm, vision = (_section(values, key, name) for key in ("llm_config", "vision_config"))
    kind = (llm.get("architectures") or ["unnamed"])[0]
    if kind not in LLM_KINDS:
        raise UserError(
            f"{name}: its language model is {kind}, which is not converted; convertible: {', '.join(LLM_KINDS)}"
        )
    for key, wanted in (("ps_version", "v2"), ("select_layer", -1), ("pad2square", False)):
        if values.get(key, wanted) != wanted:
            raise UserError(
                f"{name}: {key} is {values[key]!r}; transformers' InternVL computes {wanted!r} only"
            )
    size, forced = vision.get("image_size"), values.get("force_image_size") or vision.get("image_size")
    if size != forced:
        raise UserError(
            f"{name}: force_image_size {forced} differs from the vision encoder's image_size {size}"
        )
    tied = bool(llm.get("tie_word_embeddings", False))
    config = InternVLConfig(
        vision_config=_vision(vision, name),
        text_config=_text(llm, LLM_KINDS[kind], name),
        downsample_ratio=values.get("downsample_ratio", 0.5),
        tie_word_embeddings=tied,  # transformers' default is True
        architectures=[InternVLForConditionalGeneration.__name__],
        dtype=values.get("torch_dtype") or values.get("dtype"),
    )
    side = config.vision_config.image_size[0] // config.vision_config.patch_size[0]
    config.image_seq_length = int((side * config.downsample_ratio) ** 2)
    return Layout(config, LLM_KINDS[kind], int(values.get("max_dynamic_patch") or 1))


def _section(values: dict[str, Any], key: str, name: str) -> dict[str, Any]:
    if not isinstance(values.get(key), dict):
        raise UserError(f"{name}: config.json has no {key}")
    return values[key]


def _needed(values: dict[str, Any], keys: tuple[str, ...], section: str, name: str) -> dict[str, Any]:
    for key in keys:
        if values.get(key) is None:
            raise UserError(f"{name}: config.json has no {section}.{key}")
    return {key: values[key] for key in keys}


def _vision(values: dict[str, Any], name: str) -> dict[str, Any]:
    kept = _needed(values, _VISION_NEEDS, "vision_config", name)
    size, patch = values.get("image_size", 448), values.get("patch_size", 14)
    return {
        **kept,
        "hidden_act": values.get("hidden_act", "gelu"),
        "num_channels": values.get("num_channels", 3),
        "attention_bias": bool(values.get("qkv_bias")),  # InternViT-300M has it, InternViT-6B has not
        "use_qk_norm": bool(values.get("qk_normalization")),
        "image_size": [size, size],
        "patch_size": [patch, patch],
        "hidden_dropout_prob": values.get("dropout", 0.0),
        "attention_dropout": values.get("attention_dropout", 0.0),
        "initializer_range": values.get("initializer_range", 0.02),
        "use_absolute_position_embeddings": True,
        "use_mean_pooling": True,  # no last layer norm
    }


def _text(values: dict[str, Any], kind: str, name: str) -> dict[str, Any]:
    kept = _needed(values, _LLM_NEEDS, "llm_config", name)
    rope = {"rope_type": "default", "rope_theta": kept.pop("rope_theta")}
    if values.get("rope_scaling"):
        scaling = dict(values["rope_scaling"])
        rope |= {"rope_type": scaling.pop("type", None) or scaling.pop("rope_type"), **scaling}
    kept |= {key: values[key] for key in _LLM_MAY_HAVE if values.get(key) is not None}
    kept |= {key: values.get(key) for key in _LLM_IDS}
    if kind == "llama":
        kept["attention_bias"] = bool(values.get("bias"))
    if kind == "qwen2":
        kept.pop("attention_bias", None)  # always there, and no setting
    if kind != "llama":
        kept["use_sliding_window"] = bool(values.get("use_sliding_window"))
    tied = bool(values.get("tie_word_embeddings", False))
    return {"model_type": kind, **kept, "rope_parameters": rope, "tie_word_embeddings": tied}


# --- tensors -----------------------------------------------------------------------------------------------------

_LAYER = r"vision_model\.encoder\.layers\.(\d+)\."
_NATIVE_LAYER = r"vision_tower.encoder.layer.\1."
_VISION_NAMES = {
    r"vision_model\.embeddings\.class_embedding": r"vision_tower.embeddings.cls_token",
    r"vision_model\.embeddings\.position_embedding": r"vision_tower.embeddings.position_embeddings",
    r"vision_model\.embeddings\.patch_embedding\.(\w+)": r"vision_tower.embeddings.patch_embeddings.projection.\1",
    _LAYER + r"ls(\d)": _NATIVE_LAYER + r"lambda_\2",
    _LAYER + r"norm1\.(\w+)": _NATIVE_LAYER + r"layernorm_before.\2",
    _LAYER + r"norm2\.(\w+)": _NATIVE_LAYER + r"layernorm_after.\2",
    _LAYER + r"attn\.proj\.(\w+)": _NATIVE_LAYER + r"attention.projection_layer.\2",
    _LAYER + r"attn\.([qk]_norm)\.(\w+)": _NATIVE_LAYER + r"attention.\2.\3",
    _LAYER + r"attn\.qkv\.(\w+)": _NATIVE_LAYER + r"attention.{}_proj.\2",
    _LAYER + r"mlp\.(fc[12])\.(\w+)": _NATIVE_LAYER + r"mlp.\2.\3",
    r"mlp1\.0\.(\w+)": r"multi_modal_projector.layer_norm.\1",
    r"mlp1\.1\.(\w+)": r"multi_modal_projector.linear_1.\1",
    r"mlp1\.3\.(\w+)": r"multi_modal_projector.linear_2.\1",
}
_BLOCK = r"language_model\.model\.layers\.(\d+)\."
_NATIVE_BLOCK = r"language_model.model.layers.\1."
_INTERNLM2_NAMES = {
    r"language_model\.model\.tok_embeddings\.weight": r"language_model.model.embed_tokens.weight",
    r"language_model\.output\.weight": r"language_model.lm_head.weight",
    r"language_model\.model\.norm\.weight": r"language_model.model.norm.weight",
    _BLOCK + r"attention_norm\.weight": _NATIVE_BLOCK + r"input_layernorm.weight",
    _BLOCK + r"ffn_norm\.weight": _NATIVE_BLOCK + r"post_attention_layernorm.weight",
    _BLOCK + r"attention\.wqkv\.(\w+)": _NATIVE_BLOCK + r"self_attn.{}_proj.\2",
    _BLOCK + r"attention\.wo\.(\w+)": _NATIVE_BLOCK + r"self_attn.o_proj.\2",
    _BLOCK + r"feed_forward\.w1\.weight": _NATIVE_BLOCK + r"mlp.gate_proj.weight",
    _BLOCK + r"feed_forward\.w3\.weight": _NATIVE_BLOCK + r"mlp.up_proj.weight",
    _BLOCK + r"feed_forward\.w2\.weight": _NATIVE_BLOCK + r"mlp.down_proj.weight",
}
_QWEN_NAMES = {r"language_model\.((?:model\.|lm_head\.).+)": r"language_model.\1"}

LM_HEAD = "language_model.lm_head.weight"
# the input embedding, as the checkpoints name it
EMBEDDING = {
    "llama": "language_model.model.tok_embeddings.weight",
    "qwen2": "language_model.model.embed_tokens.weight",
    "qwen3": "language_model.model.embed_tokens.weight",
}


def native(name: str, tensor: torch.Tensor, layout: Layout) -> dict[str, torch.Tensor]:
    """What one tensor of an OpenGVLab checkpoint becomes: one tensor, or query, key and value.

    Shapes alone can be had by passing a tensor on the meta device.

    Args:
        name: its name there.
        tensor: its values.
        layout: the checkpoint's settings.

    Returns:
        By the names that transformers writes into `-hf` checkpoints; empty if no such tensor is known.

    Raises:
        UserError: its shape cannot be split into query, key and value.
    """
    names = _VISION_NAMES | (_INTERNLM2_NAMES if layout.llm == "llama" else _QWEN_NAMES)
    for pattern, replacement in names.items():
        match = re.fullmatch(pattern, name)
        if match is None:
            continue
        target = match.expand(replacement)
        if "{}" not in target:
            return {target: tensor}
        split = _split_wqkv if ".wqkv." in name else _split_qkv
        return {
            target.format(part): piece
            for part, piece in zip("qkv", split(name, tensor, layout.config), strict=True)
        }
    return {}


def _split_qkv(name: str, tensor: torch.Tensor, config: InternVLConfig) -> list[torch.Tensor]:
    """The vision encoder's: three equal chunks."""
    width = config.vision_config.hidden_size
    if tensor.shape[0] != 3 * width:
        raise UserError(f"tensor {name} has shape {tuple(tensor.shape)}; it needs {3 * width} rows")
    return list(tensor.split(width))


def _split_wqkv(name: str, tensor: torch.Tensor, config: InternVLConfig) -> list[torch.Tensor]:
    """InternLM2's rows are (key-value heads, queries of the group + key + value, head size)."""
    text = config.text_config
    groups, size = text.num_key_value_heads, text.head_dim
    queries = text.num_attention_heads // groups
    rows = groups * (queries + 2) * size
    if tensor.shape[0] != rows:
        raise UserError(f"tensor {name} has shape {tuple(tensor.shape)}; it needs {rows} rows")
    grouped = tensor.unflatten(0, (groups, queries + 2, size))
    parts = grouped[:, :queries], grouped[:, queries], grouped[:, queries + 1]
    return [part.reshape(-1, *tensor.shape[1:]) for part in parts]


def expected(config: InternVLConfig) -> dict[str, torch.Size]:
    """Name and shape of every tensor of a native checkpoint, tied ones left out; from the meta device."""
    with torch.device("meta"):
        model = InternVLForConditionalGeneration(config)
    shapes = {}
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight":
            name = LM_HEAD
        else:
            name = name.removeprefix("model.").replace("language_model.", "language_model.model.", 1)
        shapes[name] = tensor.shape
    if config.tie_word_embeddings:
        del shapes[LM_HEAD]
    return shapes
