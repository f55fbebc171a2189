"""The terminal's table."""

from harmonyiqa.data.predictions import Prediction
from harmonyiqa.scoring.summary import Summary
from harmonyiqa.scoring.table import render as render_summary


def render(predictions: list[Prediction], note: str) -> str:
    return render_summary(Summary.of(predictions), note)


def scored(image: str, score: float, reference: str | None = None) -> Prediction:
    return Prediction(image, reference, score, "m")


def test_worst_first_then_failures_then_the_summary() -> None:
    predictions = [
        scored("good.jpg", 70.128),
        scored("bad.jpg", 9.5, "photo.jpg"),
        Prediction("a.jpg", None, None, "m", "a.jpg is an empty file"),
        Prediction("b.jpg", None, None, "m", "no reference named b.* in refs"),
    ]
    assert render(predictions, "model m").splitlines() == [
        "score  image",
        " 9.50  bad.jpg",
        "70.13  good.jpg",
        "failed:",
        "  a.jpg is an empty file",
        "  b.jpg: no reference named b.* in refs",
        "2 scored (1 against a reference), 2 failed, mean 39.81 on a scale of 0 to 100, higher is better; "
        "compare versions of one scene first",
        "model m",
    ]


def test_a_long_table_is_cut_and_says_so() -> None:
    failed = [Prediction(f"x{i}.jpg", None, None, "m", "broken") for i in range(21)]
    lines = render([scored(f"{i:03}.jpg", i) for i in range(100)] + failed, "").splitlines()
    assert "39.00  039.jpg" in lines
    assert "40.00  040.jpg" not in lines
    assert "... 60 more with better scores: --out FILE.csv lists every one" in lines
    assert "... 1 more that failed: --out FILE.csv lists every one" in lines


def test_nothing_scored_has_no_mean() -> None:
    assert render([Prediction("a", None, None, "m", "broken")], "n").splitlines()[-2] == "0 scored, 1 failed"


def test_a_file_name_cannot_command_the_terminal() -> None:
    text = render([scored("a\x1b[2J\nb\udce9.jpg", 1)], "")
    assert r"a\x1b[2J\nb\udce9.jpg" in text
