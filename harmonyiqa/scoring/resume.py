"""Scoring into a file: rows are journaled as they are made, and a run that was killed goes on where it stopped."""

import json
import logging
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from harmonyiqa import __version__
from harmonyiqa.data.predictions import Prediction, write_predictions
from harmonyiqa.files import enough_room
from harmonyiqa.scoring.caller import Caller
from harmonyiqa.scoring.engine import Scored, stream
from harmonyiqa.scoring.items import Item
from harmonyiqa.scoring.journal import Index, Journal, Row
from harmonyiqa.scoring.processes import gather, place, together
from harmonyiqa.scoring.sources import Source
from harmonyiqa.scoring.summary import Summary

if TYPE_CHECKING:
    from harmonyiqa import HarmonyIQA

log = logging.getLogger(__name__)
_BUDGET = "tokens_per_call"
_HELD_SECONDS = 0.5  # rows of this long are scored again where a process is killed
_SAMPLED = 4096  # values of each weight that its hash is made of: a model's billions would take minutes


def score_to_file(
    model: "HarmonyIQA",
    source: Source,
    out: str | Path,
    *,
    asked: Mapping[str, Any],
    restart: bool,
    batch_size: int | None,
    workers: int,
    text: bool,
    max_pixels: int,
) -> Summary:
    """Score every item and write the predictions, in the input's order.

    All processes of a group call it; the first writes the file and removes the journal, when all are done.

    Args:
        model: the model, on its device.
        source: what to score.
        out: the file of predictions.
        asked: what the user asked for that scores or names depend on.
        restart: forget the rows of an interrupted run.
        batch_size: as in `stream`.
        workers: as in `stream`.
        text: as in `predict`.
        max_pixels: as in `stream`.

    Returns:
        The summary; in the first process alone it holds anything.

    Raises:
        UserError: another run writes the same file, the interrupted run was another or had other inputs, or the
            disk is full. Rows that were written stay.
    """
    rank, _ = place()
    journal = Journal(out, rank)
    try:
        with together():  # an interrupted run goes on with its own budget: another would make other batches
            planned = journal.setting(_BUDGET) if rank == 0 and not restart else None
        caller = Caller(model, text=text, tokens_per_call=planned)
        with together():
            if rank == 0:
                settings = {**asked, "batch_size": batch_size, "text": text, "max_pixels": max_pixels}
                settings[_BUDGET] = caller.tokens_per_call
                journal.begin(settings | describe(model), restart=restart)
        with together():  # each reads what is there before any goes on writing
            if rank != 0:
                journal.lock()
            done = journal.read()
            if rank == 0 and done.count:
                _check_inputs(journal, done, source)
                log.info("%s: %s images are scored already, going on", journal.folder, f"{done.count:,}")
        counted = _Counted(source)
        with together():
            batches = stream(
                caller,
                counted,
                total=source.total,
                batch_size=batch_size,
                workers=workers,
                max_pixels=max_pixels,
                done=done.__contains__,
            )
            _record(batches, journal, model.name)
        with together():
            if rank != 0:
                journal.close()
            if len({(seen.count, seen.names) for seen in gather(counted)}) > 1:
                raise journal.refusal("has rows of changing inputs", "the processes listed different images")
        return _merge(journal, out, model.name, counted.count) if rank == 0 else Summary()
    finally:
        journal.close()


def _record(batches: Iterable[list[Scored]], journal: Journal, model: str) -> None:
    """Write rows as they come, those of a fast model some at a time: each then costs a third less."""
    held: list[Scored] = []
    written = time.monotonic()

    def write() -> None:
        journal.append(Row(each.position, each.fingerprint, each.prediction(model)) for each in held)
        held.clear()

    try:
        for batch in batches:
            held += batch
            if time.monotonic() - written > _HELD_SECONDS:
                write()
                written = time.monotonic()
    finally:
        write()


def describe(model: "HarmonyIQA") -> dict[str, Any]:
    """What scores depend on in a model, as JSON types: name, a hash of its weights and settings, device, version."""
    digest = blake2b(json.dumps(model.settings.to_dict(), sort_keys=True).encode(), digest_size=8)
    prompt = model.inputs.prompt
    digest.update("\n".join([prompt.question("nr"), prompt.question("fr"), prompt.answer]).encode())
    for name, weight in sorted(model.state_dict().items()):
        values = weight.detach().reshape(-1)
        some = values[:: max(1, len(values) // _SAMPLED)].contiguous().cpu()
        digest.update(f"{name} {tuple(weight.shape)} {weight.dtype}".encode())
        digest.update(some.view(torch.uint8).numpy().tobytes())
    return {
        "model": model.name,
        "model_hash": digest.hexdigest(),
        "device": f"{model.device.type}, {model.backbone.dtype}",
        "version": __version__,
    }


class _Counted:
    """Items on their way through: how many passed, and a checksum of their names."""

    def __init__(self, source: Source) -> None:
        self._source: Source | None = source
        self.count = 0
        self.names = 0

    def __iter__(self) -> Iterator[Item]:
        for item in self._source or ():
            self.count += 1
            self.names = zlib.crc32(f"{item.image}\0{item.reference}\0".encode(), self.names)
            yield item

    def __getstate__(self) -> dict[str, Any]:
        return {"_source": None, "count": self.count, "names": self.names}  # for other processes to compare


def _check_inputs(journal: Journal, done: Index, source: Source) -> None:
    items = enumerate(source)
    for row in done.rows(""):
        item = next((item for position, item in items if position == row.position), None)
        if item is not None and (item.image, item.reference, item.fingerprint()) == (
            row.prediction.image,
            row.prediction.reference,
            row.fingerprint,
        ):
            continue
        was, number = row.prediction.image, f"image {row.position + 1:,}"
        detail = f"{was} has another size, date or reference"
        if item is None:
            detail = f"{number} was {was}, now there are fewer"
        elif item.image != was:
            detail = f"{number} was {was}, now {item.image}"
        raise journal.refusal("has rows of other inputs", detail)


def _merge(journal: Journal, out: str | Path, model: str, total: int) -> Summary:
    """The journal's rows as the output file, in the input's order; then the journal goes."""
    done = journal.read()
    if done.count != total or done.end != total:
        raise journal.refusal("was damaged while it was written", f"{done.count:,} rows of {total:,}")
    summary = Summary()

    def rows() -> Iterator[Prediction]:
        for row in done.rows(model):
            summary.add(row.position, row.prediction)
            yield row.prediction

    with enough_room(out, f"every score is safe in {journal.folder}, the same command writes them again"):
        write_predictions(rows(), out)
    journal.remove()
    return summary
