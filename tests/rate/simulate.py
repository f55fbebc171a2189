"""Raters with a character, voting through the study's own rules."""

import json

import numpy as np

from harmonyiqa.rate.course import Course
from harmonyiqa.rate.settings import StudySettings
from harmonyiqa.rate.store import Store
from tests.rate.conftest import METHODS, SCREEN


def true_quality(store: Store) -> dict[int, float]:
    """What a perfect rater would say of each image, 1..5: methods differ most, scenes a little."""
    level = dict(zip(METHODS, (4.3, 3.0, 1.7), strict=True))
    scene = {
        content: 0.5 * np.sin(i)
        for i, content in enumerate(sorted({i.content for i in store.images.values()}))
    }
    return {image.id: level[image.method] + scene[image.content] for image in store.images.values()}


def rate_all(store: Store, characters: dict[int, str], sigma: float = 0.5, seed: int = 0) -> None:
    """Let raters (number -> good, random, same, fast) rate everything, one session after the other."""
    settings = StudySettings(session_minutes=100_000, break_minutes=0)
    course, quality = Course(store, settings), true_quality(store)
    points = store.facts.points
    for rater, character in characters.items():
        rng = np.random.default_rng([seed, rater])
        now = 1_700_000_000.0
        situation = course.consent(rater, now)
        while situation.stage != "done":
            if situation.stage == "check":
                situation = course.start_session(rater, json.dumps(SCREEN), now)
            now += 5
            (shown,) = store.rows(
                "SELECT * FROM presentation WHERE rater = ? AND position = ?", (rater, situation.done + 1)
            )
            if store.facts.mode == "pairs":
                gap = quality[shown["second"]] - quality[shown["image"]] + rng.normal(0, 2 * sigma)
                value = 2 if gap > 0 else 1
            elif character == "random":
                value = int(rng.integers(1, points + 1))
            elif character == "same":
                value = 3
            else:
                value = int(np.clip(round(quality[shown["image"]] + rng.normal(0, sigma)), 1, points))
            milliseconds = 300 if character == "fast" else int(rng.integers(2000, 6000))
            _, situation = course.vote(rater, situation.done + 1, 0, value, milliseconds, now)
