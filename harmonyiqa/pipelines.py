"""Flows that join rooms: score a manifest or take its predictions, and say how well they agree."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from harmonyiqa.errors import UserError

if TYPE_CHECKING:
    from harmonyiqa.data.manifest import Manifest, Row

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
    workers: int = 0,
    device: str | None = None,
) -> int:
    """Measure how well predictions agree with the scores of a manifest.

    Prints SRCC, KRCC and PLCC, raw and fitted, on all rows, per group and within method, with 95% intervals.
    Predictors that never see a pixel stand beside the model where the manifest names methods and contents.

    Args:
        manifest: Rows with a mos, as .csv, .jsonl or .parquet.
        predictions: A file that `harmonyiqa score` or `harmonyiqa baselines` wrote.
        model: Score the rows with this model instead: a folder, a hub id, or `bundled`.
        split: train, val, test or all. Default: test, or all where the manifest has no test rows.
        no_reference: With a model: score without the manifest's references.
        null_manifest: Where the pixel-free predictors learn. Default: the manifest's own train rows.
        bootstrap: Resamples behind each interval.
        seed: Seed of the resamples.
        out_json: Write every number here too.
        out_markdown: Write the printed table here too.
        batch_size: With a model: images a model call.
        workers: With a model: processes that decode images; 0 decodes between the model calls.
        device: With a model: cpu, cuda, ... Default: the best there is.

    Returns:
        0, or 1 if rows of the manifest could not be used; each kind is counted and named.

    Raises:
        UserError: if the arguments do not fit together, a file is wrong, or no row can be used.
    """
    # SciPy takes longer to load than `harmonyiqa --help` may take
    from harmonyiqa.data.manifest import read_manifest
    from harmonyiqa.data.predictions import read_predictions
    from harmonyiqa.evaluate.join import join
    from harmonyiqa.evaluate.summary import split_note, summarize
    from harmonyiqa.report.tables import to_json, to_markdown, write_text

    whole = read_manifest(manifest)
    split = split or ("test" if any(row.split == "test" for row in whole.rows) else "all")
    chosen = whole if split == "all" else whole.split(split)
    train = _train_rows(whole, null_manifest)
    notes = [split_note(whole.rows, split)]
    if predictions is not None and model is None:
        found = read_predictions(predictions)
    elif model is not None and predictions is None:
        from harmonyiqa import HarmonyIQA
        from harmonyiqa.scoring.engine import predict
        from harmonyiqa.scoring.items import items_from_manifest

        scorer = HarmonyIQA.from_pretrained(model, device=device)
        items = items_from_manifest(chosen, no_reference=no_reference)
        found = predict(scorer, items, batch_size=batch_size, workers=workers)
        if scorer.settings.mos_kind == "synthetic":
            notes.append("The model was trained on synthetic MOS.")
    else:
        raise UserError("give either --predictions FILE or --model MODEL, not both and not neither")
    joined = join(chosen, found, known=whole.rows)
    names = list(dict.fromkeys(prediction.model for prediction in found if prediction.model))
    if len(names) > 1:
        raise UserError(f"{predictions} holds predictions of {', '.join(names)}; give one model a file")
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
    return int(joined.unused > 0)


def _train_rows(manifest: "Manifest", null_manifest: str | None) -> "list[Row]":
    """Where the null predictors learn: train rows, or all rows of their own manifest without splits."""
    from harmonyiqa.data.manifest import read_manifest

    if null_manifest is None or Path(null_manifest).resolve() == manifest.path.resolve():
        return [row for row in manifest.rows if row.split == "train"]
    other = read_manifest(null_manifest)
    return other.split("train").rows if any(row.split for row in other.rows) else other.rows
