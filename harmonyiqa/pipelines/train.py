"""``harmonyiqa train`` and the training scripts: train one stage, or AICT, then write the model card."""

import logging
from dataclasses import asdict
from pathlib import Path

from harmonyiqa.config import AictTrainSettings, TowerTrainSettings, TrainSettings
from harmonyiqa.errors import UserError

logger = logging.getLogger(__name__)


def train(settings: TrainSettings | AictTrainSettings | TowerTrainSettings, resume: bool = False) -> None:
    """Train one stage of the scorer, its vision tower by itself, or the harmonizer AICT.

    Args:
        settings: The run.
        resume: Go on from the newest checkpoint of the run folder.

    Raises:
        UserError: if the data or the start model do not fit the settings, or the run folder is taken.
    """
    if isinstance(settings, AictTrainSettings):
        _train_aict(settings, resume)
    elif isinstance(settings, TowerTrainSettings):
        from harmonyiqa.train.tower import train_tower

        train_tower(settings, resume=resume)
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


def read_settings(path: str) -> TrainSettings:
    """A stage's YAML file, or a shipped one by its name, checked as `harmonyiqa train` checks it.

    Raises:
        UserError: it is not there, or a setting is unknown or wrong.
    """
    from jsonargparse import ArgumentParser

    from harmonyiqa.files import resource_folder

    file = Path(path)
    if not file.exists():
        file = resource_folder("configs") / file.name
    if not file.exists():
        raise UserError(f"stage {path} does not exist; give YAML files as of configs/")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(TrainSettings)
    try:
        return TrainSettings(**vars(parser.instantiate(parser.parse_path(str(file)))))
    except Exception as error:  # jsonargparse's own errors, and those of our settings inside them
        raise UserError(f"stage {path}: {' '.join(str(error).split())}") from error


def check_same(settings: TrainSettings) -> None:
    """A finished run is kept only for the settings and the manifest that it was made with.

    Raises:
        UserError: these are others.
    """
    import yaml

    from harmonyiqa.files import sha256_of
    from harmonyiqa.train.runs import read_run

    folder, _, environment = read_run(settings)
    before = yaml.safe_load((folder / "settings.yaml").read_text(encoding="utf-8"))
    changed = sorted(name for name, value in asdict(settings).items() if before.get(name) != value)
    if environment["manifest_sha256"] != sha256_of(settings.data.manifest):
        changed.append(f"the content of {settings.data.manifest}")
    if changed:
        raise UserError(
            f"{folder} was trained with another {', '.join(changed)}: remove it, or choose another --out"
        )
