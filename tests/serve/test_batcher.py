"""Who shares a model call, and that it changes no score."""

import random
from collections.abc import Hashable, Iterator
from concurrent.futures import Future

import pytest
from PIL import Image

from harmonyiqa import HarmonyIQA
from harmonyiqa.model.backbone import image_processor
from harmonyiqa.model.inputs import Example
from harmonyiqa.scoring.plan import Outcome, shape_of, tokens
from harmonyiqa.serve.batcher import Batcher
from tests.serve.conftest import Gate

LONG = 600.0  # seconds: whoever waits so long has failed


@pytest.fixture
def gate(scorer: HarmonyIQA) -> Iterator[Gate]:
    caller = Gate(scorer)
    caller.gate.clear()
    yield caller
    caller.gate.set()


def start(caller: Gate, *, batch_size: int | None = None, wait: float = 0, expected: int = 0) -> Batcher:
    return Batcher(
        caller, batch_size=batch_size, wait=wait, expected=lambda: expected, observe=lambda *_: None
    )


def examples(model: HarmonyIQA, count: int) -> list[Example]:
    """Flat images, no two alike."""
    rng = random.Random(0)
    colours = [(rng.randrange(256), rng.randrange(256), rng.randrange(256)) for _ in range(count)]
    return [model.prepare(Image.new("RGB", (40, 40), colour)) for colour in colours]


def alone(model: HarmonyIQA, given: list[Example]) -> list[float]:
    return [model.predict(model.collate([example])).item() for example in given]


def submit_behind(batcher: Batcher, gate: Gate, given: list[Example]) -> list[Future[Outcome]]:
    """The first is in the model when the others come, and the model is then let go."""
    found = [batcher.submit(given[0], None)]
    gate.begun.acquire()
    found += [batcher.submit(example, None) for example in given[1:]]
    gate.gate.set()
    return found


def test_what_comes_while_the_model_is_busy_shares_the_next_call(scorer: HarmonyIQA, gate: Gate) -> None:
    batcher = start(gate)
    given = examples(scorer, 6)
    found = [each.result(LONG) for each in submit_behind(batcher, gate, given)]
    assert found == pytest.approx(alone(scorer, given), abs=1e-5)
    assert [len(call) for call in gate.calls] == [1, 5]
    batcher.close()


def test_scores_do_not_depend_on_who_shares_a_call(
    scorer: HarmonyIQA, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scorer.inputs, "image_processor", image_processor(32, 4))  # one tile, or several
    rng = random.Random(0)
    photos = [Image.effect_noise((32 * rng.randint(1, 3), 32), 60).convert("RGB") for _ in range(24)]
    references: list[tuple[Hashable, Image.Image] | None] = [None, ("a", photos[0]), ("b", photos[1])]
    jobs = []
    for photo in photos:
        name, partner = rng.choice(references) or (None, None)
        jobs.append((scorer.prepare(photo, partner), name))
    expected = alone(scorer, [example for example, _ in jobs])
    gate.gate.set()
    batcher = start(gate, batch_size=5, wait=0.01, expected=24)
    for _ in range(4):
        order = rng.sample(range(24), 24)
        found = {index: batcher.submit(*jobs[index]) for index in order}
        assert [found[index].result(LONG) for index in range(24)] == pytest.approx(expected, abs=1e-5)
    batcher.close()
    assert len({round(score, 3) for score in expected}) == 24
    assert max(len(call) for call in gate.calls) <= 5
    assert all(
        len({(e.mode, e.reference_tiles, len(e.pixel_values)) for e in call}) == 1 for call in gate.calls
    )


def test_a_call_keeps_to_the_token_budget(scorer: HarmonyIQA, gate: Gate) -> None:
    given = examples(scorer, 9)
    gate.tokens_per_call = 3 * tokens(scorer.inputs, [shape_of(given[0])])
    batcher = start(gate)
    for each in submit_behind(batcher, gate, given):
        each.result(LONG)
    assert [len(call) for call in gate.calls] == [1, 3, 3, 2]
    batcher.close()


def test_the_oldest_goes_first_whatever_its_kind(scorer: HarmonyIQA, gate: Gate) -> None:
    plain, paired = (
        examples(scorer, 8),
        scorer.prepare(Image.new("RGB", (9, 9)), Image.new("RGB", (8, 8), "red")),
    )
    batcher = start(gate, batch_size=3)
    found = submit_behind(batcher, gate, [plain[0], paired, *plain[1:]])
    found[-1].result(LONG)
    assert [call[0].mode for call in gate.calls][:3] == ["nr", "fr", "nr"]
    batcher.close()


def test_nobody_is_waited_for_when_all_are_here(scorer: HarmonyIQA, gate: Gate) -> None:
    gate.gate.set()
    batcher = start(gate, wait=LONG, expected=2)
    found = [batcher.submit(example, None) for example in examples(scorer, 2)]
    assert all(isinstance(each.result(LONG / 2), float) for each in found)
    assert [len(call) for call in gate.calls] == [2]
    batcher.close()


def test_those_on_their_way_are_waited_for_a_little(scorer: HarmonyIQA, gate: Gate) -> None:
    gate.gate.set()
    batcher = start(gate, wait=0.01, expected=2)
    [only] = examples(scorer, 1)
    assert isinstance(batcher.submit(only, None).result(LONG), float)
    batcher.close()


def test_what_is_cancelled_is_not_scored(scorer: HarmonyIQA, gate: Gate) -> None:
    given = examples(scorer, 4)
    batcher = start(gate)
    found = [batcher.submit(given[0], None)]
    gate.begun.acquire()
    found += [batcher.submit(example, None) for example in given[1:]]
    assert found[2].cancel()
    gate.gate.set()
    found[3].result(LONG)
    assert [len(call) for call in gate.calls] == [1, 2]
    batcher.close()


def test_a_call_that_fails_is_its_own_affair(scorer: HarmonyIQA, gate: Gate) -> None:
    given = examples(scorer, 2)
    batcher = start(gate)
    gate.failure = RuntimeError("the device is gone")
    failing = batcher.submit(given[0], None)
    gate.gate.set()
    with pytest.raises(RuntimeError, match="the device is gone"):
        failing.result(LONG)
    gate.failure = None
    assert isinstance(batcher.submit(given[1], None).result(LONG), float)
    batcher.close()


def test_what_was_submitted_is_scored_before_the_end(scorer: HarmonyIQA, gate: Gate) -> None:
    batcher = start(gate, batch_size=1, wait=LONG, expected=100)
    found = [batcher.submit(example, None) for example in examples(scorer, 5)]
    gate.gate.set()
    batcher.close()
    assert all(each.done() and isinstance(each.result(), float) for each in found)
