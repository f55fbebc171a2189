"""A vision tower for small models: InternViT on a convolutional stem that can begin with ImageNet weights.

The stem is EfficientNet-Lite (Tan and Le, "EfficientNet", ICML 2019; the Lite variant has no squeeze-and-excitation and
ReLU6 for Swish) without batch normalisation, whose statistics are folded into the convolutions. What it finds is added
to InternViT's own patch embeddings; everything after that, LoRA included, is InternViT's.

A checkpoint of this kind has the model type ``harmony_internvl``; importing this module registers it with transformers.
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import (
    AutoConfig,
    AutoModel,
    InternVLConfig,
    InternVLVisionConfig,
    InternVLVisionModel,
)
from transformers import initialization as init
from transformers.models.internvl.modeling_internvl import InternVLVisionEmbeddings

LITE0 = (
    # kernel, stride, expansion, channels, blocks
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)


class StemVisionConfig(InternVLVisionConfig):
    """InternViT's settings and those of the stem.

    Attributes:
        stem_width: channels of the first convolution.
        stem_stages: each stage's kernel, stride, expansion, channels and number of blocks.
        stem_taps: the stages whose output is used.
        stem_mix: 3 x 3 convolutions that mix neighbours in what was joined.
    """

    model_type = "harmony_internvl_vision"
    stem_width: int = 32
    stem_stages: list | tuple = LITE0
    stem_taps: list | tuple = (1, 2, 4, 6)
    stem_mix: int = 0


class StemInternVLConfig(InternVLConfig):
    """InternVL with such a tower."""

    model_type = "harmony_internvl"

    def __post_init__(self, **kwargs: Any) -> None:
        vision = vars(self)["vision_config"]
        if isinstance(vision, dict):  # transformers would take its own class
            self.vision_config = StemVisionConfig(**vision)
        super().__post_init__(**kwargs)


class SameConv(nn.Conv2d):
    """A convolution padded as TensorFlow does it, where the weights come from; even sides."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(
            inputs, outputs, kernel, stride, padding=kernel // 2 if stride == 1 else 0, groups=groups
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> (N, outputs, H / stride, W / stride)."""
        if self.stride[0] > 1:
            pad = self.kernel_size[0] - self.stride[0]
            x = F.pad(x, (pad // 2, pad - pad // 2) * 2)
        return super().forward(x)


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project; skipped over where the shape stays."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.expand = SameConv(inputs, inner, 1) if expansion > 1 else None
        self.depthwise = SameConv(inner, inner, kernel, stride, groups=inner)
        self.project = SameConv(inner, outputs, 1)
        self.skip = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, inputs, H, W) -> (N, outputs, H / stride, W / stride)."""
        inner = x if self.expand is None else F.relu6(self.expand(x))
        out = self.project(F.relu6(self._filter(inner)))
        return x + out if self.skip else out

    def _filter(self, x: torch.Tensor) -> torch.Tensor:
        if x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            # a processor takes several times as long for gradients of these in bfloat16
            with torch.autocast("cpu", enabled=False):
                return self.depthwise(x.float())
        return self.depthwise(x)


class Stem(nn.Module):
    """EfficientNet-Lite's stages; its maps are brought to one grid, normalised, joined, and neighbours mixed."""

    def __init__(self, config: StemVisionConfig) -> None:
        super().__init__()
        self.taps = tuple(config.stem_taps)
        self.first = SameConv(config.num_channels, config.stem_width, 3, 2)
        stages, width, found = [], config.stem_width, []
        for index, (kernel, stride, expansion, channels, blocks) in enumerate(config.stem_stages):
            stage = []
            for block in range(blocks):
                stage.append(
                    InvertedResidual(width, channels, kernel, stride if block == 0 else 1, expansion)
                )
                width = channels
            stages.append(nn.Sequential(*stage))
            if index in self.taps:
                found.append(channels)
        self.stages = nn.ModuleList(stages)
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for channels in found)
        self.projection = nn.Linear(sum(found), config.hidden_size, bias=False)
        self.mix = nn.ModuleList(
            nn.Conv2d(config.hidden_size, config.hidden_size, 3, padding=1) for _ in range(config.stem_mix)
        )

    def forward(self, pixels: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
        """(N, 3, H, W) -> (N, rows * columns, width)."""
        x = F.relu6(self.first(pixels.contiguous(memory_format=torch.channels_last)))
        maps = []
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index in self.taps:
                fine = x.shape[-2] > grid[0]
                maps.append(F.adaptive_avg_pool2d(x, grid) if fine else F.interpolate(x, grid))
        tokens = [norm(m.flatten(2).transpose(1, 2)) for norm, m in zip(self.norms, maps, strict=True)]
        joined = self.projection(torch.cat(tokens, -1))
        if not self.mix:
            return joined
        mixed = joined.mT.unflatten(2, grid)
        for convolution in self.mix:
            mixed = F.relu(convolution(mixed))
        return joined + mixed.flatten(2).mT


class StemEmbeddings(InternVLVisionEmbeddings):
    """InternViT's patch and position embeddings plus the stem's tokens."""

    def __init__(self, config: StemVisionConfig) -> None:
        super().__init__(config)
        self.stem = Stem(config)

    def forward(
        self, pixel_values: torch.Tensor, bool_masked_pos: torch.BoolTensor | None = None
    ) -> torch.Tensor:
        """(N, 3, H, W) -> (N, 1 + patches, width)."""
        tokens = super().forward(pixel_values, bool_masked_pos)
        rows, columns = (
            side // patch for side, patch in zip(pixel_values.shape[2:], self.patch_size, strict=True)
        )
        found = self.stem(pixel_values, (rows, columns))
        return torch.cat([tokens[:, :1], tokens[:, 1:] + found], 1)


class StemVisionModel(InternVLVisionModel):
    """InternViT with `StemEmbeddings`."""

    config: StemVisionConfig

    def __init__(self, config: StemVisionConfig) -> None:
        super().__init__(config)
        self.embeddings = StemEmbeddings(config)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, SameConv):  # InternViT's small weights would fade away in so many layers
            init.kaiming_normal_(module.weight)


AutoConfig.register(StemVisionConfig.model_type, StemVisionConfig)
AutoConfig.register(StemInternVLConfig.model_type, StemInternVLConfig)
AutoModel.register(StemVisionConfig, StemVisionModel)


@torch.no_grad()
def load_imagenet_weights(stem: Stem, weights: dict[str, torch.Tensor], mean: Any, std: Any) -> None:
    """Fill a stem with EfficientNet-Lite's released weights (names of the package efficientnet-lite-pytorch).

    They were trained on (x - 127) / 128 of 8-bit values; the first convolution is rescaled for pixels that are
    normalised by `mean` and `std`.

    Args:
        stem: the stem, of the same shape.
        weights: the released state dict.
        mean: per channel, of pixels in 0..1.
        std: likewise.

    Raises:
        KeyError: a tensor is missing.
    """
    _fold(stem.first, weights, "_conv_stem", "_bn0")
    scale, shift = 255 * torch.tensor(std) / 128, (255 * torch.tensor(mean) - 127) / 128
    assert stem.first.bias is not None
    stem.first.bias += (stem.first.weight * shift[:, None, None]).sum((1, 2, 3))
    stem.first.weight *= scale[:, None, None]
    for index, block in enumerate(m for m in stem.modules() if isinstance(m, InvertedResidual)):
        name = f"_blocks.{index}."
        if block.expand is not None:
            _fold(block.expand, weights, name + "_expand_conv", name + "_bn0")
        _fold(block.depthwise, weights, name + "_depthwise_conv", name + "_bn1")
        _fold(block.project, weights, name + "_project_conv", name + "_bn2")


def _fold(conv: nn.Conv2d, weights: dict[str, torch.Tensor], name: str, norm: str) -> None:
    """Convolution and batch normalisation (with TensorFlow's epsilon of 0.001) as one convolution."""
    gain = weights[f"{norm}.weight"] / (weights[f"{norm}.running_var"] + 1e-3).sqrt()
    conv.weight.copy_(weights[f"{name}.weight"] * gain[:, None, None, None])
    assert conv.bias is not None
    conv.bias.copy_(weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * gain)
