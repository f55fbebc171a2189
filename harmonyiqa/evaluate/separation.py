"""How well scores separate kinds of images: area under the ROC curve, and right pairs within a scene.

Both take the draws of `intervals.draw`, so that every predictor is judged on the same resamples.
"""

import numpy as np
from numpy.typing import NDArray

from harmonyiqa.evaluate.intervals import Resamples
from harmonyiqa.metrics import Floats

Mask = NDArray[np.bool_]


def resample_auc(scores: Floats, better: Mask, worse: Mask, resamples: Resamples) -> Floats:
    """`metrics.auc` of every resample, shape (resamples,); NaN where one of the two kinds was not drawn.

    Args:
        scores: (N,).
        better: (N,), which images should score high.
        worse: (N,), which should score low.
        resamples: draws of clusters over the N rows.
    """
    chosen = np.concatenate([np.flatnonzero(better), np.flatnonzero(worse)])
    counts = resamples.draws[:, resamples.cluster[chosen]].astype(np.float64)
    values, is_better = _joined(scores[better], scores[worse])
    return _auc(values, is_better, counts)


def _joined(better: Floats, worse: Floats) -> tuple[Floats, Mask]:
    return np.concatenate([better, worse]), np.arange(len(better) + len(worse)) < len(better)


def _auc(scores: Floats, is_better: Mask, counts: Floats) -> Floats:
    """AUC under each line of counts (resamples, N)."""
    _, group = np.unique(scores, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(group.max() + 1))
    high, low = (np.add.reduceat((counts * kind)[:, order], starts, 1) for kind in (is_better, ~is_better))
    below = np.cumsum(low, 1) - low / 2
    pairs = high.sum(1) * low.sum(1)
    return np.divide((high * below).sum(1), pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)


def pairs_within(
    groups: NDArray[np.generic], truth: Floats, gap: float
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Every pair of rows of one group whose truth differs by at least `gap`: the higher ones, and the lower ones.

    Args:
        groups: (N,), the scene of each row.
        truth: (N,).
        gap: in the unit of truth.
    """
    higher, lower = [], []
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        i, j = np.nonzero(truth[rows][:, None] - truth[rows][None] >= gap)
        higher.append(rows[i])
        lower.append(rows[j])
    return np.concatenate(higher), np.concatenate(lower)


def right(scores: Floats, higher: NDArray[np.intp], lower: NDArray[np.intp]) -> Floats:
    """1 for each pair in the right order, 0 for the wrong one, 0.5 for a tie, shape (pairs,)."""
    return (np.sign(scores[higher] - scores[lower]) + 1) / 2
