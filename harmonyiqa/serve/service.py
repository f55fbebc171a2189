"""The service without HTTP: who is let in, decoding beside the model, what comes out."""

import asyncio
import threading
from collections.abc import Hashable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from PIL import Image

from harmonyiqa.model.inputs import Example
from harmonyiqa.scoring.caller import Caller
from harmonyiqa.scoring.engine import Examples
from harmonyiqa.scoring.items import Item, printable
from harmonyiqa.scoring.locations import Encoded, known_by
from harmonyiqa.scoring.plan import Outcome
from harmonyiqa.serve.batcher import Batcher
from harmonyiqa.serve.metrics import Metrics
from harmonyiqa.serve.settings import Limits

if TYPE_CHECKING:
    from harmonyiqa import HarmonyIQA


class Full(Exception):
    """As many requests are in the house as may be."""


class Draining(Exception):
    """The service is being stopped."""


@dataclass(frozen=True)
class Upload:
    """A file of a request: what messages call it, and its bytes."""

    name: str
    file: BinaryIO


class Service:
    """A model behind a door.

    Args:
        model: on its device; its weights stay as they are.
        limits: how much is taken on at a time.
        text: as in `Caller`.

    Attributes:
        accepted: requests that were let in so far.
        draining: whether no more are let in.
        reads_text: whether scores are read from generated sentences.
    """

    def __init__(self, model: "HarmonyIQA", limits: Limits, *, text: bool = False) -> None:
        self.model = model
        self.limits = limits
        self.metrics = Metrics(lambda: self.in_house)
        self.accepted = 0
        self.draining = False
        self.reads_text = text or not model.settings.has_score_head
        self._in_house = 0
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(limits.threads, "decode")
        caller = Caller(model, text=text)
        side = model.inputs.image_processor.size["height"]
        caller.score(
            [model.prepare(Image.new("RGB", (side, side)))], [None]
        )  # or the first client would wait
        self._batcher = Batcher(
            caller,
            batch_size=limits.batch_size,
            wait=limits.wait / 1000,
            expected=lambda: self.in_house,
            observe=self.metrics.call,
        )

    @property
    def in_house(self) -> int:
        """Requests that were let in and are not answered, and images that are still decoded for nobody."""
        return self._in_house

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Let a request in for the time of the block.

        Raises:
            Draining: no more are let in.
            Full: no more are let in now.
        """
        with self._lock:
            if self.draining:
                raise Draining
            if self._in_house >= self.limits.queue:
                raise Full
            self._in_house += 1
            self.accepted += 1
        try:
            yield
        finally:
            self._count(-1)

    async def score(self, image: Upload, reference: Upload | None) -> Outcome:
        """The score of an image, or why it has none, as `harmonyiqa score` would say it.

        Raises:
            TimeoutError: it took too long.
        """
        preparing = self._pool.submit(self._prepare, image, reference)
        try:
            async with asyncio.timeout(self.limits.timeout):
                # shielded: what is taken from the pool's queue before its turn would leave its bytes there
                prepared = await asyncio.shield(asyncio.wrap_future(preparing))
                if isinstance(prepared, str):
                    return prepared
                return await asyncio.wrap_future(self._batcher.submit(*prepared))
        finally:
            self._outlive(preparing)

    def drain(self) -> None:
        """Let no more requests in."""
        self.draining = True

    def close(self) -> None:
        """End the threads; what was let in before is done first."""
        self.drain()
        self._pool.shutdown()
        self._batcher.close()

    def _prepare(self, image: Upload, reference: Upload | None) -> tuple[Example, Hashable | None] | str:
        partner = None if reference is None else Encoded(reference.file.read())
        item = Item(
            printable(image.name),
            None if reference is None else printable(reference.name),
            Encoded(image.file.read()),
            partner,
        )
        example = Examples(self.model.inputs, self.limits.max_pixels).prepare(item)
        return example if isinstance(example, str) else (example, known_by(partner))

    def _outlive(self, preparing: Future) -> None:
        """A client that left or waited too long still takes a place until its image is decoded."""
        if not preparing.done():
            self._count(1)
            preparing.add_done_callback(lambda _: self._count(-1))

    def _count(self, change: int) -> None:
        with self._lock:
            self._in_house += change
