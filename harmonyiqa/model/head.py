"""What is read from the LLM's last hidden states: the score, and where the image was altered."""

import math

import torch
from torch import nn
from torch.nn import functional as F

HIDDEN = 2048
MAP_UNIT = 15.0  # CIEDE2000; a shift so far is one unit of the map


class ScoreHead(nn.Module):
    """Two-layer MLP from the hidden state just before the score to the normalised MOS (paper, section III-A).

    Always float32: in bf16 neighbouring scores would tie.

    Args:
        width: size of the LLM's hidden state.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(width, HIDDEN)
        self.act = nn.GELU()
        self.linear_2 = nn.Linear(HIDDEN, 1)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """(N, width) any float type -> (N,) float32, in units of (MOS - mean) / std."""
        with torch.autocast(hidden.device.type, enabled=False):
            # FSDP may hand its parameters over in bfloat16: they are computed with in float32 all the same
            inner = self.act(_linear(hidden.float(), self.linear_1))
            return _linear(inner, self.linear_2).squeeze(-1)


class MapHead(nn.Module):
    """How far each part of the image was shifted, from the states of its image tokens; float32.

    Args:
        width: size of the LLM's hidden state.
        cells: cells along a side of one token.
    """

    def __init__(self, width: int, cells: int) -> None:
        super().__init__()
        self.cells = cells
        self.linear = nn.Linear(width, cells**2)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(N, T, width), the tokens of one square tile in rows -> (N, G, G) in `MAP_UNIT`, G = sqrt(T) * cells."""
        side = math.isqrt(tokens.shape[1])
        with torch.autocast(tokens.device.type, enabled=False):
            found = _linear(tokens.float(), self.linear)
        return F.pixel_shuffle(found.mT.unflatten(2, (side, side)), self.cells).squeeze(1)


def _linear(x: torch.Tensor, layer: nn.Linear) -> torch.Tensor:
    return F.linear(x, layer.weight.float(), layer.bias.float())
