"""Muon for the matrices of a model, AdamW for all else (Jordan et al., https://kellerjordan.github.io/posts/muon/)."""

from collections.abc import Collection

from pytorch_optimizer import Muon
from torch import nn

_NARROW = 16  # a matrix with fewer rows or columns is a head or an input layer


def muon(
    model: nn.Module,
    *,
    learning_rate: float,
    weight_decay: float = 0,
    decayed: Collection[str] = (),
) -> Muon:
    """Muon for matrices and dense convolutions, AdamW for the rest: embeddings, heads, depthwise filters, biases.

    Both take one rate: Muon's steps are scaled to the size of AdamW's (Liu et al., "Muon is scalable for LLM training",
    arXiv:2502.16982, equation 4).

    Args:
        model: its parameters that learn are taken.
        learning_rate: peak rate of both.
        weight_decay: of all matrices, and of the other parameters in `decayed`.
        decayed: names of parameters.
    """
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if _is_matrix(parameter) and id(parameter) not in embeddings and "lm_head" not in name:
            matrices.append(parameter)
        else:
            (others if name in decayed else plain).append(parameter)
    adamw = {"lr": learning_rate, "betas": (0.9, 0.999), "eps": 1e-8, "use_muon": False}
    return Muon(
        [
            {
                "params": matrices,
                "lr": learning_rate,
                "weight_decay": weight_decay,
                "use_muon": True,
                "use_adjusted_lr": True,
            },
            {"params": others, "weight_decay": weight_decay, **adamw},
            {"params": plain, "weight_decay": 0.0, **adamw},
        ]
    )


def _is_matrix(parameter: nn.Parameter) -> bool:
    """Whether a weight mixes channels: (out, in, ...) with neither side narrow; not one filter a channel."""
    if parameter.ndim < 2 or (parameter.ndim > 2 and parameter.shape[1] == 1):
        return False
    return min(parameter.shape[0], parameter[0].numel()) >= _NARROW
