"""Settings survive editing, and a wrong one is named."""

from pathlib import Path

import pytest

from harmonyiqa.errors import UserError
from harmonyiqa.rate.settings import PAIR_TEXTS, StudySettings, read_settings, write_settings


def test_what_is_written_is_read(tmp_path: Path) -> None:
    settings = StudySettings(title="<b>Wie natürlich?</b>", consent="One.\n\nTwo: yes", session_minutes=12.5)
    write_settings(settings, tmp_path)
    assert read_settings(tmp_path) == settings
    assert "One.\n" in (tmp_path / "settings.yaml").read_text(encoding="utf-8"), "paragraphs stay readable"
    assert StudySettings(**PAIR_TEXTS).labels == ["A looks better", "B looks better"]


def test_what_is_left_out_keeps_its_default(tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text("title: Ours\n", encoding="utf-8")
    assert read_settings(tmp_path) == StudySettings(title="Ours")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("titel: Ours", "unknown setting 'titel'"),
        ("- title", "must hold `name: value` lines"),
        ("title: [", "is not YAML"),
        ("title: yes", "title True must be text"),
        ("labels: [Bad]", "labels has 1 entries"),
        ("labels: [1, 2]", r"labels \[1, 2\] must hold texts"),
        ("criteria: [a, b]", "criteria"),
        ("criteria: {a: 1}", "criteria"),
        ("session_minutes: 0", "session_minutes 0"),
        ("session_minutes: long", "session_minutes 'long' must be a number"),
        ("break_minutes: -1", "break_minutes -1"),
        ("address: study.example.org", "address 'study.example.org' must look like"),
        ("address: https://example.org/study", "without a path"),
    ],
)
def test_a_wrong_setting_is_named_with_its_file(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=said) as caught:
        read_settings(tmp_path)
    assert "settings.yaml" in str(caught.value)


def test_a_folder_without_settings_is_no_study(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is no study: it has no settings\.yaml"):
        read_settings(tmp_path)
