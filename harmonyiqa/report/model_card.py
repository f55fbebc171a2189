"""The model card of a trained scorer: what it is, what it learned from, how well, and what it cannot do."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from harmonyiqa.config import AictTrainSettings, ModelSettings, TrainSettings
from harmonyiqa.evaluate.probes import Probe
from harmonyiqa.evaluate.tables import Result
from harmonyiqa.files import atomic_path
from harmonyiqa.report.tables import METRIC_TITLES, Footnotes, cell_text


def write_model_card(
    path: Path,
    model: ModelSettings,
    run: TrainSettings,
    metrics: dict[str, Any],
    environment: dict[str, Any],
    evaluation: Result | None = None,
    probes: Sequence[Probe] = (),
    license: str | None = None,
) -> None:
    """Write the card as Markdown with the hub's metadata block.

    Args:
        path: usually `README.md` in the model's folder.
        model: the trained model's settings.
        run: the settings of the run that made it.
        metrics: the run's `metrics.json`.
        environment: the run's `environment.json`.
        evaluation: agreement with the validation split, with intervals.
        probes: what the model passed and failed.
        license: of the model, by its hub name; without it the card says that it has to be named.
    """
    _write(
        path,
        "model_card.md",
        model=model,
        run=run,
        metrics=metrics,
        environment=environment,
        data=Path(run.data.manifest).name,
        photos=Path(run.photos.folder).name if run.photos else None,
        evaluation=evaluation,
        titles=METRIC_TITLES,
        cell_text=lambda cell: cell_text(cell, Footnotes()),
        probes=probes,
        license=license,
    )


def write_aict_card(
    path: Path, run: AictTrainSettings, metrics: dict[str, Any], environment: dict[str, Any]
) -> None:
    """Write the card of a trained AICT.

    Args:
        path: usually `README.md` in the model's folder.
        run: the settings of the run that made it.
        metrics: the run's `metrics.json`.
        environment: the run's `environment.json`.
    """
    data = Path(run.data.manifest).name
    _write(path, "aict_card.md", run=run, metrics=metrics, environment=environment, data=data)


def _write(path: Path, template: str, **values: Any) -> None:
    templates = Environment(
        loader=PackageLoader("harmonyiqa.report"),
        autoescape=False,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    with atomic_path(path) as part:
        part.write_text(templates.get_template(template).render(**values), encoding="utf-8")
