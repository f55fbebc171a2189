"""Sizes of published InternVL models, so that runs can be planned without a network and before anything is loaded."""

from typing import Any

from transformers import InternVLConfig

_VIT_300M = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "attention_bias": True,
}
_INTERNLM2_7B = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 92553,
}
_QWEN2_5_HALF_B = {
    "model_type": "qwen2",
    "hidden_size": 896,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "intermediate_size": 4864,
    "vocab_size": 151674,
}
_KNOWN: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "InternVL2-8B": (_VIT_300M, _INTERNLM2_7B),
    "InternVL2_5-8B": (_VIT_300M, _INTERNLM2_7B),
    "InternVL3-1B": (_VIT_300M, _QWEN2_5_HALF_B),
}


def known_architecture(name: str) -> tuple[str, InternVLConfig] | None:
    """A published model by a hub id or path of which one part begins with its name, and its settings.

    `OpenGVLab/InternVL2_5-8B-MPO-hf` and `runs/internvl2_5_8b_stage1/model` are both an InternVL2_5-8B. None if no part
    names a model whose sizes are here.
    """
    parts = [f"{part.lower().replace('-', '_')}_" for part in name.split("/")]
    for known, (vision, text) in _KNOWN.items():
        if any(part.startswith(f"{known.lower().replace('-', '_')}_") for part in parts):
            return known, InternVLConfig(
                vision_config={"image_size": [448, 448], "patch_size": [14, 14], **vision},
                text_config={"tie_word_embeddings": False, **text},
                tie_word_embeddings=False,
            )
    return None
