"""Flows that join rooms: score a manifest or take its predictions, and say how well they agree."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from harmonyiqa.errors import UserError

if TYPE_CHECKING:
    from harmonyiqa import HarmonyIQA
    from harmonyiqa.data.manifest import Manifest, Row
    from harmonyiqa.data.predictions import Prediction
    from harmonyiqa.evaluate.join import Joined

logger = logging.getLogger(__name__)


def evaluate(
    manifest: str,
    predictions: str | None = None,
    model: str | None = None,
    against: str | None = None,
    split: str | None = None,
    no_reference: bool = False,
    null_manifest: str | None = None,
    seeds: int | None = None,
    kind: Literal["content", "method"] = "content",
    bootstrap: int = 1000,
    seed: int = 0,
    out_json: str | None = None,
    out_markdown: str | None = None,
    batch_size: int | None = None,
    probes: bool = False,
) -> int:
    """Measure how well predictions agree with the scores of a manifest.

    Prints SRCC, KRCC, PLCC and RMSE on all rows, per group, within method and within content, with 95% intervals,
    and ranks the algorithms. Predictors that never see a pixel stand beside the model where the manifest names
    methods and contents.

    Args:
        manifest: Rows with a mos, as .csv, .jsonl or .parquet.
        predictions: A file that `harmonyiqa score` or `harmonyiqa baselines` wrote.
        model: Score the rows with this model instead, on a GPU if there is one: a folder, a hub id, or
            `bundled`. To keep the scores, use `harmonyiqa score` and then --predictions.
        against: A second predictions file, compared with the first on the images that both have scored.
        split: train, val, test or all. Default: test, or all where the manifest has no test rows.
        no_reference: With a model: score without the manifest's references.
        null_manifest: Where the pixel-free predictors learn. Default: the manifest's own train rows.
        seeds: Measure on the test rows of this many random 4:1 splits of all rows instead, and give mean and
            deviation. Without predictions and model: the pixel-free predictors alone.
        kind: With seeds: splits by content (no scene in both parts) or per method (as in the paper).
        bootstrap: Resamples behind each interval.
        seed: Seed of the resamples.
        out_json: Write every number here too.
        out_markdown: Write the printed table here too.
        batch_size: With a model: images a model call at most. Default: as many as the device's token budget holds.
        probes: With a model: afterwards ask whether it works at all, a line of PASS or FAIL a probe.

    Returns:
        0, or 1 if rows of the manifest could not be used (each kind is counted and named), or a probe failed.

    Raises:
        UserError: if the arguments do not fit together, a file is wrong, or no row can be used.
    """
    # SciPy takes longer to load than `harmonyiqa --help` may take
    from harmonyiqa.data.manifest import read_manifest
    from harmonyiqa.data.split_files import trained_on_warning
    from harmonyiqa.evaluate.join import common
    from harmonyiqa.evaluate.summary import split_note, summarize, summarize_seeds
    from harmonyiqa.report.tables import to_json, to_markdown, write_text

    if probes and model is None:
        raise UserError("--probes asks a model: give --model MODEL")
    if (predictions is None) == (model is None) and (seeds is None or model is not None):
        raise UserError("give --predictions FILE or --model MODEL, one of the two")
    if seeds is not None and split is not None:
        raise UserError(f"seeds {seeds} and split {split!r} contradict each other: seeds split all rows anew")
    for name, value in (("bootstrap", bootstrap), ("batch_size", batch_size)):
        if value is not None and value < 1:
            raise UserError(f"{name} {value} must be at least 1")
    whole = read_manifest(manifest)
    split = split or ("test" if seeds is None and any(row.split == "test" for row in whole.rows) else "all")
    chosen = whole if split == "all" else whole.split(split)
    notes = [split_note(whole.rows, split)] if seeds is None else []
    joined: dict[str, Joined] = {}
    if model is not None:
        seen = trained_on_warning(model, chosen.rows)
        if seen is not None:
            logger.warning(seen)
            notes.append(seen)
        scorer = load_model(model)
        _join(joined, chosen, score_manifest(scorer, chosen, no_reference, batch_size), whole, model)
        if scorer.settings.mos_kind == "synthetic":
            notes.append("The model was trained on synthetic MOS.")
    for path in (predictions, against):
        if path is not None:
            from harmonyiqa.data.predictions import read_predictions

            _join(joined, chosen, read_predictions(path), whole, path)
    rows, scores = common(joined) if joined else ([row for row in whole.rows if row.mos is not None], {})
    problems = [problem for each in joined.values() for problem in each.problems]
    for problem in problems:
        logger.warning(problem)
    if len(joined) > 1:
        notes.append(f"{len(rows)} rows that both have scored, of {len(chosen.rows)}.")
    title = f"{Path(manifest).name}, {split} rows"
    if seeds is not None:
        evaluation = summarize_seeds(
            rows, scores, title=title, seeds=seeds, kind=kind, notes=[*notes, *problems]
        )
    else:
        train = train_rows(whole, null_manifest)
        evaluation = summarize(
            rows, scores, train, title=title, notes=[*notes, *problems], bootstrap=bootstrap, seed=seed
        )
    text = to_markdown(evaluation)
    if out_json is not None:
        write_text(to_json(evaluation), out_json)
    if out_markdown is not None:
        write_text(text, out_markdown)
    print(text, end="")
    unused = any(each.unused for each in joined.values())
    if probes:
        from harmonyiqa.pipelines.probes import run_probes

        asked = run_probes(scorer, chosen, no_reference=no_reference)
        print("\n".join(["", *(probe.line() for probe in asked)]))
        return int(unused or any(probe.passed is False for probe in asked))
    return int(unused)


def _join(
    joined: "dict[str, Joined]",
    chosen: "Manifest",
    predictions: "list[Prediction]",
    whole: "Manifest",
    source: str,
) -> None:
    """Add one model's predictions under its name and mode, and its file's too where two are called alike."""
    from harmonyiqa.evaluate.join import join

    names = list(dict.fromkeys(prediction.model for prediction in predictions if prediction.model))
    if len(names) > 1:
        raise UserError(f"{source} holds predictions of {', '.join(names)}; give one model a file")
    found = join(chosen, predictions, known=whole.rows)
    name = f"{names[0] if names else 'predictions'}, {found.mode}"
    joined[f"{name} ({source})" if name in joined else name] = found


def load_model(model: str | None) -> "HarmonyIQA":
    """A model by folder or hub id, the bundled one for None, on a GPU if there is one."""
    from harmonyiqa import HarmonyIQA
    from harmonyiqa.pipelines.score import pick_device

    return HarmonyIQA.from_pretrained(model, device=pick_device(None))


def score_manifest(
    model: "HarmonyIQA", manifest: "Manifest", no_reference: bool, batch_size: int | None
) -> "list[Prediction]":
    """Score every row, without its reference if so asked."""
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
