"""Predictions as one HTML file that needs nothing else: thumbnails, histogram, sorting, worst first."""

import base64
import io
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image
from tqdm import tqdm

from harmonyiqa.data.predictions import Prediction
from harmonyiqa.files import atomic_path
from harmonyiqa.images import DEFAULT_MAX_PIXELS, ImageError, open_rgb

SHOWN = 2000  # images on one page: beyond that a browser crawls
_SIDE = 160  # pixels, the longer side of a thumbnail
_BINS = 20
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
    predictions: Sequence[Prediction],
    path: str | Path,
    *,
    title: str,
    model_note: str,
    image_root: str | Path,
    heat_maps: Mapping[str, Path] | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> None:
    """Write the page, atomically. It loads nothing: pictures, style and script are inside.

    Args:
        predictions: in any order; the page shows every failure, and the ``SHOWN`` worst scores, worst first.
        path: the HTML file.
        title: what was scored.
        model_note: what to know about the model, in a sentence.
        image_root: the folder that image and reference names start from.
        heat_maps: the picture beside an image, by its name.
        max_pixels: the most pixels that a picture may have to get a thumbnail.
    """
    scored = sorted(
        ((p.score, p) for p in predictions if p.score is not None), key=lambda pair: (pair[0], pair[1].image)
    )
    scores = [score for score, _ in scored]
    root, heat = Path(image_root), heat_maps or {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes without holding the interpreter's lock
        cards = pool.map(lambda pair: _card(pair[0], pair[1], root, heat, max_pixels), scored[:SHOWN])
        shown = list(
            tqdm(cards, total=min(len(scored), SHOWN), desc="thumbnails", unit="image", disable=None)
        )
    html = (
        environment()
        .get_template("predictions.html")
        .render(
            title=title,
            model_note=model_note,
            cards=shown,
            failed=[p for p in predictions if p.score is None],
            count=len(scores),
            mean=fmean(scores) if scores else None,
            median=median(scores) if scores else None,
            bars=_histogram(scores),
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
    score: float, prediction: Prediction, root: Path, heat: Mapping[str, Path], max_pixels: int
) -> _Card:
    reference = prediction.reference
    return _Card(
        name=prediction.image,
        score=score,
        image=thumbnail(root / prediction.image, max_pixels),
        reference=None if reference is None else thumbnail(root / reference, max_pixels),
        has_reference=reference is not None,
        heat_map=thumbnail(heat[prediction.image], max_pixels) if prediction.image in heat else None,
    )


def thumbnail(path: Path, max_pixels: int, side: int = _SIDE, quality: int = 80) -> str | None:
    """A smaller WebP as a data URI, or None if the file cannot be read any more."""
    try:
        image = open_rgb(path, max_pixels=max_pixels)
    except ImageError:
        return None
    image.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=2)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=quality)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _histogram(scores: Sequence[float]) -> list[_Bar]:
    """Counts on the whole scale 0-100; a score beyond an end counts there."""
    counts = [0] * _BINS
    for score in scores:
        counts[min(max(int(score * _BINS / 100), 0), _BINS - 1)] += 1
    highest = max(counts) or 1
    width = 100 / _BINS
    return [_Bar(i * width, (i + 1) * width, count, count / highest) for i, count in enumerate(counts)]
