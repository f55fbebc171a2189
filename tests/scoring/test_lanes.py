"""Lanes keep order, take work as they need it, and give to the last bit what one thread gives."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from harmonyiqa import HarmonyIQA
from harmonyiqa.scoring.engine import predict
from harmonyiqa.scoring.items import items_from_paths
from harmonyiqa.scoring.lanes import SMALL, in_lanes, lanes


@pytest.fixture
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def slower_first() -> Callable[[int], tuple[int, str, int]]:
    def work(piece: int) -> tuple[int, str, int]:
        time.sleep(0.02 if piece % 3 == 0 else 0)
        return piece, threading.current_thread().name, torch.get_num_threads()

    return work


def test_results_come_in_order_from_several_threads_of_one_thread_each(three_threads: None) -> None:
    found = list(in_lanes(3, range(30), slower_first))
    assert [piece for piece, _, _ in found] == list(range(30))
    assert len({name for _, name, _ in found}) > 1
    assert {threads for _, _, threads in found} == {1}
    assert torch.get_num_threads() == 3
    inside: list[int] = []
    thread = threading.Thread(target=lambda: inside.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert inside == [3]  # threads that begin later have what was set before


def test_work_is_taken_as_it_is_needed() -> None:
    taken = 0

    def work() -> Iterator[int]:
        nonlocal taken
        for taken in range(1, 1001):  # noqa: UP028  # `yield from` would not count
            yield taken

    results = in_lanes(2, work(), slower_first)
    next(results)
    assert taken <= 5


@pytest.mark.parametrize("wrong", ["lane", "piece", "work"])
def test_an_error_reaches_who_asks(wrong: str) -> None:
    def lane() -> Callable[[int], float]:
        if wrong == "lane":
            raise ValueError("lane")
        return lambda piece: 1 / (piece if wrong == "piece" else 1)

    def work() -> Iterator[int]:
        yield 0
        if wrong == "work":
            raise KeyError

    with pytest.raises({"lane": ValueError, "piece": ZeroDivisionError, "work": KeyError}[wrong]):  # type: ignore[arg-type]
        list(in_lanes(2, work(), lane))


def test_scores_do_not_depend_on_lanes_or_workers(
    scorer: HarmonyIQA, pictures: Path, three_threads: None
) -> None:
    items = items_from_paths([pictures])
    assert lanes(scorer) == 3
    in_three = predict(scorer, items, batch_size=2)
    with_workers = predict(scorer, items, batch_size=2, workers=2)
    torch.set_num_threads(1)
    assert in_three == with_workers == predict(scorer, items, batch_size=2)


def test_a_large_model_has_one_lane(
    scorer: HarmonyIQA, monkeypatch: pytest.MonkeyPatch, three_threads: None
) -> None:
    monkeypatch.setattr("harmonyiqa.scoring.lanes.SMALL", 10)
    assert SMALL > 10
    assert lanes(scorer) == 1
