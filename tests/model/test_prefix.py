"""What is computed once is what the whole question would have computed; nothing is shared where that does not hold."""

from types import SimpleNamespace

import pytest
import torch
from transformers import LlamaConfig, LlamaModel

from harmonyiqa.model.prefix import begin, can_reuse, finish, slot_only


@pytest.fixture(scope="module")
def language_model() -> LlamaModel:
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=50,
    )
    return LlamaModel(config).eval()


@torch.inference_mode()
def test_the_last_layer_goes_on_with_the_slot_alone(language_model: LlamaModel) -> None:
    embeddings = torch.randn(3, 9, 32)
    expected = language_model(inputs_embeds=embeddings).last_hidden_state
    state = slot_only(language_model)(inputs_embeds=embeddings).last_hidden_state
    assert state.shape == (3, 1, 32)
    torch.testing.assert_close(state[:, 0], expected[:, -1])
    assert torch.equal(language_model(inputs_embeds=embeddings).last_hidden_state, expected)


@torch.inference_mode()
def test_questions_follow_the_beginning_that_is_theirs(language_model: LlamaModel) -> None:
    static, references, own = torch.randn(1, 2, 32), torch.randn(2, 4, 32), torch.randn(5, 3, 32)
    rows = [0, 1, 1, 0, 1]
    model = slot_only(language_model)
    before = begin(model, references, begin(model, static))
    assert [keys.shape for keys, _ in before] == [(2, 2, 6, 8)] * 3
    state = finish(model, own, before, rows)
    whole = torch.cat([static.expand(5, -1, -1), references[rows], own], dim=1)
    torch.testing.assert_close(state, language_model(inputs_embeds=whole).last_hidden_state[:, -1])
    assert torch.equal(finish(model, own, before, rows), state)  # what was kept has not grown
    assert torch.equal(
        finish(model, own[:1], [(k[:1], v[:1]) for k, v in before]), finish(model, own[:1], before, [0])
    )


@pytest.mark.parametrize(
    ("settings", "length", "exact"),
    [
        ({}, 10_000, True),
        ({"layer_types": ["full_attention", "full_attention"]}, 10_000, True),
        ({"layer_types": ["full_attention", "sliding_attention"]}, 10, False),
        ({"rope_parameters": {"rope_type": "llama3"}}, 10_000, True),
        ({"rope_parameters": {"rope_type": "dynamic"}}, 100, True),
        ({"rope_parameters": {"rope_type": "dynamic"}}, 101, False),
        ({"rope_parameters": {"rope_type": "longrope", "original_max_position_embeddings": 64}}, 65, False),
    ],
)
def test_nothing_is_shared_where_keys_follow_the_length(
    settings: dict[str, object], length: int, exact: bool
) -> None:
    assert can_reuse(SimpleNamespace(max_position_embeddings=100, **settings), length) is exact
