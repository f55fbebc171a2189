"""The five rows of the paper's table IV: what each part contributes. Resumes where it stopped.

    python scripts/run_ablation.py --stage1 configs/tiny_stage1.yaml --stage2 configs/tiny_stage2.yaml

Rows: LoRA on the vision encoder only; on the LLM only; on both; both and the projector; all and the score head. The
first four are stage 1 and score by their sentence; the last is stage 2 on top of the fourth. A finished row is kept,
one that was cut goes on from its newest checkpoint. Any row alone: `harmonyiqa train` with its settings in ROWS.
"""

import sys
from dataclasses import replace
from pathlib import Path

from jsonargparse import auto_cli

from harmonyiqa.config import StartSettings, TrainableSettings, TrainSettings
from harmonyiqa.data.manifest import Manifest, read_manifest
from harmonyiqa.data.predictions import Prediction, read_predictions, write_predictions
from harmonyiqa.errors import UserError
from harmonyiqa.evaluate.join import common, join
from harmonyiqa.evaluate.summary import interval_note, split_note, synthetic_mark, synthetic_notes
from harmonyiqa.evaluate.tables import Evaluation, measure, measurement, subsets
from harmonyiqa.pipelines.evaluate import load_model, score_manifest
from harmonyiqa.pipelines.train import check_same, read_settings, train
from harmonyiqa.report.tables import Footnotes, bullets, cell_text, table, to_json, write_text

HEAD = "all and score head"
# name: (stage, vision, llm, projector)
ROWS: dict[str, tuple[int, str, str, bool]] = {
    "LoRA vision": (1, "lora", "frozen", False),
    "LoRA LLM": (1, "frozen", "lora", False),
    "LoRA both": (1, "lora", "lora", False),
    "LoRA both and projector": (1, "lora", "lora", True),
    HEAD: (2, "lora", "lora", True),
}


def main(
    stage1: str = "configs/tiny_stage1.yaml",
    stage2: str = "configs/tiny_stage2.yaml",
    out: str = "runs/ablation",
    manifest: str | None = None,
    split: str = "test",
    bootstrap: int = 1000,
    max_steps: int = 0,
    batch_size: int = 16,
) -> int:
    """Train what is missing, score the test rows, print the table; files go to the run folder.

    Args:
        stage1: Settings of the first four rows.
        stage2: Settings of the last row; it starts from the fourth.
        out: Folder of the runs, the predictions and the table.
        manifest: Another manifest than that of the settings.
        split: The rows to measure on; never those that chose a checkpoint.
        bootstrap: Resamples behind each interval.
        max_steps: Optimiser steps of each row; 0 follows the settings.
        batch_size: Images a model call when scoring.
    """
    folder = Path(out)
    settings = {1: read_settings(stage1), 2: read_settings(stage2)}
    whole = read_manifest(manifest or settings[2].data.manifest)
    rows = whole.split(split)
    joined = {}
    for name in ROWS:
        run = run_of(name, settings, folder, manifest, max_steps)
        if (Path(run.out) / "probes.json").exists():  # written last
            check_same(run)
        else:
            train(run, resume=Path(run.out).exists())
            _predictions_file(run).unlink(missing_ok=True)  # those of an earlier model
        joined[name] = join(rows, predictions(run, rows, batch_size), known=whole.rows)
    kept, scores = common(joined)
    measured = measurement(kept, bootstrap=bootstrap)
    evaluation = Evaluation(
        title=f"Ablation on {whole.path.name}, {split} rows ({synthetic_mark(kept)}MOS)",
        notes=[
            *synthetic_notes(kept),
            split_note(whole.rows, split),
            f"{len(kept)} rows that every model scored, {'without' if _alone(settings[2]) else 'with'} reference.",
            interval_note(measured.clustered, bootstrap, 0, len(kept)),
        ],
        results=measure(measured, scores, subsets(kept), metrics=("srcc", "plcc")),
        settings={"stage1": stage1, "stage2": stage2, "bootstrap": bootstrap, "rows": len(kept)},
    )
    text = render(evaluation)
    write_text(to_json(evaluation), folder / "ablation.json")
    write_text(text, folder / "ablation.md")
    print(text, end="")
    return int(len(kept) < len(rows.rows))


def run_of(
    name: str, settings: dict[int, TrainSettings], folder: Path, manifest: str | None, max_steps: int
) -> TrainSettings:
    """The settings of one row."""
    stage, vision, llm, projector = ROWS[name]
    base = settings[stage]
    trainable = TrainableSettings(vision, llm, projector, base.trainable.lora)  # type: ignore[arg-type]
    start = base.start
    if stage == 2:  # the head belongs to a model that learned to say the score
        fourth = folder / _slug("LoRA both and projector") / "model"
        start = replace(start, model=str(fourth))
    return replace(
        base,
        out=str(folder / _slug(name)),
        data=replace(base.data, manifest=manifest or base.data.manifest),
        start=StartSettings(**vars(start)),
        trainable=trainable,
        max_steps=max_steps or base.max_steps,
    )


def predictions(run: TrainSettings, rows: Manifest, batch_size: int) -> list[Prediction]:
    """Scores of the rows, from their file if it is there."""
    file = _predictions_file(run)
    if not file.exists():
        model = load_model(str(Path(run.out) / "model"))
        write_predictions(score_manifest(model, rows, _alone(run), batch_size), file)
    return read_predictions(file)


def render(evaluation: Evaluation) -> str:
    """One line a row of the table, SRCC and PLCC on each subset."""
    errors = Footnotes()
    names = list(dict.fromkeys(result.subset for result in evaluation.results))
    found = {(result.predictor, result.subset): result.cells for result in evaluation.results}
    header = ["trained", *(f"{metric}, {name}" for name in names for metric in ("SRCC", "PLCC"))]
    lines = [
        [row, *(cell_text(found[row, name][metric], errors) for name in names for metric in ("srcc", "plcc"))]
        for row in ROWS
    ]
    parts = [
        f"# {evaluation.title}",
        table(header, lines),
        bullets([*errors.lines(), *evaluation.notes]),
    ]
    return "\n\n".join(parts) + "\n"


def _predictions_file(run: TrainSettings) -> Path:
    return Path(f"{run.out}.csv")


def _alone(run: TrainSettings) -> bool:
    return run.data.mode == "nr"


def _slug(name: str) -> str:
    return name.lower().replace(" ", "_")


if __name__ == "__main__":
    try:
        sys.exit(auto_cli(main))
    except UserError as error:
        sys.exit(f"run_ablation: {error}")
