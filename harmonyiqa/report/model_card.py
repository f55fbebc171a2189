"""The model card of a trained scorer: what it is, what it learned from, how well, and what it cannot do."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from harmonyiqa.config import ModelSettings, TrainSettings
from harmonyiqa.files import atomic_path


def write_model_card(
    path: Path, model: ModelSettings, run: TrainSettings, metrics: dict[str, Any], environment: dict[str, Any]
) -> None:
    """Write the card as Markdown with the hub's metadata block.

    Args:
        path: usually `README.md` in the model's folder.
        model: the trained model's settings.
        run: the settings of the run that made it.
        metrics: the run's `metrics.json`.
        environment: the run's `environment.json`.
    """
    templates = Environment(
        loader=PackageLoader("harmonyiqa.report"),
        autoescape=False,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    text = templates.get_template("model_card.md").render(
        model=model, run=run, metrics=metrics, environment=environment, data=Path(run.data.manifest).name
    )
    with atomic_path(path) as part:
        part.write_text(text, encoding="utf-8")
