from collections.abc import Callable

import krippendorff
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harmonyiqa.data.mos.ratings import Ratings
from harmonyiqa.data.mos.reliability import krippendorff_alpha, reliability

Study = Callable[..., Ratings]
NAN = np.nan

# Shrout and Fleiss (1979), table 2: four judges (rows here) on six targets; their ICCs in table 4
SHROUT_FLEISS = np.transpose(
    [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
)


def test_complete_tables_give_the_published_iccs(study: Study) -> None:
    found = reliability(study(SHROUT_FLEISS))
    assert (found.icc_agreement, found.icc_consistency) == (
        pytest.approx(0.29, abs=0.005),
        pytest.approx(0.71, abs=0.005),
    )
    assert found.icc_agreement_mean == pytest.approx(0.62, abs=0.005)
    assert found.icc_consistency_mean == pytest.approx(0.91, abs=0.005)
    assert found.votes_per_image == 4


def test_complete_tables_equal_the_mean_squares(honest: np.ndarray, study: Study) -> None:
    raters, images = honest.shape
    grand = honest.mean()
    between = raters * np.var(honest.mean(axis=0), ddof=1)
    judges = images * np.var(honest.mean(axis=1), ddof=1)
    residual = honest - honest.mean(axis=0) - honest.mean(axis=1, keepdims=True) + grand
    error = np.sum(residual**2) / ((raters - 1) * (images - 1))
    found = reliability(study(honest))
    assert found.icc_consistency == pytest.approx(
        (between - error) / (between + (raters - 1) * error), rel=1e-9
    )
    assert found.icc_consistency_mean == pytest.approx((between - error) / between, rel=1e-9)
    agreement = (between - error) / (between + (raters - 1) * error + raters * (judges - error) / images)
    assert found.icc_agreement == pytest.approx(agreement, rel=1e-9)


def test_missing_votes_hardly_move_the_iccs(study: Study) -> None:
    rng = np.random.default_rng(0)
    votes = rng.normal(0, 1, (1, 400)) + rng.normal(0, 0.5, (30, 1)) + rng.normal(0, 1, (30, 400))
    whole = reliability(study(votes))
    votes[rng.random(votes.shape) < 0.5] = NAN
    half = reliability(study(votes))
    assert half.icc_consistency == pytest.approx(whole.icc_consistency, abs=0.03)
    assert half.icc_agreement == pytest.approx(whole.icc_agreement, abs=0.03)
    assert half.votes_per_image == pytest.approx(15, abs=1)


def test_alpha_of_the_published_example(study: Study) -> None:
    """Krippendorff (2011), section D: four observers, twelve units, votes missing; interval alpha .849."""
    ratings = study(
        [
            [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
            [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
            [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
            [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
        ]
    )
    assert reliability(ratings).alpha == pytest.approx(0.849, abs=0.0005)


@settings(max_examples=40)
@given(seed=st.integers(0, 2**31), missing=st.floats(0, 0.6))
def test_alpha_equals_the_library(seed: int, missing: float) -> None:
    rng = np.random.default_rng(seed)
    votes = rng.integers(1, 6, (5, 12)).astype(float)
    votes[rng.random(votes.shape) < missing] = NAN
    votes[:2, :2] = [[1, 2], [4, 2]]
    unit = np.tile(np.arange(12), (5, 1))
    there = np.isfinite(votes)
    expected = krippendorff.alpha(reliability_data=votes, level_of_measurement="interval")
    assert krippendorff_alpha(unit[there], votes[there]) == pytest.approx(expected, abs=1e-10)


def test_raters_of_one_mind_agree_wholly_and_random_ones_not_at_all(study: Study) -> None:
    votes = np.tile(np.arange(50) % 5 + 1.0, (4, 1))
    same = reliability(study(votes))
    assert (same.icc_agreement, same.alpha) == (pytest.approx(1), pytest.approx(1))
    random = reliability(study(np.random.default_rng(0).integers(1, 6, (20, 500))))
    assert (random.icc_agreement, random.alpha) == (pytest.approx(0, abs=0.02), pytest.approx(0, abs=0.02))


def test_a_rater_bias_counts_as_disagreement_only_where_it_should(honest: np.ndarray, study: Study) -> None:
    biased = honest.copy()
    biased[:10] += 2
    there, back = reliability(study(honest)), reliability(study(biased))
    assert back.icc_consistency == pytest.approx(there.icc_consistency)
    assert back.icc_agreement < there.icc_agreement - 0.1
    assert back.alpha < there.alpha - 0.1


def test_what_does_not_exist_is_nan(study: Study) -> None:
    apart = reliability(study([[1, 2, NAN, NAN], [NAN, NAN, 3, 4]]))
    assert np.isnan([apart.icc_agreement, apart.icc_consistency, apart.alpha]).all()
    assert np.isnan(reliability(study([[3, 3], [3, 3]])).alpha)
