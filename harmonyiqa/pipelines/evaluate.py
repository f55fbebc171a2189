"""Flows that join rooms: score a manifest or take its predictions, and say how well they agree."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from harmonyiqa.errors import UserError

if TYPE_CHECKING:
    from harmonyiqa import HarmonyIQA
    from harmonyiqa.data.manifest import Manifest, Row
    from harmonyiqa.data.predictions import Prediction

logger = logging.getLogger(__name__)


def evaluate(
    manifest: str,
    predictions: str | None = None,
    model: str | None = None,
    split: str | None = None,
    no_reference: bool = False,
    null_manifest: str | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
    out_json: str | None = None,
    out_markdown: str | None = None,
    batch_size: int = 16,
    probes: bool = False,
) -> int:
    """Measure how well predictions agree with the scores of a manifest.

    Prints SRCC, KRCC and PLCC, raw and fitted, on all rows, per group and within method, with 95% intervals.
    Predictors that never see a pixel stand beside the model where the manifest names methods and contents.

    Args:
        manifest: Rows with a mos, as .csv, .jsonl or .parquet.
        predictions: A file that `harmonyiqa score` or `harmonyiqa baselines` wrote.
        model: Score the rows with this model instead, on a GPU if there is one: a folder, a hub id, or
            `bundled`. To keep the scores, use `harmonyiqa score` and then --predictions.
        split: train, val, test or all. Default: test, or all where the manifest has no test rows.
        no_reference: With a model: score without the manifest's references.
        null_manifest: Where the pixel-free predictors learn. Default: the manifest's own train rows.
        bootstrap: Resamples behind each interval.
        seed: Seed of the resamples.
        out_json: Write every number here too.
        out_markdown: Write the printed table here too.
        batch_size: With a model: images a model call.
        probes: With a model: afterwards ask whether it works at all, a line of PASS or FAIL a probe.

    Returns:
        0, or 1 if rows of the manifest could not be used (each kind is counted and named), or a probe failed.

    Raises:
        UserError: if the arguments do not fit together, a file is wrong, or no row can be used.
    """
    # SciPy takes longer to load than `harmonyiqa --help` may take
    from harmonyiqa.data.manifest import read_manifest
    from harmonyiqa.data.predictions import read_predictions
    from harmonyiqa.evaluate.join import join
    from harmonyiqa.evaluate.summary import split_note, summarize
    from harmonyiqa.report.tables import to_json, to_markdown, write_text

    if probes and model is None:
        raise UserError("--probes asks a model: give --model MODEL")
    if (predictions is None) == (model is None):
        raise UserError("give --predictions FILE or --model MODEL, one of the two")
    for name, value in (("bootstrap", bootstrap), ("batch_size", batch_size)):
        if value < 1:
            raise UserError(f"{name} {value} must be at least 1")
    whole = read_manifest(manifest)
    split = split or ("test" if any(row.split == "test" for row in whole.rows) else "all")
    chosen = whole if split == "all" else whole.split(split)
    train = train_rows(whole, null_manifest)
    notes = [split_note(whole.rows, split)]
    if predictions is not None:
        found = read_predictions(predictions)
    else:
        scorer = _load(model)
        found = _score(scorer, chosen, no_reference, batch_size)
        if scorer.settings.mos_kind == "synthetic":
            notes.append("The model was trained on synthetic MOS.")
    names = list(dict.fromkeys(prediction.model for prediction in found if prediction.model))
    if len(names) > 1:
        raise UserError(f"{predictions} holds predictions of {', '.join(names)}; give one model a file")
    joined = join(chosen, found, known=whole.rows)
    for problem in joined.problems:
        logger.warning(problem)
    evaluation = summarize(
        joined,
        f"{names[0] if names else 'predictions'}, {joined.mode}",
        train,
        title=f"{Path(manifest).name}, {split} rows",
        notes=notes,
        bootstrap=bootstrap,
        seed=seed,
    )
    text = to_markdown(evaluation)
    if out_json is not None:
        write_text(to_json(evaluation), out_json)
    if out_markdown is not None:
        write_text(text, out_markdown)
    print(text, end="")
    if probes:
        from harmonyiqa.pipelines.probes import run_probes

        found_by_probes = run_probes(scorer, chosen, no_reference=no_reference)
        print("\n".join(["", *(probe.line() for probe in found_by_probes)]))
        return int(joined.unused > 0 or any(probe.passed is False for probe in found_by_probes))
    return int(joined.unused > 0)


def _load(model: str | None) -> "HarmonyIQA":
    import torch

    from harmonyiqa import HarmonyIQA

    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return HarmonyIQA.from_pretrained(model, device=device)


def _score(
    model: "HarmonyIQA", manifest: "Manifest", no_reference: bool, batch_size: int
) -> "list[Prediction]":
    from harmonyiqa.scoring.engine import predict
    from harmonyiqa.scoring.items import items_from_manifest

    return predict(model, items_from_manifest(manifest, no_reference=no_reference), batch_size=batch_size)


def train_rows(manifest: "Manifest", null_manifest: str | None) -> "list[Row]":
    """Where the null predictors learn: train rows, or all rows of their own manifest without splits."""
    from harmonyiqa.data.manifest import read_manifest

    if null_manifest is None or Path(null_manifest).resolve() == manifest.path.resolve():
        return [row for row in manifest.rows if row.split == "train"]
    other = read_manifest(null_manifest)
    return other.split("train").rows if any(row.split for row in other.rows) else other.rows
