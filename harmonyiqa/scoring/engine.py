"""The engine: items in, outcomes out; images that cost alike share a model call.

Items are taken in windows of fixed places in the input, and a window's batches depend on its items alone: scores
depend neither on where a run was cut off nor on how many processes (``torchrun``, ``accelerate launch``) share it.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from threading import get_ident
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from harmonyiqa.data.predictions import Prediction
from harmonyiqa.errors import UserError
from harmonyiqa.images import DEFAULT_MAX_PIXELS
from harmonyiqa.model.inputs import Example, Inputs
from harmonyiqa.scoring.caller import Caller
from harmonyiqa.scoring.items import Item, printable
from harmonyiqa.scoring.lanes import in_lanes, lanes
from harmonyiqa.scoring.locations import Location, known_by, open_location
from harmonyiqa.scoring.plan import Outcome, plan, shapes, tokens
from harmonyiqa.scoring.processes import gather, place
from harmonyiqa.scoring.summary import Summary

if TYPE_CHECKING:
    from harmonyiqa import HarmonyIQA

WINDOW = 512  # items that batches are chosen among
Placed: TypeAlias = tuple[int, Item]  # an item and its place in the input, from 0
Made: TypeAlias = tuple[int, str, Example | str]  # what a worker makes: place, fingerprint, example or error
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Scored:
    """An item with its place in the input, its fingerprint when it was read, and what came of it."""

    position: int
    item: Item
    fingerprint: str
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
    batch_size: int | None = None,
    workers: int = 0,
    text: bool = False,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> list[Prediction]:
    """Score every item; one that cannot be scored becomes a prediction with its error, and the rest go on.

    Args:
        model: the model, on its device.
        items: images, with or without a reference; both kinds may stand in one list.
        batch_size: images a model call at most; default: as many as the device's token budget holds.
        workers: processes that decode and prepare images; 0 leaves it to those who call the model.
        text: read the score from the sentence that the model generates, not from its score head. A model that
            went through stage 1 only has no head and always does so.
        max_pixels: the most pixels an image may have.

    Returns:
        As many predictions as items, in their order; in a process group the whole list in every process.
    """
    share = {
        each.position: each.prediction(model.name)
        for batch in stream(
            Caller(model, text=text),
            items,
            total=len(items),
            batch_size=batch_size,
            workers=workers,
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
    batch_size: int | None,
    workers: int,
    text: bool,
    max_pixels: int,
) -> Summary:
    """Score every item and keep the summary alone, of all processes in every process; arguments as in `predict`."""
    share = Summary()
    for batch in stream(
        Caller(model, text=text),
        items,
        total=total,
        batch_size=batch_size,
        workers=workers,
        max_pixels=max_pixels,
    ):
        for each in batch:
            share.add(each.position, each.prediction(model.name))
    summary = Summary()
    for part in gather(share):
        summary.merge(part)
    return summary


def stream(
    caller: Caller,
    items: Iterable[Item],
    *,
    total: int | None,
    batch_size: int | None,
    workers: int,
    max_pixels: int,
    done: Callable[[int], bool] = lambda position: False,
) -> Iterator[list[Scored]]:
    """Score this process's share of the items, a batch at a time, with a bounded number of them in memory.

    Args:
        caller: what scores them.
        items: taken as they are needed.
        total: how many items there are, if known.
        batch_size: as in `predict`.
        workers: as in `predict`.
        max_pixels: as in `predict`.
        done: whether the item at a place is scored already; the same in every process.

    Yields:
        A batch's items in their order; batches that are done wholly are left out.
    """
    work = batches(
        caller,
        items,
        total=total,
        batch_size=batch_size,
        workers=workers,
        max_pixels=max_pixels,
        done=done,
    )
    count = 1 if caller.text else lanes(caller.model)
    if count == 1:
        scored: Iterator[list[Scored]] = (_score(caller, batch) for batch in work)
    else:
        scored = in_lanes(count, work, lambda: partial(_score, caller.another()))
    with progress("scoring", total) as bar:
        for each in scored:
            yield each
            bar.update(len(each))


def batches(
    caller: Caller,
    items: Iterable[Item],
    *,
    total: int | None,
    batch_size: int | None,
    workers: int,
    max_pixels: int,
    done: Callable[[int], bool] = lambda position: False,
) -> Iterator[Callable[[], "Ready"]]:
    """This process's share of the items: each batch is made ready for the model by whoever calls it, or by workers."""
    model = caller.model
    share = _share(
        items,
        partial(
            choose_batches,
            model.inputs,
            tokens_per_call=caller.tokens_per_call,
            batch_size=batch_size,
            max_pixels=max_pixels,
        ),
        done,
    )
    examples = Examples(model.inputs, max_pixels)
    pin = model.device.type == "cuda"
    if total is not None:
        workers = min(workers, math.ceil(total / (batch_size or 1)))
    if workers == 0:
        for batch in share:
            yield partial(examples.ready, batch, pin=pin)
        return
    in_hand: dict[int, list[Placed]] = {}  # by the first place: items stay in this process

    def asked() -> Iterator[list[Placed]]:
        for batch in share:
            in_hand[batch[0][0]] = batch
            yield batch

    loader: DataLoader[Ready] = DataLoader(
        examples,  # type: ignore[arg-type]  # only __getitem__ is used
        batch_sampler=asked(),
        num_workers=workers,
        collate_fn=_collect,
        pin_memory=pin,
    )
    for ready in _guarded(loader):
        yield partial(replace, ready, items=in_hand.pop(ready.first))


def progress(what: str, total: int | None) -> "tqdm[Any]":
    """A bar over this process's share of `total` images."""
    rank, processes = place()
    hidden = None if rank == 0 else True  # None: shown where stderr is a terminal
    share = None if total is None else math.ceil(total / processes)
    return tqdm(total=share, desc=what, unit="image", disable=hidden)


def choose_batches(
    inputs: Inputs,
    window: Sequence[Placed],
    tokens_per_call: int,
    batch_size: int | None = None,
    *,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> list[tuple[list[Placed], int]]:
    """Which items of a window share a model call, and the tokens of each call.

    Args:
        inputs: the model's.
        window: items in order; those that are known to fail are put together, and cost nothing.
        tokens_per_call: see `plan`.
        batch_size: images a model call at most, if anything but the tokens is to limit them.
        max_pixels: the most pixels an image may have.
    """
    good = [each for each in window if each[1].error is None]
    bad = [each for each in window if each[1].error is not None]
    pairs = [(item.image_path, item.reference_path) for _, item in good]
    costs = shapes(inputs, pairs, max_pixels=max_pixels)
    chosen: list[tuple[list[Placed], int]] = []
    for call in plan(inputs, costs, tokens_per_call):
        for part in _chunks(call, batch_size or len(call)):
            chosen.append(([good[i] for i in part], tokens(inputs, [costs[i] for i in part])))
    return chosen + [(part, 0) for part in _chunks(bad, batch_size or WINDOW)]


def _score(caller: Caller, batch: Callable[[], "Ready"]) -> list[Scored]:
    ready = batch()
    outcomes = ready.failed | dict(zip(ready.positions, score_batch(caller, ready), strict=True))
    return [
        Scored(position, item, ready.fingerprints[position], outcomes[position])
        for position, item in ready.items
    ]


def score_batch(caller: Caller, ready: "Ready") -> list[Outcome]:
    """The score of every example of a batch, or why it has none."""
    item_at = dict(ready.items)
    references = [known_by(item_at[position].reference_path) for position in ready.positions]
    return caller.score(ready.examples, references)


def _share(
    items: Iterable[Item],
    choose: Callable[[list[Placed]], list[tuple[list[Placed], int]]],
    done: Callable[[int], bool],
) -> Iterator[list[Placed]]:
    """The batches of this process, listed as they are asked for.

    Every process goes through all batches and gives each that is not done to the one with the least work so far,
    so that no two have to talk.
    """
    rank, processes = place()
    work = [0] * processes
    numbered = enumerate(items)
    while window := list(islice(numbered, WINDOW)):
        if all(done(position) for position, _ in window):
            continue
        for batch, cost in choose(window):
            if all(done(position) for position, _ in batch):
                continue
            least = work.index(min(work))
            work[least] += cost
            if least == rank:
                yield batch


def _chunks(whole: Sequence[Value], size: int) -> list[list[Value]]:
    return [list(whole[start : start + size]) for start in range(0, len(whole), size)]


class Examples:
    """What a worker makes of an item: its fingerprint, and an example or why there is none.

    Args:
        inputs: the model's.
        max_pixels: the most pixels an image may have.
    """

    def __init__(self, inputs: Inputs, max_pixels: int) -> None:
        self._inputs = inputs
        self._max_pixels = max_pixels
        # the last of each thread: one often serves several, and lanes must not drop each other's
        self._references: dict[int, tuple[Location, torch.Tensor]] = {}

    def __getitem__(self, placed: Placed) -> Made:
        position, item = placed
        # before the files are read: a run that goes on notices what changed from then on
        return position, item.fingerprint(), self.prepare(item)

    def ready(self, batch: list[Placed], *, pin: bool = False) -> "Ready":
        """A batch in one piece."""
        ready = replace(_collect([self[placed] for placed in batch]), items=batch)
        return ready.pin_memory() if pin else ready

    def prepare(self, item: Item) -> Example | str:
        """Decode an item's files and write its question; or say in one line why that cannot be."""
        if item.error is not None:
            return item.error
        try:
            reference = (
                None
                if item.reference_path is None
                else self._cut_reference(item.reference_path, item.reference or "")
            )
            return self._inputs.ask(self._cut(item.image_path, item.image), reference)
        except UserError as error:
            return str(error)
        except Exception as error:  # whatever one odd image does, the others are scored
            return f"{item.image} cannot be prepared: {type(error).__name__}: {error}"

    def _cut(self, location: Location, name: str) -> torch.Tensor:
        return self._inputs.cut(open_location(location, name, max_pixels=self._max_pixels))

    def _cut_reference(self, location: Location, name: str) -> torch.Tensor:
        last = self._references.get(get_ident())
        if last is None or last[0] != location:
            last = self._references[get_ident()] = location, self._cut(location, name)
        return last[1]


@dataclass(frozen=True)
class Ready:
    """A batch as it leaves a worker.

    Attributes:
        first: the place of its first item.
        positions: the places of those that the model reads, in order.
        examples: what the model reads of them.
        failed: the others, and why.
        fingerprints: of all of them, by place.
        items: all of them; they stay in the main process.
    """

    first: int
    positions: list[int]
    examples: list[Example]
    failed: dict[int, Outcome]
    fingerprints: dict[int, str]
    items: Sequence[Placed] = ()

    def __reduce__(self) -> tuple[Any, ...]:
        """On the way out of a worker the tiles are one tensor: each on its own would cost a file handle."""
        questions = [(e.mode, e.question, e.reference_tiles, len(e.pixel_values)) for e in self.examples]
        pixels = torch.cat([e.pixel_values for e in self.examples]) if questions else None
        return _arrived, (self.first, self.positions, questions, pixels, self.failed, self.fingerprints)

    def pin_memory(self) -> "Ready":
        """The same in memory that a GPU can read while the CPU goes on."""
        pinned = [replace(e, pixel_values=e.pixel_values.pin_memory()) for e in self.examples]
        return replace(self, examples=pinned)


def _arrived(
    first: int,
    positions: list[int],
    questions: list[tuple[Any, list[int], int, int]],
    pixels: torch.Tensor | None,
    failed: dict[int, Outcome],
    fingerprints: dict[int, str],
) -> Ready:
    parts = () if pixels is None else pixels.split([tiles for *_, tiles in questions])
    examples = [
        Example(mode, question, part, reference_tiles)
        for (mode, question, reference_tiles, _), part in zip(questions, parts, strict=True)
    ]
    return Ready(first, positions, examples, failed, fingerprints)


def _collect(made: list[Made]) -> Ready:
    examples = {position: result for position, _, result in made if isinstance(result, Example)}
    failed: dict[int, Outcome] = {position: result for position, _, result in made if isinstance(result, str)}
    fingerprints = {position: fingerprint for position, fingerprint, _ in made}
    return Ready(made[0][0], list(examples), list(examples.values()), failed, fingerprints)


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
