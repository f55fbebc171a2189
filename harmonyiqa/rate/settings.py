"""What raters read, and how long they work: `settings.yaml` in the study folder, made to be edited."""

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from harmonyiqa.errors import UserError
from harmonyiqa.files import atomic_path

SETTINGS = "settings.yaml"
FIVE_POINTS = ["Bad", "Poor", "Fair", "Good", "Excellent"]  # BT.500, five-grade quality scale
_HEADER = """\
# What raters read, and how long they work. Edit freely, also while the study runs: `harmonyiqa rate serve`
# reads this file when it starts. Only the number of labels is fixed (votes are counted on them).
"""


@dataclass(frozen=True)
class StudySettings:
    """The texts and times of a study.

    Attributes:
        title: heading of every page.
        address: how raters reach the server; invitations begin with it.
        consent: what a rater agrees to before anything else; blank lines part paragraphs.
        instructions: what to do; blank lines part paragraphs.
        criteria: what to weigh, name -> explanation (HarmonyIQA, section II-B).
        question: asked above the scale.
        labels: names of the points, worst first; key 1 is the first. Pair mode: the two choices.
        session_minutes: a session ends after the vote in which this time has passed, pauses not counted.
        break_minutes: the least rest between two sessions.
    """

    title: str = "How natural do these images look?"
    address: str = "http://127.0.0.1:8000"
    consent: str = (
        "You will look at images and rate them. We store your ratings, how long each one took, and the size "
        "of your screen, under a number instead of your name.\n\n"
        "Taking part is voluntary. You may stop at any time by closing the page."
    )
    instructions: str = (
        "In each image, one object came from another photo, and a program adjusted its colours. You see the "
        "program's result (harmonized), the image before (composite), and a real photo (reference).\n\n"
        "Rate the harmonized image as a whole. Trust your first impression; there is no right answer. Sit as "
        "you usually do, and dim lights that shine on the screen."
    )
    criteria: dict[str, str] = field(
        default_factory=lambda: {
            "Harmonization": "Do the object's colours, brightness and contrast fit the background?",
            "Authenticity": "Is the content still what it was? Nothing invented, nothing gone.",
            "Foreground detail": "Are the object's texture and edges kept?",
        }
    )
    question: str = "How good is the harmonized image?"
    labels: list[str] = field(default_factory=lambda: list(FIVE_POINTS))
    session_minutes: float = 30
    break_minutes: float = 10

    def __post_init__(self) -> None:
        for each in fields(self):
            _check_type(each.name, getattr(self, each.name))
        if not 2 <= len(self.labels) <= 9:
            raise UserError(f"labels has {len(self.labels)} entries; give 2 to 9, so that each has a key")
        if self.session_minutes <= 0 or self.break_minutes < 0:
            raise UserError(
                f"session_minutes {self.session_minutes:g}, break_minutes {self.break_minutes:g}: "
                "the first must be above 0, the second not below 0"
            )
        parts = urlsplit(self.address)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/"):
            raise UserError(
                f"address {self.address!r} must look like https://study.example.org, without a path"
            )


PAIR_TEXTS: dict[str, Any] = {
    "title": "Which image looks better?",
    "instructions": (
        "You see two versions of one image, A and B. In both, one object came from another photo, and a "
        "program adjusted its colours.\n\n"
        "Choose the version that looks better as a whole, even if the difference is small. Trust your first "
        "impression; there is no right answer. Sit as you usually do, and dim lights that shine on the screen."
    ),
    "question": "Which one looks better?",
    "labels": ["A looks better", "B looks better"],
}


def read_settings(study: Path) -> StudySettings:
    """Read a study's `settings.yaml`; what it leaves out keeps its default.

    Raises:
        UserError: if there is no such file, it is no YAML mapping, a name is unknown or a value does not fit.
    """
    path = study / SETTINGS
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{study} is no study: it has no {SETTINGS}; see `harmonyiqa rate create`") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} must hold `name: value` lines")
    known = [each.name for each in fields(StudySettings)]
    if unknown := [name for name in values if name not in known]:
        raise UserError(f"{path}: unknown setting {unknown[0]!r}; known are {', '.join(known)}")
    try:
        return StudySettings(**values)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def write_settings(settings: StudySettings, study: Path) -> None:
    """Write `settings.yaml`."""
    text = yaml.dump(asdict(settings), Dumper=_Readable, sort_keys=False, allow_unicode=True, width=1000)
    with atomic_path(study / SETTINGS) as part:
        part.write_text(_HEADER + text, encoding="utf-8")


class _Readable(yaml.SafeDumper):
    """Texts of several paragraphs as they read, not with line breaks escaped."""


_Readable.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, style="|" if "\n" in text else None
    ),
)


def _check_type(name: str, value: Any) -> None:
    """YAML gives any type; `labels: [1, 2]` or `title: no` would fail far from here."""
    if name in ("session_minutes", "break_minutes"):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UserError(f"{name} {value!r} must be a number of minutes")
    elif name == "labels":
        _check_texts(name, value)
    elif name == "criteria":
        if not isinstance(value, dict):
            raise UserError(f"criteria {value!r} must hold `name: explanation` lines")
        _check_texts(name, [*value, *value.values()])
    elif not isinstance(value, str):
        raise UserError(f"{name} {value!r} must be text; put it in quotes")


def _check_texts(name: str, values: Any) -> None:
    if not isinstance(values, list) or not all(isinstance(value, str) and value.strip() for value in values):
        raise UserError(f"{name} {values!r} must hold texts; put them in quotes")
