"""Lanes: on a CPU a small model's calls run side by side, one thread each, from the file to the score.

A call of a small model is too short to keep several cores busy: its threads wait for each other at every layer, and all
but one while the next images are decoded. In lanes nobody waits. A lane's results are those of one thread, so that
scores do not depend on how many there are.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import local
from typing import TYPE_CHECKING, TypeVar

import torch

if TYPE_CHECKING:
    from harmonyiqa import HarmonyIQA

SMALL = 100_000_000  # parameters; a larger model's matrix products are worth dividing
Work = TypeVar("Work")
Result = TypeVar("Result")


def lanes(model: "HarmonyIQA") -> int:
    """How many lanes suit a model where it is: as many as torch has threads, or one."""
    if model.device.type != "cpu" or sum(p.numel() for p in model.parameters()) > SMALL:
        return 1
    return torch.get_num_threads()


def in_lanes(
    count: int, work: Iterable[Work], lane: Callable[[], Callable[[Work], Result]]
) -> Iterator[Result]:
    """What lanes make of each piece of work, in its order; a few pieces are in hand at a time.

    Args:
        count: of lanes.
        work: taken as it is needed, by the thread that asks for results.
        lane: called once in each lane: it gives what is then called with each of the lane's pieces.
    """
    own = local()

    def run(piece: Work) -> Result:
        if not hasattr(own, "run"):
            torch.set_num_threads(1)
            own.run = lane()
        return own.run(piece)

    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(count, "lane")
    in_hand: deque[Future[Result]] = deque()
    try:
        for piece in work:
            in_hand.append(pool.submit(run, piece))
            if len(in_hand) > 2 * count:
                yield in_hand.popleft().result()
        while in_hand:
            yield in_hand.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # what later threads begin with
