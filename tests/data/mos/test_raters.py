from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from harmonyiqa.data.mos.raters import report_raters
from harmonyiqa.data.mos.ratings import Ratings
from harmonyiqa.data.mos.scores import screen
from harmonyiqa.metrics import srcc

Study = Callable[..., Ratings]


def test_honest_raters_are_not_flagged(honest: np.ndarray, study: Study) -> None:
    ratings = study(honest)
    assert [report.flags for report in report_raters(ratings, screen(ratings))] == [""] * 20


def test_figures_equal_a_plain_computation(honest: np.ndarray, study: Study) -> None:
    honest[np.random.default_rng(3).random(honest.shape) < 0.3] = np.nan
    ratings = study(honest)
    screened = screen(ratings)
    valid = np.full(honest.shape, np.nan)
    valid[ratings.rater[screened.valid], ratings.image[screened.valid]] = ratings.rating[screened.valid]
    for i, report in enumerate(report_raters(ratings, screened)):
        rest = np.nanmean(np.delete(valid, i, axis=0), axis=0)
        there = np.isfinite(honest[i]) & np.isfinite(rest)
        assert report.agreement == pytest.approx(srcc(honest[i][there], rest[there]))
        assert report.bias == pytest.approx(np.mean(honest[i][there] - rest[there]))
        assert report.spread == pytest.approx(np.nanstd(honest[i], ddof=1))
        assert report.votes == np.isfinite(honest[i]).sum()


def test_planted_careless_raters_are_rejected_or_flagged(honest: np.ndarray, study: Study) -> None:
    honest[0] = np.random.default_rng(1).integers(1, 6, honest.shape[1])
    honest[1] = 6 - honest[1]
    honest[2] = 4
    ratings = study(honest)
    for screening in (True, False):
        reports = report_raters(ratings, screen(ratings, outliers=screening))
        careless = [report.rater for report in reports if report.rejected or report.flags]
        assert careless[:3] == ["r0", "r1", "r2"]
        assert reports[0].flags.startswith("hardly agrees") or reports[0].flags.startswith("disagrees")
        assert reports[1].flags.startswith("disagrees with the rest")
        assert reports[1].agreement < -0.8
        assert np.isnan(reports[2].agreement)
        assert sum(bool(report.flags) for report in reports[3:]) == 0


@pytest.mark.parametrize(
    ("shift", "said"), [(1.0, "votes higher than the rest"), (-1.0, "votes lower than the rest")]
)
def test_a_biased_rater_is_reported(honest: np.ndarray, study: Study, shift: float, said: str) -> None:
    honest[5] = np.clip(honest[5] + shift, 1, 5)
    ratings = study(honest)
    report = report_raters(ratings, screen(ratings))[5]
    assert report.flags == said
    assert np.sign(report.bias) == np.sign(shift)
    assert abs(report.bias) > 0.5


def test_few_random_votes_that_agree_by_chance_are_flagged(study: Study) -> None:
    """With 12 votes an SRCC of .5 is reached by one random rater in twenty: no proof of care."""
    rng = np.random.default_rng(0)
    votes = np.clip(np.round(np.linspace(1, 5, 12) + rng.normal(0, 0.3, (6, 12))), 1, 5)
    votes[0] = [1, 5, 2, 1, 4, 1, 2, 5, 4, 2, 5, 3]
    ratings = study(votes)
    report = report_raters(ratings, screen(ratings, outliers=False))[0]
    assert 0.2 < report.agreement < 2.33 / np.sqrt(11)
    assert report.flags == "hardly agrees with the rest"


def test_pace_is_the_median_gap_within_a_session(study: Study) -> None:
    ratings = study([[1, 2, 3, 4], [1, 2, 3, 5]])
    timed = replace(
        ratings,
        session=np.array([0, 0, 0, 1, 0, 0, 0, 0]),
        time=np.array([10.0, 3.0, 5.0, 900.0, np.nan, 1.0, np.nan, np.nan]),
    )
    assert report_raters(timed, screen(timed))[0].seconds == pytest.approx(3.5)
    assert np.isnan(report_raters(timed, screen(timed))[1].seconds)
    assert np.isnan(report_raters(ratings, screen(ratings))[0].seconds)
