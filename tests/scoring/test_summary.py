"""The summary is what the whole list would give."""

from statistics import fmean, median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harmonyiqa.data.predictions import Prediction
from harmonyiqa.scoring.summary import Summary

scores = st.lists(st.none() | st.floats(0, 100), max_size=30)


def predictions(scores: list[float | None]) -> list[Prediction]:
    return [
        Prediction(f"{i:02}", "r" if i % 3 else None, score, "m", None if score is not None else "broken")
        for i, score in enumerate(scores)
    ]


@given(scores=scores, shown=st.integers(1, 40), shares=st.integers(1, 4))
def test_as_of_the_whole_list_however_it_was_shared(
    scores: list[float | None], shown: int, shares: int
) -> None:
    rows = predictions(scores)
    summary = Summary(shown)
    for rank in reversed(range(shares)):
        part = Summary(shown)
        for position in range(rank, len(rows), shares):
            part.add(position, rows[position])
        summary.merge(part)
    good = [row for row in rows if row.score is not None]
    bad = [row for row in rows if row.score is None]
    assert [kept.prediction for kept in summary.worst] == sorted(good, key=lambda r: (r.score, r.image))[
        :shown
    ]
    assert [kept.prediction for kept in summary.failures] == bad[:shown]
    assert all(rows[kept.position] is kept.prediction for kept in [*summary.worst, *summary.failures])
    assert (len(summary.scores), summary.failed) == (len(good), len(bad))
    assert summary.paired == sum(row.reference is not None for row in good)
    if good:
        assert summary.mean == fmean(row.score for row in good if row.score is not None)
        assert summary.median == pytest.approx(median(row.score for row in good if row.score is not None))
    else:
        assert summary.mean is summary.median is None
