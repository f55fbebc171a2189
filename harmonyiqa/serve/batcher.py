"""The thread that owns the model: examples of many requests in, model calls of those that cost alike."""

import logging
import time
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Thread

from harmonyiqa.model.inputs import Example
from harmonyiqa.scoring.caller import Caller
from harmonyiqa.scoring.plan import Outcome, Shape, plan, shape_of, tokens

logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Job:
    example: Example
    reference: Hashable | None
    shape: Shape
    since: float
    outcome: Future[Outcome]


class Batcher:
    """Scores what is submitted; the oldest job is in the next call, with those that the plan puts beside it.

    It does not bound its queue: whoever submits does.

    Args:
        caller: the model; from now on this thread's alone.
        batch_size: images a call at most, if anything but the tokens is to limit them.
        wait: seconds that the oldest job waits for others at most, while its call has room.
        expected: how many jobs there could be, those that are still to be submitted included: with all of them here
            there is nothing to wait for.
        observe: told of every call: images, and seconds in the model.
    """

    def __init__(
        self,
        caller: Caller,
        *,
        batch_size: int | None,
        wait: float,
        expected: Callable[[], int],
        observe: Callable[[int, float], None],
    ) -> None:
        self._caller = caller
        self._batch_size = batch_size
        self._wait = wait
        self._expected = expected
        self._observe = observe
        self._submitted: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread = Thread(target=self._work, name="model", daemon=True)
        self._thread.start()

    def submit(self, example: Example, reference: Hashable | None) -> Future[Outcome]:
        """Have an example scored.

        Args:
            example: of the model's own `Inputs`.
            reference: what its reference is known by: equal names, equal pixels. None: it has none.

        Returns:
            The score, or why there is none. Cancelled in time, it is never computed.
        """
        job = _Job(example, reference, shape_of(example, reference), time.monotonic(), Future())
        self._submitted.put(job)
        return job.outcome

    def close(self) -> None:
        """Score what was submitted, then end the thread."""
        self._submitted.put(None)
        self._thread.join()

    def _work(self) -> None:
        waiting: list[_Job] = []
        more = True
        while more or waiting:
            more = self._take(waiting) if more else False
            waiting = [job for job in waiting if not job.outcome.cancelled()]
            if waiting:
                call = self._choose(waiting)
                waiting = [job for job in waiting if job not in call]
                self._score(call)
            # nothing of a call may live on while the thread waits for the next
            call = []

    def _take(self, waiting: list[_Job]) -> bool:
        """Add what was submitted: at least one job if there is none, and those that are worth waiting for.

        Returns:
            False after the last one.
        """
        while True:
            try:
                job = self._submitted.get(timeout=self._patience(waiting))
            except Empty:
                return True
            if job is None:
                return False
            waiting.append(job)

    def _patience(self, waiting: list[_Job]) -> float | None:
        """Seconds to wait for one more job; None: until it comes."""
        if not waiting:
            return None
        if not self._submitted.empty() or len(waiting) >= self._expected():
            return 0
        full = (
            tokens(self._caller.model.inputs, [job.shape for job in waiting]) >= self._caller.tokens_per_call
        )
        if full or len(waiting) >= (self._batch_size or len(waiting) + 1):
            return 0
        return max(0, waiting[0].since + self._wait - time.monotonic())

    def _choose(self, waiting: list[_Job]) -> list[_Job]:
        """The oldest job and those that share its call."""
        calls = plan(self._caller.model.inputs, [job.shape for job in waiting], self._caller.tokens_per_call)
        call = next(
            call for call in calls if 0 in call
        )  # with the oldest among its first: plan keeps the order
        return [waiting[index] for index in call[: self._batch_size]]

    def _score(self, call: list[_Job]) -> None:
        call = [job for job in call if job.outcome.set_running_or_notify_cancel()]
        if not call:
            return
        begun = time.perf_counter()
        try:
            outcomes = self._caller.score([job.example for job in call], [job.reference for job in call])
        except Exception as error:  # whatever befalls one call, the next is made
            logger.exception("a model call of %d images failed", len(call))
            for job in call:
                job.outcome.set_exception(error)
            return
        self._observe(len(call), time.perf_counter() - begun)
        for job, outcome in zip(call, outcomes, strict=True):
            job.outcome.set_result(outcome)
