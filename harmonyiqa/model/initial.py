"""Initial weights with which a small InternVL learns from little data: it begins by comparing colours.

Random weights spend most of a short training on finding out that a patch of the image belongs beside the same patch of
the reference. Here that is where training begins; every weight is trained from there on. The figures that led here are
in docs/bundled_model.md. Related: Trockman and Kolter, "Mimetic initialization of self-attention layers" (ICML 2023).

1. A vision patch begins as its low frequencies in opponent colours, beside a sine-cosine code of its place; the
   encoder's layers begin quiet.
2. In the LLM's first layer an image token attends to the token one reference further up and subtracts it: what
   remains is the difference. Where there was an image token to subtract, a flag is raised.
3. The first MLP begins as energies (u * silu(u)) of that difference; the second layer looks at flagged tokens first.
"""

import math
from typing import Any

import torch
from torch import nn
from transformers import InternVLForConditionalGeneration

from harmonyiqa.model.tower import StemEmbeddings

_RESERVED = (
    16  # of the LLM's dimensions: a constant in image tokens, so that normalisation cannot hide a size
)
_SHARP = 6  # rotary frequencies, from the highest, that tell neighbouring tokens apart


@torch.no_grad()
def start_from_differences(model: InternVLForConditionalGeneration, distance: int) -> None:
    """Set the initial weights, in place.

    Args:
        model: InternViT and Qwen2 with as many key-value heads as query heads.
        distance: tokens from the first image token of the reference to the first of the image, in the prompt.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and name != "lm_head":
            nn.init.normal_(module.weight, std=0.8 / math.sqrt(module.in_features))
    _patches(model.model.vision_tower)
    _projector(model)
    first, second = model.model.language_model.layers[:2]
    for layer in model.model.language_model.layers:
        layer.self_attn.q_proj.weight.mul_(0.3)  # attention begins nearly even
        layer.self_attn.k_proj.weight.mul_(0.3)
        layer.mlp.down_proj.weight.mul_(0.5)
    _subtract_the_twin(first.self_attn, distance, model.config.text_config.rope_parameters["rope_theta"])
    first.mlp.up_proj.weight.copy_(first.mlp.gate_proj.weight)
    _look_at_flags(second.self_attn)


def _patches(vision: Any) -> None:
    """Low cosine frequencies of three opponent colours, and the place, each in dimensions of its own."""
    for layer in vision.encoder.layer:
        layer.lambda_1.fill_(0.3)
        layer.lambda_2.fill_(0.3)
    weight = vision.embeddings.patch_embeddings.projection.weight  # (width, 3, P, P)
    width, _, side, _ = weight.shape
    cosines = _cosines(side, 4)
    opponents = nn.functional.normalize(torch.tensor([[1.0, 1, 1], [1, -1, 0], [1, 1, -2]]))
    for channel, opponent in enumerate(opponents):
        gain = (1 if channel == 0 else 3) / side  # photos vary less in colour than in light
        rows = slice(channel * len(cosines), (channel + 1) * len(cosines))
        weight[rows] = gain * opponent[None, :, None, None] * cosines[:, None]
    begin = 3 * len(cosines)
    free = (width - begin) // 4 * 4
    places = vision.embeddings.position_embeddings  # (1, 1 + patches, width)
    places.zero_()
    places[0, 1:, begin : begin + free] = _places(math.isqrt(places.shape[1] - 1), free)
    if isinstance(vision.embeddings, StemEmbeddings):
        vision.embeddings.stem.projection.weight.mul_(0.4)  # colours first


def _cosines(side: int, order: int) -> torch.Tensor:
    """The two-dimensional cosines of lowest frequency, (order (order + 1) / 2, side, side), each of norm 1."""
    x = (torch.arange(side) + 0.5) / side * math.pi
    waves = [
        torch.outer(torch.cos(u * x), torch.cos((s - u) * x)) for s in range(order) for u in range(s + 1)
    ]
    return torch.stack([wave / wave.norm() for wave in waves])


def _places(side: int, width: int) -> torch.Tensor:
    """Sine-cosine code of rows and columns, (side * side, width)."""
    angles = torch.arange(side)[:, None] / 10000 ** (torch.arange(width // 4) / (width // 4))
    code = torch.cat([angles.sin(), angles.cos()], 1)
    rows, columns = code[:, None].expand(side, side, -1), code[None].expand(side, side, -1)
    return torch.cat([rows, columns], -1).reshape(side * side, width)


def _projector(model: InternVLForConditionalGeneration) -> None:
    """Nearly linear, image tokens of unit size, the reserved dimensions constant."""
    projector, vision = model.model.multi_modal_projector, model.config.vision_config
    nn.init.orthogonal_(projector.linear_1.weight, gain=0.3)  # small arguments, where GELU is almost a line
    projector.linear_1.bias.zero_()
    nn.init.orthogonal_(projector.linear_2.weight)
    projector.linear_2.weight[:_RESERVED] = 0
    pictures = 0.3 * torch.randn(8, 3, *vision.image_size) + torch.randn(8, 3, 1, 1)
    projector.linear_2.bias.zero_()
    tokens = model.model.get_image_features(pixel_values=pictures).pooler_output
    projector.linear_2.weight.div_(tokens.pow(2).mean().sqrt())
    projector.linear_2.bias[:_RESERVED] = 1


def _subtract_the_twin(attention: Any, distance: int, theta: float) -> None:
    """Attend to the token `distance` further up, whatever it holds, and subtract it."""
    size = attention.head_dim
    heads = attention.q_proj.out_features // size
    phase, half = torch.rand(heads, _SHARP) * 2 * math.pi, size // 2
    key = torch.zeros(heads, size)
    key[:, :_SHARP], key[:, half : half + _SHARP] = 8 * phase.cos(), 8 * phase.sin()
    angles = -distance / theta ** (torch.arange(0, size, 2) / size)
    cos, sin = torch.cat([angles, angles]).cos(), torch.cat([angles, angles]).sin()
    query = (
        key * cos + torch.cat([-key[:, half:], key[:, :half]], -1) * sin
    )  # the rotary embedding, turned back
    attention.k_proj.bias.copy_(key.flatten())
    attention.q_proj.bias.copy_(query.flatten())
    value, output = attention.v_proj, attention.o_proj
    value.bias.zero_()
    nn.init.orthogonal_(value.weight)
    output.weight.copy_(-value.weight.T)
    value.weight[:, :_RESERVED] = 0
    output.weight[:_RESERVED] = 0
    # the last value is the constant of an image token; it raises the flag
    value.weight[-1] = 0
    value.weight[-1, :_RESERVED] = 1 / _RESERVED
    output.weight[:, -1] = 0
    output.weight[:_RESERVED, -1] = _flag()


def _look_at_flags(attention: Any) -> None:
    """A key for the flag in the slowest rotary frequency, which does not depend on the place."""
    size = attention.head_dim
    attention.q_proj.weight.mul_(0.3)
    attention.k_proj.weight.mul_(0.3)
    for head in range(attention.q_proj.out_features // size):
        for row in (head * size + size // 2 - 1, head * size + size - 1):
            attention.k_proj.weight[row, :_RESERVED] = 0.5 * _flag()
            attention.q_proj.bias[row] = 2


def _flag() -> torch.Tensor:
    """The direction of the flag, at right angles to the constant."""
    return torch.tensor([1.0, -1.0]).repeat(_RESERVED // 2)
