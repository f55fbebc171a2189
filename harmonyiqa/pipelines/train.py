"""``harmonyiqa train`` and the training scripts: train one stage, or AICT, then write the model card."""

import logging
from dataclasses import asdict

from harmonyiqa.config import AictTrainSettings, TrainSettings

logger = logging.getLogger(__name__)


def train(settings: TrainSettings | AictTrainSettings, resume: bool = False) -> None:
    """Train one stage of the scorer, or the harmonizer AICT, on a manifest with a train and a val split.

    Args:
        settings: The run.
        resume: Go on from the newest checkpoint of the run folder.

    Raises:
        UserError: if the data or the start model do not fit the settings, or the run folder is taken.
    """
    if isinstance(settings, AictTrainSettings):
        _train_aict(settings, resume)
    else:
        _train_scorer(settings, resume)


def _train_aict(settings: AictTrainSettings, resume: bool) -> None:
    from accelerate import PartialState  # slow imports wait until the settings are known to be good

    from harmonyiqa.report.model_card import write_aict_card
    from harmonyiqa.train.aict import train_aict
    from harmonyiqa.train.runs import read_run

    train_aict(settings, resume=resume)
    if PartialState().is_main_process:
        folder, metrics, environment = read_run(settings)
        write_aict_card(folder / "model" / "README.md", settings, metrics, environment)
        print(f"model: {folder / 'model'}")


def _train_scorer(settings: TrainSettings, resume: bool) -> None:
    from accelerate import PartialState

    from harmonyiqa.data.manifest import read_manifest
    from harmonyiqa.pipelines.probes import run_probes, validate
    from harmonyiqa.report.model_card import write_model_card
    from harmonyiqa.train.runs import read_run, write_json
    from harmonyiqa.train.scorer import train_scorer

    model = train_scorer(settings, resume=resume)
    if PartialState().is_main_process:
        folder, metrics, environment = read_run(settings)
        val = read_manifest(settings.data.manifest).split("val")
        alone = settings.data.mode == "nr"
        probes = run_probes(model, val, no_reference=alone)
        for probe in probes:
            logger.info(probe.line())
        write_json(folder / "probes.json", [asdict(probe) for probe in probes])
        evaluation = validate(model, val, no_reference=alone, most=settings.validation.max_images)
        write_model_card(
            folder / "model" / "README.md", model.settings, settings, metrics, environment, evaluation, probes
        )
        print(f"model: {folder / 'model'}")
