"""One table for a two-stage run: both stages, the pixel-free predictors and plain metrics on the test rows.

    python scripts/tiny_table.py work/test/manifest.csv runs/tiny_stage1/model runs/tiny_stage2/model \\
        --null_manifest work/train/manifest.csv --out_json results/tiny.json --out_markdown results/tiny.md

Every predictor is measured on the same rows, those that all of them scored. Decoys are images whose whole
photo was changed: there a plain comparison with the reference sees what should not count.
"""

import sys
from pathlib import Path

import numpy as np
from jsonargparse import auto_cli

from harmonyiqa import HarmonyIQA
from harmonyiqa.baselines.command import score_rows
from harmonyiqa.data.manifest import Manifest, read_manifest
from harmonyiqa.data.predictions import Prediction
from harmonyiqa.errors import UserError
from harmonyiqa.evaluate.join import common, join
from harmonyiqa.evaluate.null_predictors import null_predictors
from harmonyiqa.evaluate.summary import (
    METRIC_NOTE,
    interval_note,
    null_note,
    split_note,
    synthetic_mark,
    synthetic_notes,
)
from harmonyiqa.evaluate.tables import Chosen, Difference, Evaluation, difference, measure, measurement
from harmonyiqa.metrics import CORRELATIONS
from harmonyiqa.pipelines.evaluate import train_rows
from harmonyiqa.report.tables import (
    METRIC_TITLES,
    Footnotes,
    bullets,
    cell_text,
    difference_table,
    table,
    to_json,
    write_text,
)
from harmonyiqa.scoring.engine import predict
from harmonyiqa.scoring.items import items_from_manifest

DECOYS = "decoys"
TEXT_NR, TEXT_FR = "stage 1, text, NR", "stage 1, text, FR"
NR, FR = "stage 2, NR", "stage 2, FR"
CIEDE2000, PSNR = "CIEDE2000, whole image", "PSNR, whole image"


def main(
    manifest: str,
    stage1: str,
    stage2: str,
    null_manifest: str | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
    batch_size: int = 16,
    out_json: str | None = None,
    out_markdown: str | None = None,
) -> int:
    """Print the table.

    Args:
        manifest: Rows with mos, reference, method, content, and a decoy column.
        stage1: Model folder of stage 1, scored by its sentences.
        stage2: Model folder of stage 2, scored by its head.
        null_manifest: Where the pixel-free predictors learn. Default: the manifest's own train rows.
        bootstrap: Resamples behind each interval.
        seed: Seed of the resamples.
        batch_size: Images a model call.
        out_json: Write every number here.
        out_markdown: Write the table here.

    Returns:
        0, or 1 if rows could not be used.
    """
    whole = read_manifest(manifest)
    split = "test" if any(row.split == "test" for row in whole.rows) else "all"
    test = whole if split == "all" else whole.split("test")
    found = score_all(test, stage1, stage2, batch_size)
    joined = {name: join(test, predictions, known=whole.rows) for name, predictions in found.items()}
    rows, predictors = common(joined)
    train = [row for row in train_rows(whole, null_manifest) if row.mos is not None]
    nulls = null_predictors(train, rows)
    predictors |= nulls

    measured = measurement(rows, bootstrap=bootstrap, seed=seed)
    decoys = np.array([bool(row.extra.get("decoy")) for row in rows])
    everything = np.ones_like(decoys)

    def compare(first: str, second: str, subset: str, mask: Chosen) -> Difference:
        pair = (first, predictors[first]), (second, predictors[second])
        return difference(measured, *pair, subset=subset, mask=mask)

    evaluation = Evaluation(
        title=f"Two stages on {Path(manifest).name}, {split} rows ({synthetic_mark(rows)}MOS)",
        notes=[
            *synthetic_notes(rows),
            split_note(whole.rows, split),
            f"{len(rows)} rows that every predictor scored, {decoys.sum()} of them decoys: the "
            "whole photo was changed, which should not count.",
            interval_note(measured.clustered, bootstrap, seed, len(rows)),
            METRIC_NOTE,
            null_note(rows, train, bool(nulls)),
            *(f"{name}: {problem}" for name, each in joined.items() for problem in each.problems),
        ],
        results=[
            *measure(measured, predictors, {"All": everything}, metrics=tuple(CORRELATIONS)),
            *measure(measured, predictors, {DECOYS: decoys}, metrics=("srcc",)),
        ],
        differences=[
            compare(FR, CIEDE2000, DECOYS, decoys),
            compare(NR, TEXT_NR, "All", everything),
            *(compare(NR, name, "All", everything) for name in nulls),
        ],
        settings={
            "bootstrap": bootstrap,
            "seed": seed,
            "rows": len(rows),
            "stage1": stage1,
            "stage2": stage2,
        },
    )
    text = render(evaluation)
    if out_json is not None:
        write_text(to_json(evaluation), out_json)
    if out_markdown is not None:
        write_text(text, out_markdown)
    print(text, end="")
    return int(len(rows) < len(test.rows))


def score_all(test: Manifest, stage1: str, stage2: str, batch_size: int) -> dict[str, list[Prediction]]:
    """Predictions of both stages, without and with reference, and of the plain metrics."""
    alone, paired = items_from_manifest(test, no_reference=True), items_from_manifest(test)
    text, head = HarmonyIQA.from_pretrained(stage1), HarmonyIQA.from_pretrained(stage2)
    plain = score_rows(test, ["ciede2000", "psnr"])
    return {
        TEXT_NR: predict(text, alone, batch_size=batch_size, text=True),
        TEXT_FR: predict(text, paired, batch_size=batch_size, text=True),
        NR: predict(head, alone, batch_size=batch_size),
        FR: predict(head, paired, batch_size=batch_size),
        CIEDE2000: plain["ciede2000"],
        PSNR: plain["psnr"],
    }


def render(evaluation: Evaluation) -> str:
    """One line a predictor: four correlations on all rows, and SRCC on the decoys."""
    errors = Footnotes()
    on_decoys = {result.predictor: result for result in evaluation.results if result.subset == DECOYS}
    lines = [
        [
            result.predictor,
            *(cell_text(result.cells[metric], errors) for metric in CORRELATIONS),
            cell_text(on_decoys[result.predictor].cells["srcc"], errors),
        ]
        for result in evaluation.results
        if result.subset == "All"
    ]
    parts = [
        f"# {evaluation.title}",
        table(["predictor", *(METRIC_TITLES[metric] for metric in CORRELATIONS), "SRCC on decoys"], lines),
        difference_table(evaluation.differences, errors),
        bullets([*errors.lines(), *evaluation.notes]),
    ]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    try:
        sys.exit(auto_cli(main))
    except UserError as error:
        sys.exit(f"tiny_table: {error}")
