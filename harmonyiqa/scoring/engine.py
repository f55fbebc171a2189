"""The engine: items in, predictions out, in the same order; a batch of images is one model call.

In a torch process group (``torchrun``, ``accelerate launch``) the processes take turns at the batches. A
batch holds the same images however many processes there are, so scores do not depend on their number.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch
import torch.distributed
from PIL import Image
from torch.utils.data import DataLoader
from tqdm import tqdm

from harmonyiqa.data.predictions import Prediction
from harmonyiqa.errors import UserError
from harmonyiqa.images import DEFAULT_MAX_PIXELS, open_rgb
from harmonyiqa.model.inputs import Batch, Example, Inputs
from harmonyiqa.scoring.items import Item

if TYPE_CHECKING:
    from harmonyiqa import HarmonyIQA

Outcome = float | str  # a score, or why there is none
Key = TypeVar("Key")
Value = TypeVar("Value")


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
    outcomes: dict[int, Outcome] = {index: item.error for index, item in enumerate(items) if item.error}
    for ready in batches(
        model, items, "scoring", batch_size=batch_size, workers=workers, max_pixels=max_pixels
    ):
        outcomes |= ready.failed
        if ready.batch is not None:
            outcomes |= zip(ready.indexes, _outcomes(model, ready.batch, text), strict=True)
    outcomes = gather(outcomes)
    return [_prediction(item, outcomes[index], model.name) for index, item in enumerate(items)]


def batches(
    model: "HarmonyIQA", items: Sequence[Item], what: str, *, batch_size: int, workers: int, max_pixels: int
) -> Iterator["Ready"]:
    """This process's share of the items, ready for the model; a progress bar says `what` is done with them."""
    rank, processes = _place()
    shares = _batches(items, batch_size)[rank::processes]
    loader: DataLoader[Ready] = DataLoader(
        _Examples(items, model.inputs, max_pixels),  # type: ignore[arg-type]  # only __getitem__ is used
        batch_sampler=shares,
        num_workers=min(workers, len(shares)),
        collate_fn=_Collate(model.inputs),
    )
    hidden = None if rank == 0 else True  # None: shown where stderr is a terminal
    with tqdm(total=sum(map(len, shares)), desc=what, unit="image", disable=hidden) as bar:
        for ready in loader:
            yield ready
            bar.update(len(ready.failed) + len(ready.indexes))


def gather(share: dict[Key, Value]) -> dict[Key, Value]:
    """The shares of all processes as one."""
    processes = _place()[1]
    if processes == 1:
        return share
    shares: list[dict[Key, Value]] = [{}] * processes
    torch.distributed.all_gather_object(shares, share)
    return {key: value for each in shares for key, value in each.items()}


def _place() -> tuple[int, int]:
    """This process's rank, and how many there are."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def _batches(items: Sequence[Item], batch_size: int) -> list[list[int]]:
    """Indexes in order, FR and NR apart: their prompts differ in length, and padding costs time."""
    batches = []
    for full_reference in (False, True):
        indexes = [
            index
            for index, item in enumerate(items)
            if item.error is None and (item.reference_path is not None) == full_reference
        ]
        batches += [indexes[start : start + batch_size] for start in range(0, len(indexes), batch_size)]
    return batches


class _Examples:
    """What a worker makes of an index: an example, or why there is none."""

    def __init__(self, items: Sequence[Item], inputs: Inputs, max_pixels: int) -> None:
        self._items = items
        self._inputs = inputs
        self._max_pixels = max_pixels
        self._reference: tuple[Path, Image.Image] | None = None  # the last: one often serves several images

    def __getitem__(self, index: int) -> tuple[int, Example | str]:
        item = self._items[index]
        try:
            reference = None if item.reference_path is None else self._open_reference(item.reference_path)
            return index, self._inputs.prepare(
                open_rgb(item.image_path, max_pixels=self._max_pixels), reference
            )
        except UserError as error:
            return index, str(error)
        except Exception as error:  # whatever one odd image does, the others are scored
            return index, f"{item.image} cannot be prepared: {type(error).__name__}: {error}"

    def _open_reference(self, path: Path) -> Image.Image:
        if self._reference is None or self._reference[0] != path:
            self._reference = path, open_rgb(path, max_pixels=self._max_pixels)
        return self._reference[1]


@dataclass(frozen=True)
class Ready:
    """A batch as it leaves a worker.

    Attributes:
        indexes: which items it holds, in order.
        batch: what the model reads; None if all failed.
        failed: the others, and why.
    """

    indexes: list[int]
    batch: Batch | None
    failed: dict[int, Outcome]


class _Collate:
    """Examples to a batch, in the worker. A class, so that it can be sent to one."""

    def __init__(self, inputs: Inputs) -> None:
        self._inputs = inputs

    def __call__(self, results: list[tuple[int, Example | str]]) -> Ready:
        examples = {index: result for index, result in results if isinstance(result, Example)}
        failed: dict[int, Outcome] = {index: result for index, result in results if isinstance(result, str)}
        return Ready(
            list(examples), self._inputs.collate(list(examples.values())) if examples else None, failed
        )


def _outcomes(model: "HarmonyIQA", batch: Batch, text: bool) -> list[Outcome]:
    try:
        if text or not model.settings.has_score_head:
            return [_read_sentence(model, sentence) for sentence in model.predict_text(batch)]
        return [_finite(score) for score in model.predict(batch).tolist()]
    except torch.OutOfMemoryError as error:
        size = len(batch.input_ids)
        raise UserError(
            f"{size} images at a time do not fit into {model.device}: lower batch_size"
        ) from error


def _read_sentence(model: "HarmonyIQA", sentence: str) -> Outcome:
    try:
        return model.inputs.prompt.read_score(sentence)
    except UserError as error:
        return str(error)


def _finite(score: float) -> Outcome:
    return score if math.isfinite(score) else f"the model returned {score}, which is no score"


def _prediction(item: Item, outcome: Outcome, model: str) -> Prediction:
    if isinstance(outcome, str):
        return Prediction(item.image, item.reference, None, model, outcome)
    return Prediction(item.image, item.reference, outcome, model)
