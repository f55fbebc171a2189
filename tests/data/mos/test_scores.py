from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from harmonyiqa.data.mos.ratings import Ratings
from harmonyiqa.data.mos.scores import mean_opinion_scores, screen
from harmonyiqa.errors import UserError

Study = Callable[..., Ratings]


def test_an_example_checked_by_hand(study: Study) -> None:
    """Ten raters, four images; r9 gives i2 a 1.

    i0: one 5, nine 3. Mean 3.2, deviation sqrt(3.6/9) = .632, so the 5 is 2.85 deviations off. Moments: second .36,
    fourth 1.0512, kurtosis 8.11: not normal, so the limit is sqrt(20) = 4.47 and the 5 stays.
    i1: mean 3, deviation sqrt(12/9) = 1.155; second 1.2, fourth 3.6, kurtosis 2.5: normal, limit 2.31, 1 and 5 are
    2 off and stay.
    i2: mean 3.7, deviation sqrt(14.1/9) = 1.252; second 1.41, fourth 6.2457, kurtosis 3.14: normal, limit 2.50; the 1
    is 2.7 off: an outlier, one of four votes of r9, which is 25% and over 5%.
    """
    i0 = [5, 3, 3, 3, 3, 3, 3, 3, 3, 3]
    i1 = [1, 2, 2, 3, 3, 3, 3, 4, 4, 5]
    i2 = [3, 3, 3, 4, 4, 4, 5, 5, 5, 1]
    i3 = [2, 4, 3, 2, 4, 3, 2, 4, 3, 2]
    ratings = study(np.transpose([i0, i1, i2, i3]))
    screened = screen(ratings)
    found = {(int(ratings.rater[n]), int(ratings.image[n])) for n in np.flatnonzero(screened.outlier)}
    assert found == {(9, 2)}
    assert screened.rejected == {9: "25.0% of the votes are outliers, over 5%"}
    assert screened.valid.sum() == 36

    # r0 votes 5 1 3 2: mean 2.75, deviation sqrt(8.75/3) = 1.7078; so z of i0 is 2.25/1.7078
    z = [(np.array(v) - np.mean(v)) / np.std(v, ddof=1) for v in np.transpose([i0, i1, i2, i3])[:9]]
    assert z[0][0] == pytest.approx(1.31747, abs=1e-5)
    scores = mean_opinion_scores(ratings, screened.valid)
    assert scores.mos == pytest.approx(100 * (np.mean(z, axis=0) + 3) / 6)
    assert scores.votes.tolist() == [9, 9, 9, 9]
    assert scores.std == pytest.approx(np.std(z, axis=0, ddof=1) * 100 / 6)
    low, high = stats.t.interval(0.95, 8, np.mean(z, axis=0)[0], stats.sem(z)[0])
    assert scores.low[0] == pytest.approx(100 * (low + 3) / 6)
    assert scores.high[0] == pytest.approx(100 * (high + 3) / 6)


def test_two_raters_by_hand(study: Study) -> None:
    """1 2 3 is z -1 0 1; 2 4 3 is z -1 1 0. So z of the images is -1, .5, .5 and MOS 100 (z + 3)/6."""
    ratings = study([[1, 2, 3], [2, 4, 3]])
    scores = mean_opinion_scores(ratings, screen(ratings).valid)
    assert scores.mos == pytest.approx([100 / 3, 175 / 3, 175 / 3])
    assert scores.se == pytest.approx([0, 0.5 * 100 / 6, 0.5 * 100 / 6])


@pytest.mark.parametrize("shift", [-2.0, 0.1, 1 / 3, 7.0])
def test_without_screening_a_constant_added_to_one_rater_changes_nothing(
    honest: np.ndarray, study: Study, shift: float
) -> None:
    biased = honest.copy()
    biased[4] += shift
    mos = [
        mean_opinion_scores(r, screen(r, outliers=False).valid).mos for r in (study(honest), study(biased))
    ]
    assert mos[0] == pytest.approx(mos[1], rel=0, abs=1e-12)


def test_a_reversed_scale_reverses_mos(honest: np.ndarray, study: Study) -> None:
    there, back = study(honest), study(6 - honest)
    mos = [mean_opinion_scores(r, screen(r).valid).mos for r in (there, back)]
    assert mos[0] == pytest.approx(100 - mos[1], abs=1e-10)


@pytest.mark.parametrize("screening", [True, False])
def test_one_same_vote_throughout_is_rejected(honest: np.ndarray, study: Study, screening: bool) -> None:
    honest[3] = 3
    ratings = study(honest)
    screened = screen(ratings, outliers=screening)
    assert screened.rejected[3] == "the same vote throughout (3)" or "outliers" in screened.rejected[3]
    assert np.isfinite(mean_opinion_scores(ratings, screened.valid).mos).all()
    assert not screened.valid[ratings.rater == 3].any()


def test_a_vote_of_22_can_be_beyond_sqrt_20_and_of_21_cannot(study: Study) -> None:
    for raters, found in ((22, 1), (21, 0)):
        votes = np.full((raters, 3), 3.0)
        votes[0, 0] = 5
        assert screen(study(votes)).outlier.sum() == found


def test_a_rater_is_rejected_above_5_percent_not_at_it(study: Study) -> None:
    votes = np.full((40, 20), 3.0)
    votes[:, 1::2] = 4
    votes[0, 0] = 5
    assert screen(study(votes)).rejected == {}
    votes[0, 2] = 5
    assert list(screen(study(votes)).rejected) == [0]


def test_planted_random_and_reversed_raters_are_rejected(honest: np.ndarray, study: Study) -> None:
    honest[0] = np.random.default_rng(1).integers(1, 6, honest.shape[1])
    honest[1] = 6 - honest[1]
    screened = screen(study(honest))
    assert {0, 1} <= set(screened.rejected)
    assert len(screened.rejected) <= 4


def test_an_image_without_valid_votes_has_no_mos(study: Study) -> None:
    votes = np.array([[1, 2, np.nan], [2, 1, np.nan], [3, 3, 3]])
    ratings = study(votes)
    scores = mean_opinion_scores(ratings, screen(ratings).valid)
    assert np.isnan(scores.mos).tolist() == [False, False, True]
    assert scores.votes.tolist() == [2, 2, 0]


def test_a_single_vote_has_a_mos_and_no_interval(study: Study) -> None:
    ratings = study([[1, 2, 3], [2, 1, np.nan]])
    scores = mean_opinion_scores(ratings, screen(ratings).valid)
    assert np.isfinite(scores.mos).all()
    assert np.isnan([scores.std[2], scores.se[2], scores.low[2]]).all()


def test_nothing_left_is_told(study: Study) -> None:
    ratings = study([[3, 3], [4, 4]])
    with pytest.raises(UserError, match="screening leaves no vote"):
        mean_opinion_scores(ratings, screen(ratings).valid)


def test_a_rater_with_one_vote_is_rejected(study: Study) -> None:
    assert screen(study([[1, 2], [2, 1], [5, np.nan]])).rejected == {2: "only one vote"}
