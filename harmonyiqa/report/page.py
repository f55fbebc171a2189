"""Predictions as one HTML file that needs nothing else: thumbnails, histogram, sorting, worst first."""

import base64
import io
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from harmonyiqa.data.predictions import Prediction
from harmonyiqa.files import atomic_path
from harmonyiqa.images import DEFAULT_MAX_PIXELS, ImageError
from harmonyiqa.scoring.items import Item
from harmonyiqa.scoring.locations import Location, open_location
from harmonyiqa.scoring.summary import Summary

_SIDE = 160  # pixels, the longer side of a thumbnail
_BINS = 20
_AT_A_TIME = 64  # pictures that are decoded, or wait for it
_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, slots=True)
class _Card:
    """One scored image on the page; the pictures are data URIs, None where the file is gone."""

    name: str
    score: float
    image: str | None
    reference: str | None
    has_reference: bool
    heat_map: str | None


@dataclass(frozen=True, slots=True)
class _Bar:
    """One bar of the histogram."""

    low: float
    high: float
    count: int
    share: float  # of the highest bar, 0..1


def write_page(
    summary: Summary,
    items: Iterable[Item],
    path: str | Path,
    *,
    title: str,
    model_note: str,
    heat_map: Callable[[str], Path] | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> None:
    """Write the page, atomically. It loads nothing: pictures, style and script are inside.

    Args:
        summary: of all predictions; the page shows as many of the worst scores and of the failures as it has kept.
        items: what was scored, in the summary's order, for the pictures.
        path: the HTML file.
        title: what was scored.
        model_note: what to know about the model, in a sentence.
        heat_map: where the heat map of an image lies, by its name.
        max_pixels: the most pixels that a picture may have to get a thumbnail.
    """
    kept = summary.worst
    rank = {each.position: number for number, each in enumerate(kept)}
    wanted = ((position, item) for position, item in enumerate(items) if position in rank)
    cards: dict[int, _Card] = {}

    def draw(found: tuple[int, Item]) -> tuple[int, _Card]:
        number = rank[found[0]]
        return number, _card(kept[number].prediction, found[1], heat_map, max_pixels)

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes without holding the interpreter's lock
        for some in iter(lambda: list(islice(wanted, _AT_A_TIME)), []):
            cards |= pool.map(draw, some)
    html = (
        environment()
        .get_template("predictions.html")
        .render(
            title=title,
            model_note=model_note,
            cards=[cards[number] for number in sorted(cards)],
            failures=[each.prediction for each in summary.failures],
            failed=summary.failed,
            count=len(summary.scores),
            mean=summary.mean,
            median=summary.median,
            bars=_histogram(summary.scores),
        )
    )
    with atomic_path(path) as part:
        # a lone surrogate in a file name has no UTF-8
        part.write_text(html, encoding="utf-8", errors="backslashreplace")


def environment() -> Environment:
    """What renders the HTML templates of this room; everything that is put in is escaped."""
    return Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _card(
    prediction: Prediction, item: Item, heat_map: Callable[[str], Path] | None, max_pixels: int
) -> _Card:
    heat = None if heat_map is None else heat_map(prediction.image)
    reference = item.reference_path
    return _Card(
        name=prediction.image,
        score=prediction.score or 0.0,
        image=thumbnail(item.image_path, max_pixels),
        reference=None if reference is None else thumbnail(reference, max_pixels),
        has_reference=reference is not None,
        heat_map=thumbnail(heat, max_pixels) if heat is not None and heat.exists() else None,
    )


def thumbnail(location: Location, max_pixels: int, side: int = _SIDE, quality: int = 80) -> str | None:
    """A smaller WebP as a data URI, or None if the image cannot be read any more."""
    try:
        image = open_location(location, "", max_pixels=max_pixels)
    except ImageError:
        return None
    image.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=2)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=quality)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _histogram(scores: Iterable[float]) -> list[_Bar]:
    """Counts on the whole scale 0-100; a score beyond an end counts there."""
    counts = [0] * _BINS
    for score in scores:
        counts[min(max(int(score * _BINS / 100), 0), _BINS - 1)] += 1
    highest = max(counts) or 1
    width = 100 / _BINS
    return [_Bar(i * width, (i + 1) * width, count, count / highest) for i, count in enumerate(counts)]
