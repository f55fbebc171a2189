"""Harmonized images as one HTML file that needs nothing else: before and after, or every method ranked by its score."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from harmonyiqa.files import atomic_path
from harmonyiqa.images import DEFAULT_MAX_PIXELS
from harmonyiqa.report.page import environment, thumbnail
from harmonyiqa.report.tables import table

SHOWN = 200  # scenes on one page: beyond that a browser crawls
COMPOSITE, PHOTO = "copy", "untouched photo"
_SIDE = 480  # pixels, the longer side of a picture


@dataclass(frozen=True, slots=True)
class Version:
    """One method's result, and its score where one was asked for and could be given."""

    method: str
    path: Path
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Scene:
    """One composite with its versions.

    Attributes:
        name: as the page shows it.
        composite: the image before.
        versions: in any order.
        photo: the untouched photo, where it is known.
        photo_score: its score.
    """

    name: str
    composite: Path
    versions: tuple[Version, ...]
    photo: Path | None = None
    photo_score: float | None = None

    def ranked(self) -> list[Version]:
        """Best score first, the untouched photo among them; those without a score last."""
        every = list(self.versions)
        if self.photo is not None and self.photo_score is not None:
            every.append(Version(PHOTO, self.photo, self.photo_score))
        return sorted(every, key=lambda v: -math.inf if v.score is None else v.score, reverse=True)


@dataclass(frozen=True, slots=True)
class Standing:
    """A method over all scenes.

    Attributes:
        method: its name.
        scenes: that have a score of it.
        mean: of its scores.
        change: mean difference to the composite of the same scene; None where that has no score.
        best: scenes in which it is the best of all methods, the untouched photo not counted.
    """

    method: str
    scenes: int
    mean: float
    change: float | None
    best: int


def standings(scenes: Sequence[Scene]) -> list[Standing]:
    """Every method and the untouched photo, best mean score first."""
    scores: dict[str, list[float]] = {}
    changes: dict[str, list[float]] = {}
    wins: dict[str, int] = {}
    for scene in scenes:
        scored = {v.method: v.score for v in scene.ranked() if v.score is not None}
        for method, score in scored.items():
            scores.setdefault(method, []).append(score)
            if COMPOSITE in scored:
                changes.setdefault(method, []).append(score - scored[COMPOSITE])
        rivals = {method: score for method, score in scored.items() if method != PHOTO}
        if rivals:
            winner = max(rivals, key=lambda method: rivals[method])
            wins[winner] = wins.get(winner, 0) + 1
    found = [
        Standing(
            method,
            len(values),
            fmean(values),
            fmean(changes[method]) if method in changes else None,
            wins.get(method, 0),
        )
        for method, values in scores.items()
    ]
    return sorted(found, key=lambda standing: standing.mean, reverse=True)


def summary(scenes: Sequence[Scene]) -> str:
    """The standings as a Markdown table."""
    return table(
        ["method", "scenes", "mean score", "against the composite", "best in"],
        [
            [
                each.method,
                str(each.scenes),
                f"{each.mean:.2f}",
                "" if each.change is None else f"{each.change:+.2f}",
                "" if each.method == PHOTO else str(each.best),
            ]
            for each in standings(scenes)
        ],
    )


def write_harmonized_page(
    scenes: Sequence[Scene], path: str | Path, *, note: str = "", max_pixels: int = DEFAULT_MAX_PIXELS
) -> None:
    """Write the page, atomically. It loads nothing: pictures, style and script are inside.

    A scene of one unscored version is shown as before and after under a slider; any other as a row, best score first.

    Args:
        scenes: in the order of the page, which shows the first `SHOWN`.
        path: the HTML file.
        note: what to know about the scores, in a sentence.
        max_pixels: the most pixels that a picture may have to be shown.
    """
    shown = []
    for scene in scenes[:SHOWN]:
        ranked = scene.ranked()
        slider = len(ranked) == 1 and ranked[0].score is None
        shown.append(
            {
                "name": scene.name,
                "slider": slider,
                "composite": _picture(scene.composite, max_pixels) if slider else None,
                "versions": [
                    {"method": v.method, "score": v.score, "picture": _picture(v.path, max_pixels)}
                    for v in ranked
                ],
            }
        )
    html = (
        environment()
        .get_template("harmonized.html")
        .render(
            scenes=shown,
            count=len(scenes),
            standings=standings(scenes),
            note=note,
            composite=COMPOSITE,
            photo=PHOTO,
        )
    )
    with atomic_path(path) as part:
        part.write_text(html, encoding="utf-8", errors="backslashreplace")


def _picture(path: Path, max_pixels: int) -> str | None:
    return thumbnail(path, max_pixels, _SIDE, quality=88)
