import pytest

from harmonyiqa.errors import UserError
from harmonyiqa.prompts import Prompt, load_prompt

PROMPT = load_prompt("harmony_v1")


@pytest.mark.parametrize(
    ("sentence", "score"),
    [
        ("The quality score is 63.40", 63.4),
        (" The quality score is 63.40.", 63.4),
        ("The quality score is 7", 7.0),
        ("The quality score is 100.00", 100.0),
        ("The quality score is 0.00", 0.0),
        ("The quality score is 100.01", None),
        ("The quality score is 634", None),
        ("The quality score is high", None),
        ("The quality score is 63.40.2", None),
        ("The quality score is -5", None),
        ("63.40", None),
        ("", None),
    ],
)
def test_a_score_is_read_only_from_a_whole_sentence(sentence: str, score: float | None) -> None:
    assert PROMPT.parse_score(sentence) == score


@pytest.mark.parametrize("mos", [0.0, 9.5, 28.09, 63.4, 100.0])
def test_a_written_score_reads_back(mos: float) -> None:
    assert PROMPT.parse_score(PROMPT.answer + PROMPT.score_text(mos)) == pytest.approx(mos, abs=0.005)


def test_the_question_ends_where_the_answer_begins() -> None:
    assert PROMPT.question("nr").endswith("assistant\n")
    assert PROMPT.question("fr").index("Reference image:") < PROMPT.question("fr").index("Composite image:")


def test_a_saved_prompt_loads_equal(tmp_path) -> None:
    PROMPT.save(tmp_path / "p.yaml")
    assert load_prompt(tmp_path / "p.yaml") == PROMPT


def test_an_unknown_prompt_names_the_shipped_ones() -> None:
    with pytest.raises(UserError, match=r"'harmny'.*harmony_v1"):
        load_prompt("harmny")


def test_a_prompt_without_its_image_is_refused() -> None:
    with pytest.raises(UserError, match=r"text.fr must hold <image> 2 time"):
        Prompt("p", 1, {"nr": "<image>", "fr": "<image>"}, "The quality score is", "<|im_end|>")


def test_a_file_that_is_no_prompt_is_named(tmp_path) -> None:
    (tmp_path / "p.yaml").write_text("name: p\ncolour: red\n")
    with pytest.raises(UserError, match=r"is not a prompt.*colour"):
        load_prompt(tmp_path / "p.yaml")
