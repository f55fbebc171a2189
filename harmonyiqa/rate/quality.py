"""How each rater works: agreement with the others, with themselves, with known answers, and haste."""

from collections import defaultdict
from dataclasses import dataclass
from statistics import fmean, median

import numpy as np

from harmonyiqa.errors import UserError
from harmonyiqa.metrics import srcc
from harmonyiqa.rate.store import Store

# Where a rater is called suspicious. People differ, so these are set to catch carelessness, not taste.
LOWEST_AGREEMENT = 0.3  # SRCC with the mean of the others
LARGEST_DRIFT = 1.2  # points between two ratings of one image, on average; at random 1.6 of five points
LOWEST_GOLDEN = 0.75  # share of right answers
SHORTEST_SECONDS = 0.8  # median time on an image
LARGEST_SHARE = 0.9  # of one label
_LEAST_VOTES = 20  # below this many, nothing is said about agreement, time and labels
_LEAST_REPEATS = 8  # the same for repeats: the mean of fewer passes the limit by chance
_LEAST_GOLDEN = 3  # and for golden images


@dataclass(frozen=True, slots=True)
class Vote:
    """The vote that counts for one presentation. Times: seconds since 1970, and milliseconds on screen."""

    rater: str
    position: int
    image: int
    second: int | None
    kind: str
    value: int
    revision: int
    session: int
    time: float
    milliseconds: int
    screen: str


@dataclass(frozen=True, slots=True)
class RaterReport:
    """One rater's work so far; None where there is too little of it, or nothing to compare.

    Attributes:
        rater: name.
        done: presentations voted on.
        total: presentations in all.
        sessions: sessions begun.
        seconds: median seconds an image was on the screen.
        agreement: SRCC with the mean rating of the others, over images that they rated too; -1 to 1.
        drift: mean absolute difference between the two ratings of repeated images, in points.
        golden_right: golden images rated within bounds.
        golden: golden images rated.
        counts: how often each point was given, the lowest first.
        suspicions: what looks careless, in words; empty if nothing does.
    """

    rater: str
    done: int
    total: int
    sessions: int
    seconds: float | None
    agreement: float | None
    drift: float | None
    golden_right: int
    golden: int
    counts: tuple[int, ...]
    suspicions: tuple[str, ...]


def votes(store: Store) -> list[Vote]:
    """Every vote that counts (the last one on each presentation), by rater and position."""
    rows = store.rows(
        "SELECT rater.name, vote.position, image, second, kind, value, max(revision) AS revision, "
        "vote.session, time, milliseconds, screen "
        "FROM vote "
        "JOIN presentation USING (rater, position) "
        "JOIN session ON session.rater = vote.rater AND session.number = vote.session "
        "JOIN rater ON rater.id = vote.rater "
        "GROUP BY vote.rater, vote.position ORDER BY vote.rater, vote.position"
    )
    return [Vote(*row) for row in rows]


def rater_reports(store: Store) -> list[RaterReport]:
    """A report on every rater, in the order of invitations. In pair mode, agreement is not computed."""
    by_rater: defaultdict[str, list[Vote]] = defaultdict(list)
    for vote in votes(store):
        by_rater[vote.rater].append(vote)
    agreement = _agreement(by_rater) if store.facts.mode == "rating" else {}
    return [
        _report(store, rater.name, store.totals[rater.id], by_rater[rater.name], agreement.get(rater.name))
        for rater in store.raters()
    ]


def _report(store: Store, rater: str, total: int, given: list[Vote], agreement: float | None) -> RaterReport:
    counted = [vote for vote in given if vote.kind != "training"]
    first = {vote.image: vote.value for vote in counted if vote.kind == "rating"}
    again = [
        abs(vote.value - first[vote.image])
        for vote in counted
        if vote.kind == "repeat" and vote.image in first
    ]
    known = [(store.images[vote.image], vote.value) for vote in counted if vote.kind == "golden"]
    right = sum((image.low or 0) <= value <= (image.high or 0) for image, value in known)
    counts = [0] * store.facts.points
    for vote in counted:
        counts[vote.value - 1] += 1
    seconds = median(vote.milliseconds for vote in counted) / 1000 if counted else None
    drift = fmean(again) if again else None

    suspicions = []
    if len(counted) >= _LEAST_VOTES:
        if agreement is not None and agreement < LOWEST_AGREEMENT:
            suspicions.append(f"agrees little with the others (SRCC {agreement:.2f})")
        if seconds is not None and seconds < SHORTEST_SECONDS:
            suspicions.append(f"very fast ({seconds:.1f} s an image)")
        if max(counts) > LARGEST_SHARE * len(counted):
            suspicions.append(f"nearly always the same answer ({max(counts) / len(counted):.0%})")
    if drift is not None and len(again) >= _LEAST_REPEATS and drift > LARGEST_DRIFT:
        suspicions.append(f"rates the same image differently (by {drift:.1f})")
    if len(known) >= _LEAST_GOLDEN and right < LOWEST_GOLDEN * len(known):
        suspicions.append(f"misses known answers ({right} of {len(known)} right)")
    return RaterReport(
        rater=rater,
        done=len(given),
        total=total,
        sessions=max((vote.session for vote in given), default=0),
        seconds=seconds,
        agreement=agreement,
        drift=drift,
        golden_right=right,
        golden=len(known),
        counts=tuple(counts),
        suspicions=tuple(suspicions),
    )


def _agreement(by_rater: dict[str, list[Vote]]) -> dict[str, float]:
    """SRCC of each rater with the mean of the others; left out where there is too little or no spread."""
    names = list(by_rater)
    images = sorted({vote.image for given in by_rater.values() for vote in given if vote.kind == "rating"})
    column = {image: index for index, image in enumerate(images)}
    table = np.full((len(names), len(images)), np.nan)
    for row, given in enumerate(by_rater.values()):
        for vote in given:
            if vote.kind == "rating":
                table[row, column[vote.image]] = vote.value
    present = ~np.isnan(table)
    sums, counts = np.nansum(table, axis=0), present.sum(axis=0)
    found = {}
    for row, name in enumerate(names):
        shared = present[row] & (counts > 1)
        if shared.sum() < _LEAST_VOTES:
            continue
        others = (sums - np.where(present[row], table[row], 0))[shared] / (counts[shared] - 1)
        try:
            found[name] = srcc(table[row, shared], others)
        except UserError:  # one answer for everything has no rank order
            continue
    return found
