"""A prompt is data with a version: load it, render it up to the score, read a score sentence back."""

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import yaml

from harmonyiqa.errors import UserError
from harmonyiqa.files import atomic_path, resource_folder

IMAGE = "<image>"
IMAGES_IN = {"nr": 1, "fr": 2}


@dataclass(frozen=True)
class Prompt:
    """The text around the images and the score.

    Attributes:
        name: name of the prompt.
        version: raised whenever a character changes; a saved model carries its own prompt.
        text: per mode, everything before the answer; `<image>` once ("nr") or twice ("fr", reference first).
        answer: the sentence up to the score. Its last token is the score slot (paper, section III-A).
        end: the special token that ends the answer.
    """

    name: str
    version: int
    text: dict[str, str]
    answer: str
    end: str

    def __post_init__(self) -> None:
        for mode, count in IMAGES_IN.items():
            if self.text.get(mode, "").count(IMAGE) != count:
                raise UserError(f"prompt {self.name}: text.{mode} must hold {IMAGE} {count} time(s)")

    def question(self, mode: Literal["nr", "fr"]) -> str:
        """Everything before the answer, ending in a line break."""
        return self.text[mode] + "\n"

    def score_text(self, mos: float) -> str:
        """The score as it follows `answer`: two decimals, since whole numbers would tie (`" 63.40"`)."""
        return f" {mos:.2f}"

    def parse_score(self, sentence: str) -> float | None:
        """The score in a generated sentence, or None if it holds no number from 0 to 100.

        >>> load_prompt("harmony_v1").parse_score("The quality score is 63.40")
        63.4
        """
        pattern = re.escape(self.answer) + r"\s*(\d{1,3}(?:\.\d+)?)(?![\d.]*\d)"
        match = re.match(pattern, sentence.strip())
        if match is None or float(match[1]) > 100:
            return None
        return float(match[1])

    def read_score(self, sentence: str) -> float:
        """The score in a generated sentence.

        Raises:
            UserError: it holds none.
        """
        score = self.parse_score(sentence)
        if score is None:
            raise UserError(f"the model's sentence holds no score: {sentence!r}")
        return score

    def save(self, path: str | Path) -> None:
        """Write the prompt as YAML."""
        with atomic_path(path) as part:
            part.write_text(
                yaml.safe_dump(asdict(self), sort_keys=False, allow_unicode=True), encoding="utf-8"
            )


def load_prompt(name_or_path: str | Path) -> Prompt:
    """Load a prompt that ships with the package by name, or any prompt by its file.

    Raises:
        UserError: there is no such prompt, or its keys are not those of `Prompt`.
    """
    path = Path(name_or_path)
    if path.suffix not in {".yaml", ".yml"}:
        path = resource_folder("prompts") / f"{name_or_path}.yaml"
    try:
        return Prompt(**yaml.safe_load(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        shipped = ", ".join(sorted(p.stem for p in resource_folder("prompts").glob("*.yaml")))
        raise UserError(
            f"there is no prompt {str(name_or_path)!r}; shipped: {shipped}; or give a .yaml file"
        ) from None
    except (TypeError, yaml.YAMLError) as error:
        raise UserError(f"{path} is not a prompt: {error}") from error
