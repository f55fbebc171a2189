"""``harmonyiqa baselines``: score a manifest with plain metrics, as predictions that ``evaluate`` reads."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harmonyiqa.data.manifest import Manifest, Row, read_manifest
from harmonyiqa.data.predictions import Prediction, write_predictions
from harmonyiqa.errors import UserError

if TYPE_CHECKING:
    from harmonyiqa.baselines.full_reference import Pixels


def baselines(manifest: str, out: str, metrics: str = "psnr,ciede2000", split: str = "all") -> int:
    """Score images against their references with plain metrics, one predictions file a metric.

    Every score is oriented so that higher is better (CIEDE2000 is negated).

    Args:
        manifest: Rows with a reference, as .csv, .jsonl or .parquet.
        out: Folder for the files, one a metric: `psnr.csv`, `ciede2000.csv`.
        metrics: Names with commas between them: psnr, ciede2000.
        split: train, val, test or all.

    Returns:
        0, or 1 if some images could not be scored; each has its row with the reason.

    Raises:
        UserError: if a metric is unknown or the manifest is wrong.
    """
    from harmonyiqa.baselines.full_reference import METRICS

    names = [name.strip() for name in metrics.split(",")]
    for name in names:
        if name not in METRICS:
            raise UserError(f"metric {name!r} is unknown; choose from {', '.join(METRICS)}")
    table = read_manifest(manifest)
    predictions = score_rows(table if split == "all" else table.split(split), names)
    for name, rows in predictions.items():
        path = Path(out) / f"{name}.csv"
        write_predictions(rows, path)
        failed = sum(row.error is not None for row in rows)
        print(f"{path}: {len(rows) - failed} scored, {failed} failed")
    return int(any(row.error is not None for rows in predictions.values() for row in rows))


def score_rows(manifest: Manifest, metrics: Sequence[str]) -> dict[str, list[Prediction]]:
    """Each metric's predictions, in the manifest's order. Every image is decoded once.

    Args:
        manifest: rows with a reference.
        metrics: keys of ``full_reference.METRICS``.
    """
    from tqdm import tqdm

    from harmonyiqa.baselines.full_reference import METRICS

    predictions: dict[str, list[Prediction]] = {name: [] for name in metrics}
    for row in tqdm(manifest.rows, desc="baselines", unit="image", disable=None):
        try:
            image, reference = _open_pair(manifest, row)
        except UserError as error:
            for name in metrics:
                predictions[name].append(Prediction(row.image, row.reference, None, name, str(error)))
            continue
        for name in metrics:
            score = METRICS[name](image, reference)
            predictions[name].append(Prediction(row.image, row.reference, score, name))
    return predictions


def _open_pair(manifest: Manifest, row: Row) -> "tuple[Pixels, Pixels]":
    import numpy as np

    from harmonyiqa.images import open_rgb

    if row.reference is None:
        raise UserError(f"{row.image} has no reference; these metrics compare with one")
    image, reference = open_rgb(manifest.resolve(row.image)), open_rgb(manifest.resolve(row.reference))
    if image.size != reference.size:
        raise UserError(
            f"{row.image} is {image.width} x {image.height}, its reference {row.reference} "
            f"{reference.width} x {reference.height}; they must be of one size"
        )
    return np.asarray(image), np.asarray(reference)
