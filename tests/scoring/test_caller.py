"""All processes plan with one budget, and nothing is called that does not fit."""

from collections.abc import Hashable

import pytest
import torch

from harmonyiqa import HarmonyIQA
from harmonyiqa.model.inputs import Example
from harmonyiqa.scoring import caller as module
from harmonyiqa.scoring.caller import Caller
from harmonyiqa.scoring.plan import CPU_TOKENS


def test_the_first_process_s_budget_is_everybody_s(
    scorer: HarmonyIQA, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = []

    def gather(value: int | None) -> list[int | None]:
        said.append(value)
        return [512, value]

    monkeypatch.setattr(module, "place", lambda: (1, 2))
    monkeypatch.setattr(module, "gather", gather)
    assert Caller(scorer).tokens_per_call == 512
    assert said == [None]  # it does not look for one itself


def test_a_budget_that_is_given_is_not_looked_for(
    scorer: HarmonyIQA, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "find_budget", lambda *_: 4096)
    assert Caller(scorer).tokens_per_call == 4096
    assert Caller(scorer, tokens_per_call=300).tokens_per_call == 300
    assert (
        Caller(scorer, text=True).tokens_per_call == CPU_TOKENS
    )  # sentences are not what the trial measures


def test_any_call_is_made_in_parts_where_memory_runs_out(scorer: HarmonyIQA, noise) -> None:
    from PIL import Image

    example = scorer.prepare(Image.fromarray(noise))
    sizes = []

    def call(examples: list[Example], references: list[Hashable | None]) -> list[Hashable | None]:
        sizes.append(len(examples))
        if len(examples) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return references

    found = Caller(scorer).run([example] * 7, list("abcdefg"), call)
    assert found == list("abcdefg")
    assert max(sizes) == 7
    assert Caller(scorer).run([], [], call) == []
