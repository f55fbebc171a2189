"""What is known of a model once it is trained: every probe, and its agreement with the validation split.

For ``harmonyiqa evaluate --probes`` and the end of a training run, where one process of several asks for all.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import cycle, islice
from typing import TYPE_CHECKING

from harmonyiqa.data.manifest import Manifest, Row, evenly

if TYPE_CHECKING:
    from PIL import Image

    from harmonyiqa import HarmonyIQA
    from harmonyiqa.evaluate.probes import Probe
    from harmonyiqa.evaluate.tables import Result
    from harmonyiqa.model.inputs import Example

PHOTOS, PREDICTIONS = 16, 64  # images at most: spread evenly over the rows
_BATCH = 4


def run_probes(model: "HarmonyIQA", manifest: "Manifest", *, no_reference: bool = False) -> "list[Probe]":
    """All probes of `evaluate.probes`.

    Args:
        model: on its device; it stays as it was.
        manifest: rows to take photos (the references, where there are any) and labels from.
        no_reference: ask about one image, even where there are references.
    """
    import torch

    from harmonyiqa.evaluate import probes
    from harmonyiqa.images import open_mask, open_rgb
    from harmonyiqa.model import probes as weights

    rows = [row for row in manifest.rows if row.mos is not None]
    full = _has_references(rows, no_reference)
    some = evenly(rows, PHOTOS)
    photos = [open_rgb(manifest.resolve(row.reference or row.image)) for row in some]
    masks = [
        None if row.mask is None else open_mask(manifest.resolve(row.mask), photo.size)
        for row, photo in zip(some, photos, strict=True)
    ]

    def score(pictures: "Sequence[Image.Image]") -> list[float]:
        pairs = zip(pictures, cycle(photos))  # as many as photos, or three plain images
        return _scores(model, (model.prepare(image, photo if full else None) for image, photo in pairs))

    chosen = evenly(rows, PREDICTIONS)
    half = any(p.dtype in (torch.bfloat16, torch.float16) for p in model.backbone.parameters())
    examples = [model.prepare(photo) for photo in photos[: _BATCH - 1]]
    examples.append(model.prepare(photos[0], photos[0]))  # longer: the others are padded
    head = model.score_head is not None
    mos = [row.mos for row in chosen if row.mos is not None]
    return [
        probes.adapters(*weights.idle_adapters(model)),
        probes.gradient(*weights.without_gradient(model, examples[-2:], [mos[0], mos[-1]])),
        probes.plain_images(score, photos),
        probes.spread(_scores(model, _examples(model, manifest, chosen, full=full)), mos),
        probes.colour_shift(score, photos, masks),
        probes.merging(weights.merge_difference(model, examples) if head else None, half=half),
        probes.batching(weights.batch_difference(model, examples) if head else None, half=half),
    ]


def validate(
    model: "HarmonyIQA", manifest: "Manifest", *, no_reference: bool = False, most: int = 0
) -> "Result | None":
    """Correlations with the labels, each with its 95% interval by content, for the model's card.

    Args:
        model: on its device.
        manifest: the validation rows.
        no_reference: show one image, even where there are references.
        most: at most this many rows, spread evenly; 0 takes all.

    Returns:
        None if fewer than three images got a score.
    """
    import numpy as np

    from harmonyiqa.evaluate.tables import measure, measurement

    rows = [row for row in manifest.rows if row.mos is not None]
    rows = evenly(rows, most)
    full = _has_references(rows, no_reference)
    scores = np.array(_scores(model, _examples(model, manifest, rows, full=full)))
    scored = np.isfinite(scores)
    if scored.sum() < 3:
        return None
    measured = measurement([row for row, kept in zip(rows, scored, strict=True) if kept])
    everything = np.ones(int(scored.sum()), dtype=bool)
    return measure(measured, {"this model": scores[scored]}, {"All": everything})[0]


def _has_references(rows: "Sequence[Row]", no_reference: bool) -> bool:
    return not no_reference and all(row.reference is not None for row in rows)


def _examples(
    model: "HarmonyIQA", manifest: "Manifest", rows: "Sequence[Row]", *, full: bool
) -> "Iterator[Example]":
    from harmonyiqa.images import open_rgb

    for row in rows:
        reference = open_rgb(manifest.resolve(row.reference)) if full and row.reference else None
        yield model.prepare(open_rgb(manifest.resolve(row.image)), reference)


def _scores(model: "HarmonyIQA", examples: "Iterable[Example]") -> list[float]:
    """NaN where a sentence holds no score. Not by the engine, which calls all processes."""
    from harmonyiqa.model.probes import autocast

    found: list[float] = []
    waiting = iter(examples)
    with autocast(model):
        while batch := list(islice(waiting, _BATCH)):
            found += model.predict_or_nan(model.collate(batch)).tolist()
    return found
