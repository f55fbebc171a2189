"""What several questions share at the language model: their common beginning is computed once, and only the state at
the score slot is followed to the end.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import DynamicCache
from transformers.cache_utils import Cache, DynamicLayer

KeysAndValues = list[tuple[torch.Tensor, torch.Tensor]]  # a layer each, (N, heads, tokens, head size)

_LENGTH_DEPENDENT = ("dynamic", "longrope")  # RoPE whose frequencies follow the longest position


def slot_only(language_model: nn.Module) -> nn.Module:
    """The same model, weights shared, whose last layer goes on with the last position alone.

    Its `last_hidden_state` is (N, 1, width). Feed-forward, last norm and whatever follows are not computed for tokens
    that nobody reads.
    """
    *layers, last = language_model.layers  # type: ignore[misc]
    other = copy.copy(language_model)
    other._modules = dict(language_model._modules)  # or the original would get the new layers too
    other.layers = nn.ModuleList([*layers, _SlotLayer(last)])
    return other


class _SlotLayer(nn.Module):
    """A decoder layer of Llama, Qwen2 or Qwen3, which differ inside `self_attn` only."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.input_layernorm: nn.Module = layer.input_layernorm
        self.self_attn: nn.Module = layer.self_attn
        self.post_attention_layernorm: nn.Module = layer.post_attention_layernorm
        self.mlp: nn.Module = layer.mlp

    def forward(self, hidden_states: torch.Tensor, **settings: Any) -> torch.Tensor:
        """(N, L, width) -> (N, 1, width)."""
        attended = self.self_attn(hidden_states=self.input_layernorm(hidden_states), **settings)[0]
        slot = hidden_states[:, -1:] + attended[:, -1:]
        return slot + self.mlp(self.post_attention_layernorm(slot))


def can_reuse(config: Any, length: int) -> bool:
    """Whether keys of a beginning are those of the whole question.

    Args:
        config: of the language model.
        length: tokens of the whole question.

    Returns:
        False with sliding windows, and with RoPE whose base grows beyond the trained length, once `length` is there.
    """
    if any(kind != "full_attention" for kind in getattr(config, "layer_types", None) or ()):
        return False
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type", "default") not in _LENGTH_DEPENDENT:
        return True
    return length <= rope.get("original_max_position_embeddings", config.max_position_embeddings)


def begin(
    language_model: nn.Module, embeddings: torch.Tensor, before: KeysAndValues | None = None
) -> KeysAndValues:
    """Keys and values of beginnings, those of what stands before included.

    Args:
        language_model: the LLM.
        embeddings: (N, L, width).
        before: keys and values of one text (N = 1) that all of them follow.
    """
    cache = DynamicCache() if before is None else _shared(before, rows=None, grows=True)
    language_model(inputs_embeds=embeddings, past_key_values=cache, use_cache=True)
    return [(layer.keys, layer.values) for layer in cache.layers]


def finish(
    language_model: nn.Module,
    embeddings: torch.Tensor,
    before: KeysAndValues | None = None,
    rows: Sequence[int] | None = None,
) -> torch.Tensor:
    """Last hidden state at the last position: (N, width).

    Args:
        language_model: what `slot_only` made.
        embeddings: (N, L, width).
        before: keys and values of M beginnings.
        rows: which beginning each question follows; None: there is only one.
    """
    cache = None if before is None else _shared(before, rows)
    output = language_model(inputs_embeds=embeddings, past_key_values=cache, use_cache=cache is not None)
    return output.last_hidden_state[:, -1]


def _shared(before: KeysAndValues, rows: Sequence[int] | None, grows: bool = False) -> Cache:
    index = None if rows is None else torch.tensor(rows, device=before[0][0].device)
    return Cache(layers=[_SharedLayer(keys, values, index, grows) for keys, values in before])


class _SharedLayer(DynamicLayer):
    """One copy of the beginnings, spread to the rows only while its layer is computed."""

    def __init__(
        self, keys: torch.Tensor, values: torch.Tensor, rows: torch.Tensor | None, grows: bool
    ) -> None:
        super().__init__()
        self.lazy_initialization(keys, values)
        self.keys, self.values = keys, values
        self._rows = rows
        self._grows = grows

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of the whole question, (N, heads, tokens, head size)."""
        keys, values = (
            torch.cat([self._spread(old, len(new)), new], dim=-2)
            for old, new in ((self.keys, key_states), (self.values, value_states))
        )
        if self._grows:
            self.keys, self.values = keys, values
        return keys, values

    def _spread(self, states: torch.Tensor, rows: int) -> torch.Tensor:
        return states.expand(rows, -1, -1, -1) if self._rows is None else states[self._rows]
