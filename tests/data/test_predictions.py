from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harmonyiqa.data.predictions import Prediction, read_predictions, write_predictions
from harmonyiqa.errors import UserError

word = st.text(st.characters(codec="utf-8", exclude_characters="\x00\r"), min_size=1)
scored = st.builds(
    Prediction,
    image=word,
    reference=st.none() | word,
    score=st.floats(allow_nan=False, allow_infinity=False),
    model=word,
    error=st.none(),
)
failed = st.builds(
    Prediction, image=word, reference=st.none() | word, score=st.none(), model=word, error=word
)


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(scored | failed, max_size=5))
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_predictions_come_back_equal(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, rows: list[Prediction]
) -> None:
    path = tmp_path_factory.mktemp("predictions") / f"p{suffix}"
    write_predictions(rows, path)
    assert read_predictions(path) == rows


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,scores\na.png,5\n", "has no column 'score'"),
        ("image,score\na.png,abc\n", "score 'abc' in row 1 of .* is not a number"),
        ("image,score\na.png,5\nb.png,nan\n", "score 'nan' in row 2"),
        ("image,score\n,5\n", "row 1 of .* names no image"),
        ("image,score,error\na.png,,\n", "row 1 of .* has neither a score nor an error"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        read_predictions(tmp_path / "p.csv")
