"""The engine: items in, outcomes out; a batch of images is one model call.

Items are taken in windows of fixed places in the input, and a window's batches depend on its items alone: scores
depend neither on where a run was cut off nor on how many processes (``torchrun``, ``accelerate launch``) share it.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import torch
from PIL import Image
from torch.utils.data import DataLoader
from tqdm import tqdm

from harmonyiqa.data.predictions import Prediction
from harmonyiqa.errors import UserError
from harmonyiqa.images import DEFAULT_MAX_PIXELS
from harmonyiqa.model.inputs import Batch, Example, Inputs
from harmonyiqa.scoring.items import Item, printable
from harmonyiqa.scoring.locations import Inside
from harmonyiqa.scoring.processes import gather, place
from harmonyiqa.scoring.summary import Summary

if TYPE_CHECKING:
    from harmonyiqa import HarmonyIQA

WINDOW = 512  # items that batches are chosen among
Outcome: TypeAlias = float | str  # a score, or why there is none
Placed: TypeAlias = tuple[int, Item]  # an item and its place in the input, from 0


@dataclass(frozen=True, slots=True)
class Scored:
    """An item with its place in the input, and what came of it."""

    position: int
    item: Item
    outcome: Outcome

    def prediction(self, model: str) -> Prediction:
        """Its row in the predictions of `model`."""
        item, outcome = self.item, self.outcome
        if isinstance(outcome, str):
            return Prediction(item.image, item.reference, None, model, printable(outcome))
        return Prediction(item.image, item.reference, outcome, model)


def predict(
    model: "HarmonyIQA",
    items: Sequence[Item],
    *,
    batch_size: int = 16,
    workers: int = 0,
    text: bool = False,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> list[Prediction]:
    """Score every item; one that cannot be scored becomes a prediction with its error, and the rest go on.

    Args:
        model: the model, on its device.
        items: images, with or without a reference; both kinds may stand in one list.
        batch_size: images a model call.
        workers: processes that decode and prepare images; 0 does it between the model calls.
        text: read the score from the sentence that the model generates, not from its score head. A model that
            went through stage 1 only has no head and always does so.
        max_pixels: the most pixels an image may have.

    Returns:
        As many predictions as items, in their order; in a process group the whole list in every process.

    Raises:
        UserError: if a batch does not fit into the device's memory.
    """
    share = {
        each.position: each.prediction(model.name)
        for batch in stream(
            model,
            items,
            total=len(items),
            batch_size=batch_size,
            workers=workers,
            text=text,
            max_pixels=max_pixels,
        )
        for each in batch
    }
    shares = {position: row for each in gather(share) for position, row in each.items()}
    return [shares[position] for position in range(len(items))]


def summarize(
    model: "HarmonyIQA",
    items: Iterable[Item],
    *,
    total: int | None,
    batch_size: int,
    workers: int,
    text: bool,
    max_pixels: int,
) -> Summary:
    """Score every item and keep the summary alone, of all processes in every process; arguments as in `stream`."""
    share = Summary()
    for batch in stream(
        model,
        items,
        total=total,
        batch_size=batch_size,
        workers=workers,
        text=text,
        max_pixels=max_pixels,
    ):
        for each in batch:
            share.add(each.position, each.prediction(model.name))
    summary = Summary()
    for part in gather(share):
        summary.merge(part)
    return summary


def stream(
    model: "HarmonyIQA",
    items: Iterable[Item],
    *,
    total: int | None,
    batch_size: int,
    workers: int,
    text: bool,
    max_pixels: int,
    done: Callable[[int], bool] = lambda position: False,
) -> Iterator[list[Scored]]:
    """Score this process's share of the items, a batch at a time, with a bounded number of them in memory.

    Args:
        model: the model, on its device.
        items: taken as they are needed.
        total: how many items there are, if known.
        batch_size: images a model call.
        workers: as in `predict`.
        text: as in `predict`.
        max_pixels: as in `predict`.
        done: whether the item at a place is scored already; the same in every process.

    Yields:
        A batch's items in their order; batches that are done wholly are left out.
    """
    for ready in batches(
        model,
        items,
        "scoring",
        total=total,
        batch_size=batch_size,
        workers=workers,
        max_pixels=max_pixels,
        done=done,
    ):
        outcomes: dict[int, Outcome] = dict(ready.failed)
        if ready.batch is not None:
            outcomes |= zip(ready.positions, score_batch(model, ready.batch, text), strict=True)
        yield [Scored(position, item, outcomes[position]) for position, item in ready.items]


def batches(
    model: "HarmonyIQA",
    items: Iterable[Item],
    what: str,
    *,
    total: int | None,
    batch_size: int,
    workers: int,
    max_pixels: int,
    done: Callable[[int], bool] = lambda position: False,
) -> Iterator["Ready"]:
    """This process's share of the items, ready for the model; a progress bar says `what` is done with them."""
    rank, processes = place()
    pending: dict[int, list[Placed]] = {}  # what workers have in hand, by its first place
    if total is not None:
        workers = min(workers, math.ceil(total / batch_size))
    loader: DataLoader[Ready] = DataLoader(
        _Examples(model.inputs, max_pixels),  # type: ignore[arg-type]  # only __getitem__ is used
        batch_sampler=_Share(items, batch_size, rank, processes, done, pending),
        num_workers=workers,
        collate_fn=_Collate(model.inputs),
        pin_memory=model.device.type == "cuda",
    )
    hidden = None if rank == 0 else True  # None: shown where stderr is a terminal
    share = None if total is None else math.ceil(total / processes)
    with tqdm(total=share, desc=what, unit="image", disable=hidden) as bar:
        for ready in _guarded(loader):
            yield replace(ready, items=pending.pop(ready.first))
            bar.update(len(ready.failed) + len(ready.positions))


def choose_batches(window: Sequence[Placed], batch_size: int) -> list[list[Placed]]:
    """Which items of a window share a model call.

    FR and NR are kept apart: their prompts differ in length, and padding costs time.

    Args:
        window: items that can be opened, in order.
        batch_size: images a model call at most.
    """
    chosen: list[list[Placed]] = []
    for full_reference in (False, True):
        alike = [each for each in window if (each[1].reference_path is not None) == full_reference]
        chosen += _chunks(alike, batch_size)
    return chosen


def score_batch(model: "HarmonyIQA", batch: Batch, text: bool) -> list[Outcome]:
    """One model call: the score of every row, or why it has none.

    Raises:
        UserError: if the batch does not fit into the device's memory.
    """
    try:
        if text or not model.settings.has_score_head:
            return [_read_sentence(model, sentence) for sentence in model.predict_text(batch)]
        return [_finite(score) for score in model.predict(batch).tolist()]
    except torch.OutOfMemoryError as error:
        size = len(batch.input_ids)
        raise UserError(
            f"{size} images at a time do not fit into {model.device}: lower batch_size"
        ) from error


class _Share:
    """The batches of one process, listed as workers ask for them.

    Every process goes through all batches and gives each that is not done to the one with the least work so far,
    so that no two have to talk.
    """

    def __init__(
        self,
        items: Iterable[Item],
        batch_size: int,
        rank: int,
        processes: int,
        done: Callable[[int], bool],
        pending: dict[int, list[Placed]],
    ) -> None:
        self._items = items
        self._batch_size = batch_size
        self._rank = rank
        self._processes = processes
        self._done = done
        self._pending = pending

    def __iter__(self) -> Iterator[list[Placed]]:
        work = [0] * self._processes
        numbered = enumerate(self._items)
        while window := list(islice(numbered, max(WINDOW // self._batch_size, 1) * self._batch_size)):
            if all(self._done(position) for position, _ in window):
                continue
            good = [each for each in window if each[1].error is None]
            bad = [each for each in window if each[1].error is not None]
            for batch in [*choose_batches(good, self._batch_size), *_chunks(bad, self._batch_size)]:
                if all(self._done(position) for position, _ in batch):
                    continue
                least = work.index(min(work))
                work[least] += sum(_work(item) for _, item in batch)
                if least == self._rank:
                    self._pending[batch[0][0]] = batch
                    yield batch


def _work(item: Item) -> int:
    """How much there is to do, in images."""
    return 0 if item.error is not None else 1 if item.reference_path is None else 2


def _chunks(items: Sequence[Placed], size: int) -> list[list[Placed]]:
    return [list(items[start : start + size]) for start in range(0, len(items), size)]


class _Examples:
    """What a worker makes of an item: an example, or why there is none."""

    def __init__(self, inputs: Inputs, max_pixels: int) -> None:
        self._inputs = inputs
        self._max_pixels = max_pixels
        # the last: one often serves several images
        self._reference: tuple[tuple[Path | None, Inside | None], Image.Image | None] | None = None

    def __getitem__(self, placed: Placed) -> tuple[int, Example | str]:
        position, item = placed
        if item.error is not None:
            return position, item.error
        try:
            reference = self._open_reference(item)
            image = item.open_image(max_pixels=self._max_pixels)
            return position, self._inputs.prepare(image, reference)
        except UserError as error:
            return position, str(error)
        except Exception as error:  # whatever one odd image does, the others are scored
            return position, f"{item.image} cannot be prepared: {type(error).__name__}: {error}"

    def _open_reference(self, item: Item) -> Image.Image | None:
        where = item.reference_path, item.reference_inside
        if self._reference is None or self._reference[0] != where:
            self._reference = where, item.open_reference(max_pixels=self._max_pixels)
        return self._reference[1]


@dataclass(frozen=True)
class Ready:
    """A batch as it leaves a worker.

    Attributes:
        first: the place of its first item.
        positions: the places of those that the model reads, in order.
        batch: what the model reads; None if all failed.
        failed: the others, and why.
        items: all of them; they stay in the main process.
    """

    first: int
    positions: list[int]
    batch: Batch | None
    failed: dict[int, Outcome]
    items: Sequence[Placed] = ()

    def pin_memory(self) -> "Ready":
        """The same in memory that a GPU can read while the CPU goes on."""
        if self.batch is None:
            return self
        pinned = {name: tensor.pin_memory() for name, tensor in vars(self.batch).items()}
        return replace(self, batch=replace(self.batch, **pinned))


class _Collate:
    """Examples to a batch, in the worker. A class, so that it can be sent to one."""

    def __init__(self, inputs: Inputs) -> None:
        self._inputs = inputs

    def __call__(self, results: list[tuple[int, Example | str]]) -> Ready:
        examples = {position: result for position, result in results if isinstance(result, Example)}
        failed: dict[int, Outcome] = {p: result for p, result in results if isinstance(result, str)}
        batch = self._inputs.collate(list(examples.values())) if examples else None
        return Ready(results[0][0], list(examples), batch, failed)


def _guarded(loader: "DataLoader[Ready]") -> Iterator[Ready]:
    """What the loader gives; a worker that was killed is said in one line."""
    try:
        yield from loader
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise UserError(
            "a process that decodes images was killed (too little memory?): run again with fewer workers"
        ) from error


def _read_sentence(model: "HarmonyIQA", sentence: str) -> Outcome:
    score = model.inputs.prompt.parse_score(sentence)
    return f"the model's sentence holds no score: {sentence!r}" if score is None else score


def _finite(score: float) -> Outcome:
    return score if math.isfinite(score) else f"the model returned {score}, which is no score"
