"""``harmonyiqa cross``: train on one set, test on others, for every pair of sets (table VI of the paper)."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from harmonyiqa.errors import UserError
from harmonyiqa.pipelines.train import read_settings

if TYPE_CHECKING:
    from harmonyiqa.config import TrainSettings
    from harmonyiqa.data.manifest import Manifest
    from harmonyiqa.data.predictions import Prediction
    from harmonyiqa.evaluate.tables import Result

logger = logging.getLogger(__name__)

METRICS = ("srcc", "krcc", "plcc")


def cross(
    train: list[str],
    test: list[str],
    stages: list[str],
    out: str,
    name: str = "harmonyiqa",
    mode: Literal["nr", "fr"] = "nr",
    bootstrap: int = 1000,
    seed: int = 0,
    batch_size: int | None = None,
) -> int:
    """Train a model on each training set and test it on every other set: one command, one table.

    A run that was cut goes on where it stopped when the same command is given again: a trained model and a scored
    set are kept.

    Args:
        train: Manifests with train and val rows, as FILE or SET=FILE; without SET a file's name is its set's.
        test: Manifests with mos, likewise; a set is not tested by its own model.
        stages: YAML files of the training stages, in order: the first's start model is the first's, the next starts
            from what the one before left. Their manifest and run folder are replaced.
        out: Folder for the models, the predictions, cross.json and cross.md.
        name: What the tables call the model; `harmonyiqa tables --cross` looks for its row by it.
        mode: Score with one image (nr, as in the paper) or with the reference (fr).
        bootstrap: Resamples behind each interval.
        seed: Seed of the resamples.
        batch_size: Images a model call at most. Default: as many as the device's token budget holds.

    Returns:
        0, or 1 if images of a test set could not be scored; each has its row in the predictions.

    Raises:
        UserError: if a manifest or a stage is wrong, or there is no pair of two sets.
    """
    for option, value in (("bootstrap", bootstrap), ("batch_size", batch_size)):
        if value is not None and value < 1:
            raise UserError(f"{option} {value} must be at least 1")
    training, testing = _sets(train), _sets(test)
    pairs = [(a, b) for a in training for b in testing if a != b]
    if not pairs:
        raise UserError(
            f"sets {', '.join(training)} are trained and tested on alone: give --test another set"
        )
    settings = [read_settings(path) for path in stages]  # all are read before the first hour of training
    for number, each in enumerate(settings):
        if each.stage in [other.stage for other in settings[:number]]:
            raise UserError(f"stages: two files are for stage {each.stage}; give one for each stage")
    for manifest in training.values():
        for part in ("train", "val"):
            manifest.split(part)  # says so if there is none

    from harmonyiqa.evaluate.summary import interval_note
    from harmonyiqa.evaluate.tables import Evaluation
    from harmonyiqa.report.tables import to_json, to_markdown, write_text

    results: list[Result] = []
    notes: list[str] = []
    failed = 0
    for source, manifest in training.items():
        model = _train(source, manifest, settings, Path(out))
        for target in (b for a, b in pairs if a == source):
            predictions = _predict(
                model, testing[target], Path(out) / source / f"{target}_{mode}.csv", mode, batch_size
            )
            label = f"{_title(source)} -> {_title(target)}"
            measured, problems = _measure(
                label, name, manifest, testing[target], predictions, bootstrap, seed
            )
            results += measured
            notes += [f"{label}: {problem}" for problem in problems]
            failed += sum(prediction.score is None for prediction in predictions)
    evaluation = Evaluation(
        title=f"Cross-dataset evaluation of {name}, {mode.upper()}",
        notes=[
            "Trained on the train rows of the first set (checkpoint chosen on its val rows), tested on all rows of "
            "the second.",
            interval_note(
                all(r.contents is not None for r in results), bootstrap, seed, max(r.images for r in results)
            ),
            *notes,
        ],
        results=results,
        settings={"bootstrap": bootstrap, "seed": seed, "mode": mode, "stages": " ".join(stages)},
    )
    text = to_markdown(evaluation)
    write_text(to_json(evaluation), Path(out) / "cross.json")
    write_text(text, Path(out) / "cross.md")
    print(text, end="")
    return int(failed > 0)


def _sets(arguments: Sequence[str]) -> "dict[str, Manifest]":
    from harmonyiqa.data.manifest import read_manifest

    found = {}
    for argument in arguments:
        name, equals, path = argument.partition("=")
        if not equals or Path(argument).exists():
            name, path = Path(argument).stem, argument
        if name in found:
            raise UserError(f"set {name!r} is given twice: {argument}; write SET=FILE with two names")
        found[name] = read_manifest(path)
    return found


def _train(source: str, manifest: "Manifest", stages: "Sequence[TrainSettings]", out: Path) -> Path:
    """The model folder of a set, trained now or before."""
    from harmonyiqa.pipelines.train import check_same, train

    start: Path | None = None
    for stage in stages:
        folder = out / source / f"stage{stage.stage}"
        settings = replace(stage, out=str(folder), data=replace(stage.data, manifest=str(manifest.path)))
        if start is not None:
            settings = replace(settings, start=replace(stage.start, model=str(start)))
        if (folder / "metrics.json").exists():  # written last
            check_same(settings)
        else:
            train(settings, resume=(folder / "settings.yaml").exists())
        start = folder / "model"
    if start is None:
        raise UserError("stages: none given; name the YAML file of at least one")
    return start


def _predict(
    model: Path, manifest: "Manifest", path: Path, mode: str, batch_size: int | None
) -> "list[Prediction]":
    """Predictions of a set, made now or before."""
    from harmonyiqa.data.predictions import read_predictions, write_predictions
    from harmonyiqa.pipelines.evaluate import load_model, score_manifest

    if not path.exists():
        found = score_manifest(load_model(str(model)), manifest, mode == "nr", batch_size)
        write_predictions(found, path)
    return read_predictions(path)


def _measure(
    label: str,
    name: str,
    training: "Manifest",
    testing: "Manifest",
    predictions: "Sequence[Prediction]",
    bootstrap: int,
    seed: int,
) -> "tuple[list[Result], list[str]]":
    from harmonyiqa.evaluate.join import join
    from harmonyiqa.evaluate.null_predictors import null_predictors
    from harmonyiqa.evaluate.tables import measure, measurement, subsets

    joined = join(testing, predictions)
    if not joined.rows:
        raise UserError(f"{label}: no row of {testing.path} has both a MOS and a score")
    learned = [row for row in training.split("train").rows if row.mos is not None]
    predictors = {name: joined.scores, **null_predictors(learned, joined.rows)}
    whole = {"All": subsets(joined.rows)["All"]}
    measured = measure(measurement(joined.rows, bootstrap=bootstrap, seed=seed), predictors, whole, METRICS)
    return [replace(each, subset=label) for each in measured], joined.problems


def _title(name: str) -> str:
    from harmonyiqa.report.paper import SETS

    return SETS.get(name, name)
