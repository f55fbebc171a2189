"""Rankings from pair comparisons: Bradley-Terry scores of methods, with intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harmonyiqa.errors import UserError

_PRIOR = 0.1  # of one comparison, won and lost against every other: keeps a method that never lost finite


@dataclass(frozen=True, slots=True)
class Comparison:
    """One answer: of two methods' images of one scene, ``winner`` looked better."""

    winner: str
    loser: str
    content: str


@dataclass(frozen=True, slots=True)
class MethodScore:
    """A method's Bradley-Terry score.

    Attributes:
        method: name.
        score: natural logarithm of its strength; the mean over methods is 0. A beats B with probability
            1 / (1 + exp(B - A)).
        low: lower end of the 95% interval.
        high: upper end of the 95% interval.
        wins: comparisons won.
        comparisons: comparisons taken part in.
    """

    method: str
    score: float
    low: float
    high: float
    wins: int
    comparisons: int


def bradley_terry(
    comparisons: Sequence[Comparison], *, bootstrap: int = 1000, seed: int = 0
) -> list[MethodScore]:
    """Scores of all methods, the best first; intervals by bootstrap over scenes.

    The maximum-likelihood fit is choix's (`ilsr_pairwise_dense`). Each pair of methods gets 0.1 comparisons
    won and 0.1 lost beforehand, or a method that never lost would have no score.

    Args:
        comparisons: answers, of any number of raters.
        bootstrap: resamples of the scenes; answers on one scene stay together.
        seed: of the resamples.

    Raises:
        UserError: if there are fewer than two methods or no comparisons.

    Source: Bradley and Terry (1952), "Rank analysis of incomplete block designs: I"; Maystre and
    Grossglauser (2015), "Fast and accurate inference of Plackett-Luce models".
    """
    methods = sorted({name for each in comparisons for name in (each.winner, each.loser)})
    if len(methods) < 2:
        raise UserError(f"{len(comparisons)} comparisons of {len(methods)} methods: nothing to rank yet")
    index = {method: i for i, method in enumerate(methods)}
    contents = sorted({each.content for each in comparisons})
    place = {content: i for i, content in enumerate(contents)}
    wins = np.zeros((len(contents), len(methods), len(methods)))  # [scene, winner, loser]
    for each in comparisons:
        wins[place[each.content], index[each.winner], index[each.loser]] += 1
    whole = wins.sum(axis=0)
    scores = _fit(whole)
    rng = np.random.default_rng(seed)
    draws = rng.integers(0, len(contents), (bootstrap, len(contents)))
    spread = np.stack([_fit(wins[draw].sum(axis=0)) for draw in draws])
    low, high = np.percentile(spread, [2.5, 97.5], axis=0)
    ranked = [
        MethodScore(
            method,
            float(scores[i]),
            float(low[i]),
            float(high[i]),
            int(whole[i].sum()),
            int(whole[i].sum() + whole[:, i].sum()),
        )
        for method, i in index.items()
    ]
    return sorted(ranked, key=lambda each: -each.score)


def _fit(wins: np.ndarray) -> np.ndarray:
    """Scores (methods,) of a table [winner, loser]."""
    from choix import ilsr_pairwise_dense

    scores: np.ndarray = ilsr_pairwise_dense(wins + _PRIOR * (1 - np.eye(len(wins))))
    return scores - scores.mean()
