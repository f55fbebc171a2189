"""Made-up rating studies."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from harmonyiqa.data.mos.ratings import Ratings


def table_of(votes: np.ndarray, lowest: float = 1, highest: float = 5) -> Ratings:
    """A study from a matrix (raters, images); NaN where a rater did not vote."""
    rater, image = np.nonzero(np.isfinite(votes))
    return Ratings(
        raters=[f"r{i}" for i in range(votes.shape[0])],
        images=[f"i{j}" for j in range(votes.shape[1])],
        rater=rater,
        image=image,
        rating=votes[rater, image].astype(np.float64),
        lowest=lowest,
        highest=highest,
        session=np.zeros(rater.size, dtype=np.intp),
    )


@pytest.fixture
def study() -> Callable[[Sequence[Sequence[float]] | np.ndarray], Ratings]:
    return lambda votes: table_of(np.asarray(votes, dtype=np.float64))


@pytest.fixture
def honest() -> np.ndarray:
    """20 raters on 200 images, five points, each with a bias and noise of its own."""
    rng = np.random.default_rng(0)
    quality = rng.uniform(1, 5, 200)
    bias = rng.normal(0, 0.2, (20, 1))
    return np.clip(np.round(quality + bias + rng.normal(0, 0.6, (20, 200))), 1, 5)
