"""The score head."""

import torch
from torch import nn
from torch.nn import functional as F

HIDDEN = 2048


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


def _linear(x: torch.Tensor, layer: nn.Linear) -> torch.Tensor:
    return F.linear(x, layer.weight.float(), layer.bias.float())
