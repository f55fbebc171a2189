"""Every tensor lands in its place: the converted model computes what OpenGVLab's modelling files do.

The oracle is those files' arithmetic (`modeling_intern_vit.py`, `modeling_internvl_chat.py` with pixel shuffle v2,
`modeling_internlm2.py`) written out on their own tensor names; nothing of it knows transformers' InternVL.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from harmonyiqa.model.backbone import load_backbone
from harmonyiqa.model.convert.stream import convert

Tensors = dict[str, torch.Tensor]


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """x / sqrt(mean(x^2) + eps), scaled."""
    return weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps)


def image_tokens(t: Tensors, config: dict[str, Any], pixels: torch.Tensor) -> torch.Tensor:
    """(T, 3, S, S) -> (T, tokens, LLM width)."""
    vision = config["vision_config"]
    heads, eps = vision["num_attention_heads"], vision["layer_norm_eps"]

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        if vision["norm_type"] == "rms_norm":
            return rms_norm(x, t[f"{name}.weight"], eps)
        return F.layer_norm(x, x.shape[-1:], t[f"{name}.weight"], t[f"{name}.bias"], eps)

    patch = "vision_model.embeddings.patch_embedding"
    x = F.conv2d(pixels, t[f"{patch}.weight"], t[f"{patch}.bias"], stride=vision["patch_size"])
    x = x.flatten(2).transpose(1, 2)
    cls = t["vision_model.embeddings.class_embedding"].expand(len(x), -1, -1)
    x = torch.cat([cls, x], 1) + t["vision_model.embeddings.position_embedding"]
    for i in range(vision["num_hidden_layers"]):
        layer = f"vision_model.encoder.layers.{i}"
        y = norm(x, f"{layer}.norm1")
        batch, length, width = y.shape
        qkv = F.linear(y, t[f"{layer}.attn.qkv.weight"], t.get(f"{layer}.attn.qkv.bias"))
        q, k, v = qkv.reshape(batch, length, 3, heads, width // heads).permute(2, 0, 3, 1, 4).unbind(0)
        if vision["qk_normalization"]:
            q, k = (
                rms_norm(z.transpose(1, 2).flatten(2), t[f"{layer}.attn.{name}.weight"], eps)
                .view(batch, length, heads, -1)
                .transpose(1, 2)
                for z, name in ((q, "q_norm"), (k, "k_norm"))
            )
        weights = ((q * (width // heads) ** -0.5) @ k.transpose(-2, -1)).softmax(-1)
        y = (weights @ v).transpose(1, 2).reshape(batch, length, width)
        y = F.linear(y, t[f"{layer}.attn.proj.weight"], t[f"{layer}.attn.proj.bias"])
        x = x + y * t[f"{layer}.ls1"]
        y = norm(x, f"{layer}.norm2")
        y = F.gelu(F.linear(y, t[f"{layer}.mlp.fc1.weight"], t[f"{layer}.mlp.fc1.bias"]))
        y = F.linear(y, t[f"{layer}.mlp.fc2.weight"], t[f"{layer}.mlp.fc2.bias"])
        x = x + y * t[f"{layer}.ls2"]
    x = x[:, 1:]
    n, tokens, c = x.shape
    side, s = int(tokens**0.5), config["downsample_ratio"]
    x = x.view(n, side, int(side * s), int(c / s)).permute(0, 2, 1, 3).contiguous()
    x = x.view(n, int(side * s), int(side * s), int(c / (s * s))).permute(0, 2, 1, 3).contiguous()
    x = x.reshape(n, -1, x.shape[-1])
    x = F.layer_norm(x, x.shape[-1:], t["mlp1.0.weight"], t["mlp1.0.bias"])
    x = F.gelu(F.linear(x, t["mlp1.1.weight"], t["mlp1.1.bias"]))
    return F.linear(x, t["mlp1.3.weight"], t["mlp1.3.bias"])


def internlm2(t: Tensors, config: dict[str, Any], embeddings: torch.Tensor) -> torch.Tensor:
    """(N, L, width) -> (N, L, width): the last hidden states, after the last norm."""
    llm = config["llm_config"]
    heads, groups, eps = llm["num_attention_heads"], llm["num_key_value_heads"], llm["rms_norm_eps"]
    x = embeddings
    batch, length, width = x.shape
    size = width // heads
    cos, sin = rotary(llm, size, length)

    def rotate(z: torch.Tensor) -> torch.Tensor:
        first, second = z.chunk(2, -1)
        return z * cos + torch.cat([-second, first], -1) * sin

    mask = torch.full((length, length), -torch.inf).triu(1)
    for i in range(llm["num_hidden_layers"]):
        layer = f"language_model.model.layers.{i}"
        y = rms_norm(x, t[f"{layer}.attention_norm.weight"], eps)
        y = F.linear(y, t[f"{layer}.attention.wqkv.weight"], t.get(f"{layer}.attention.wqkv.bias"))
        y = y.view(batch, length, groups, 2 + heads // groups, size)
        q = y[..., : heads // groups, :].reshape(batch, length, heads, size).transpose(1, 2)
        k, v = y[..., -2, :].transpose(1, 2), y[..., -1, :].transpose(1, 2)
        k, v = (z.repeat_interleave(heads // groups, 1) for z in (k, v))
        weights = (rotate(q) @ rotate(k).transpose(-2, -1) / size**0.5 + mask).softmax(-1)
        y = (weights @ v).transpose(1, 2).reshape(batch, length, width)
        x = x + F.linear(y, t[f"{layer}.attention.wo.weight"], t.get(f"{layer}.attention.wo.bias"))
        y = rms_norm(x, t[f"{layer}.ffn_norm.weight"], eps)
        w1, w2, w3 = (t[f"{layer}.feed_forward.{w}.weight"] for w in ("w1", "w2", "w3"))
        x = x + F.linear(F.silu(F.linear(y, w1)) * F.linear(y, w3), w2)
    return rms_norm(x, t["language_model.model.norm.weight"], eps)


def rotary(llm: dict[str, Any], size: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosine and sine, (length, size); beyond the trained length the base grows (dynamic NTK)."""
    base, longest = llm["rope_theta"], llm["max_position_embeddings"]
    if llm["rope_scaling"] and length > longest:
        factor = llm["rope_scaling"]["factor"]
        base *= (factor * length / longest - (factor - 1)) ** (size / (size - 2))
    frequencies = 1 / base ** (torch.arange(0, size, 2).float() / size)
    angles = torch.outer(torch.arange(length).float(), frequencies)
    angles = torch.cat([angles, angles], -1)
    return angles.cos(), angles.sin()


def _tensors(folder: Path) -> Tensors:
    return {name: t for file in sorted(folder.glob("*.safetensors")) for name, t in load_file(file).items()}


def _config(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text())


def _load(folder: Path):
    return load_backbone(folder, max_tiles=6, dtype=torch.float32).model


@pytest.mark.parametrize("qk_norm", [False, True], ids=["layer_norm", "rms_norm-qk_norm"])
def test_image_tokens_are_those_of_the_original_code(make_opengvlab, tmp_path, qk_norm) -> None:
    folder = make_opengvlab(qk_norm=qk_norm)
    convert(folder, tmp_path / "native")
    pixels = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    ours = _load(tmp_path / "native").model.get_image_features(pixel_values=pixels).pooler_output
    torch.testing.assert_close(
        ours, image_tokens(_tensors(folder), _config(folder), pixels), atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("length", [7, 48], ids=["short", "beyond-trained-length"])
def test_internlm2_computes_what_the_original_code_does(make_opengvlab, tmp_path, bias, length) -> None:
    folder = make_opengvlab(bias=bias)
    convert(folder, tmp_path / "native")
    embeddings = torch.randn(2, length, 64, generator=torch.Generator().manual_seed(1))
    ours = _load(tmp_path / "native").model.language_model(inputs_embeds=embeddings).last_hidden_state
    theirs = internlm2(_tensors(folder), _config(folder), embeddings)
    torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-4)
