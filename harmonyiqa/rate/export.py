"""A study's votes as tables: ratings for `harmonyiqa mos`, checks, raters; in pair mode, comparisons and scores."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from harmonyiqa.data.tables import Value, write_table
from harmonyiqa.rate.pairs import Comparison, bradley_terry
from harmonyiqa.rate.quality import RaterReport, Vote, rater_reports, votes
from harmonyiqa.rate.store import Store

_CIRCUMSTANCES = (
    *("session", "time", "order", "milliseconds", "changes"),
    *("screen", "window", "pixel_ratio", "dark_steps", "light_steps"),
)
RATING_COLUMNS = ("rater", "image", "rating", *_CIRCUMSTANCES)
COMPARISON_COLUMNS = (
    *("rater", "winner", "loser", "side", "content", "winner_method", "loser_method"),
    *_CIRCUMSTANCES,
)


def write_tables(store: Store, path: Path) -> list[str]:
    """Write every table of a study: the votes at ``path``, the others beside it.

    `ratings.csv` is joined by `ratings_checks.csv` (where the study has repeats or golden images) and
    `ratings_raters.csv`; in pair mode `comparisons.csv` by `comparisons_scores.csv` and
    `comparisons_raters.csv`.

    Returns:
        What there is to say about them, a line each: how many votes, the ranking, suspicious raters.

    Raises:
        UserError: if a table cannot be written.
    """
    if store.facts.mode == "rating":
        rows = rating_rows(store)
        write_table(rows, path, RATING_COLUMNS)
        lines = [f"{path}: {len(rows)} ratings"]
        if checks := check_rows(store):
            write_table(checks, _beside(path, "checks"))
    else:
        rows = comparison_rows(store)
        write_table(rows, path, COMPARISON_COLUMNS)
        lines = [f"{path}: {len(rows)} comparisons"]
        if answers := _comparisons(rows):
            scores = bradley_terry(answers)
            write_table([asdict(score) for score in scores], _beside(path, "scores"))
            lines += [f"{s.score:+.3f} [{s.low:+.3f}, {s.high:+.3f}] {s.method}" for s in scores]
    reports = rater_reports(store)
    write_table(rater_rows(reports), _beside(path, "raters"))
    return lines + [f"{report.rater}: {each}" for report in reports for each in report.suspicions]


def rating_rows(store: Store) -> list[dict[str, Value]]:
    """One row a rater and image, as `harmonyiqa mos` reads them; training, repeats and golden images left out.

    Columns: ``rater``; ``image`` as the study's manifest writes it; ``rating`` 1..points; ``session`` from 1;
    ``time`` of the vote, ISO 8601 in UTC; ``order``, the place in the rater's sequence; ``milliseconds`` on
    the screen; ``changes`` after going back; and the screen: its size and the window's in CSS pixels, device
    pixels a CSS pixel, and how many dark and light steps of eight the rater could tell apart.
    """
    return [
        _row(vote, image=store.images[vote.image].name, rating=vote.value)
        for vote in votes(store)
        if vote.kind == "rating"
    ]


def check_rows(store: Store) -> list[dict[str, Value]]:
    """Repeats beside the ``first`` rating, golden images beside their bounds ``low`` and ``high``."""
    given = votes(store)
    first = {(vote.rater, vote.image): vote.value for vote in given if vote.kind == "rating"}
    return [
        _row(vote, image=image.name, rating=vote.value)
        | {"kind": vote.kind, "low": image.low, "high": image.high}
        | {"first": first.get((vote.rater, vote.image)) if vote.kind == "repeat" else None}
        for vote in given
        if vote.kind in ("repeat", "golden")
        for image in [store.images[vote.image]]
    ]


def rater_rows(reports: Sequence[RaterReport]) -> list[dict[str, Value]]:
    """One row a rater; ``suspicions`` is empty where nothing looks careless."""
    return [
        {
            "rater": report.rater,
            "done": report.done,
            "total": report.total,
            "sessions": report.sessions,
            "seconds": report.seconds,
            "agreement": report.agreement,
            "drift": report.drift,
            "golden_right": report.golden_right,
            "golden": report.golden,
            "suspicions": "; ".join(report.suspicions),
        }
        for report in reports
    ]


def comparison_rows(store: Store) -> list[dict[str, Value]]:
    """Pair mode: one row an answer; ``winner`` and ``loser`` are images, ``side`` where the winner stood."""
    rows = []
    for vote in votes(store):
        left, right = store.images[vote.image], store.images[vote.second or vote.image]
        winner, loser = (left, right) if vote.value == 1 else (right, left)
        rows.append(
            _row(vote, winner=winner.name, loser=loser.name, side="left" if vote.value == 1 else "right")
            | {"content": left.content, "winner_method": winner.method, "loser_method": loser.method}
        )
    return rows


def _comparisons(rows: Sequence[Mapping[str, Value]]) -> list[Comparison]:
    """The answers that say something about methods: two images of one method do not."""
    return [
        Comparison(str(row["winner_method"]), str(row["loser_method"]), str(row["content"]))
        for row in rows
        if row["winner_method"] != row["loser_method"]
    ]


def _beside(path: Path, what: str) -> Path:
    """`ratings.csv` -> `ratings_checks.csv`."""
    return path.with_stem(f"{path.stem}_{what}")


def _row(vote: Vote, **cells: Value) -> dict[str, Value]:
    screen = json.loads(vote.screen)
    return {
        "rater": vote.rater,
        **cells,
        "session": vote.session,
        "time": datetime.fromtimestamp(vote.time, UTC).isoformat(timespec="milliseconds"),
        "order": vote.position,
        "milliseconds": vote.milliseconds,
        "changes": vote.revision - 1,
        "screen": f"{screen['screen_width']}x{screen['screen_height']}",
        "window": f"{screen['window_width']}x{screen['window_height']}",
        "pixel_ratio": screen["pixel_ratio"],
        "dark_steps": screen["dark_steps"],
        "light_steps": screen["light_steps"],
    }
