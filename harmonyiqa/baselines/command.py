"""``harmonyiqa baselines``: score a manifest with other metrics, as predictions that ``evaluate`` reads."""

import importlib
import json
import math
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harmonyiqa.data.manifest import Manifest, Row, read_manifest
from harmonyiqa.data.predictions import Prediction, write_predictions
from harmonyiqa.errors import UserError
from harmonyiqa.files import sha256_of

if TYPE_CHECKING:
    from harmonyiqa.baselines.metrics import Score

Outcome = float | str  # a score, or why there is none
Key = tuple[str, str | None]  # image and reference, as in the manifest
Found = tuple[Key, dict[str, Outcome]]  # by metric
Image = Any  # NDArray: (H, W, 3) uint8, or a mask (H, W) float32; numpy waits until a command runs

FOREGROUND = "_foreground"  # what the name of a metric inside the mask ends with
_INSTALL = {
    "piq": "pip install 'harmonyiqa[baselines]'",
    "pyiqa": "pip install pyiqa (non-commercial licence)",
}


def baselines(
    manifest: str,
    out: str,
    metrics: str = "mse,psnr,ssim,ciede2000",
    region: Literal["image", "foreground", "both"] = "image",
    split: str = "all",
    workers: int = 1,
) -> int:
    """Score images with metrics of scikit-image, piq and pyiqa, one predictions file a metric.

    Every score is oriented so that higher is better: errors and distances are negated. A run that was cut goes on
    where it stopped when the same command is given again.

    Args:
        manifest: Rows with a reference (and a mask), as .csv, .jsonl or .parquet.
        out: Folder for the files, one a metric: `psnr.csv`, `psnr_foreground.csv`.
        metrics: Names with commas between them, or `all`: those whose library is installed. From scikit-image:
            mse, psnr, ssim, ciede2000. From piq: ms_ssim, iw_ssim, fsim, fsimc, vif, gmsd, ms_gmsd, vsi, mdsi,
            haarpsi, dss, lpips_vgg, dists, pieapp, brisque. From pyiqa: lpips_alex, st_lpips_alex, st_lpips_vgg,
            ahiq, topiq_fr, niqe, cnniqa, wadiqam, nima, dbcnn, hyperiqa, maniqa, clipiqa, topiq, arniqa.
        region: The whole image, the foreground (inside the mask), or both.
        split: train, val, test or all.
        workers: Processes that score images.

    Returns:
        0, or 1 if some images could not be scored; each has its row with the reason.

    Raises:
        UserError: if a metric is unknown or its library is not installed, or the manifest is wrong.
    """
    if workers < 1:
        raise UserError(f"workers {workers} must be at least 1")
    names = _chosen(metrics)
    if region != "image":
        names = ([] if region == "foreground" else names) + [f"{name}{FOREGROUND}" for name in names]
    table = read_manifest(manifest)
    rows = table if split == "all" else table.split(split)
    journal = Path(out) / f".journal_{sha256_of(manifest)[:16]}.jsonl"
    predictions = score_rows(rows, names, workers=workers, journal=journal)
    for name, found in predictions.items():
        path = Path(out) / f"{name}.csv"
        write_predictions(found, path)
        failed = [row.error for row in found if row.error is not None]
        reason = f" (first: {failed[0]})" if failed else ""
        print(f"{path}: {len(found) - len(failed)} scored, {len(failed)} failed{reason}")
    journal.unlink(missing_ok=True)
    return int(any(row.error is not None for rows in predictions.values() for row in rows))


def score_rows(
    manifest: Manifest, metrics: Sequence[str], *, workers: int = 1, journal: Path | None = None
) -> dict[str, list[Prediction]]:
    """Each metric's predictions, in the manifest's order. Every image is decoded once.

    Args:
        manifest: rows, with a reference for metrics that compare with one.
        metrics: keys of ``metrics.METRICS``, for inside the mask with ``_foreground`` behind.
        workers: processes; 1 works in this one.
        journal: a file that gets each row's scores at once and that a later call goes on from; failures are
            tried again.
    """
    from tqdm import tqdm

    from harmonyiqa.baselines.metrics import METRICS

    done = {} if journal is None else _read_journal(journal)
    tasks: dict[Key, tuple[Row, list[str]]] = {}
    for row in manifest.rows:
        lacking = [name for name in metrics if name not in done.get((row.image, row.reference), {})]
        if lacking:
            tasks[row.image, row.reference] = row, lacking
    with _pool(workers) as run:
        results = run(partial(_score_row, manifest), tasks.values())
        for key, found in tqdm(results, total=len(tasks), desc="baselines", unit="image", disable=None):
            done.setdefault(key, {}).update(found)
            if journal is not None:
                _note(journal, key, found)
    predictions: dict[str, list[Prediction]] = {name: [] for name in metrics}
    for name in metrics:
        with_reference = METRICS[name.removesuffix(FOREGROUND)].needs_reference
        for row in manifest.rows:
            outcome = done[row.image, row.reference][name]
            score, error = (None, outcome) if isinstance(outcome, str) else (outcome, None)
            reference = row.reference if with_reference else None
            predictions[name].append(Prediction(row.image, reference, score, name, error))
    return predictions


def _chosen(metrics: str) -> list[str]:
    """The metrics that were asked for; the library of each can be imported."""
    from harmonyiqa.baselines.metrics import METRICS

    if metrics.strip() == "all":
        return [name for name, metric in METRICS.items() if _missing(metric.library) is None]
    names = list(dict.fromkeys(name.strip() for name in metrics.split(",")))
    for name in names:
        if name not in METRICS:
            raise UserError(f"metric {name!r} is unknown; choose from {', '.join(METRICS)}")
        library = METRICS[name].library
        if (reason := _missing(library)) is not None:
            raise UserError(
                f"metric {name!r} needs {library}, which is not there ({reason}): {_INSTALL[library]}"
            )
    return names


@cache
def _missing(library: str) -> str | None:
    """Why a library cannot be imported, None if it can."""
    try:
        importlib.import_module({"scikit-image": "skimage"}.get(library, library))
    except Exception as error:  # a torchvision that does not match torch raises RuntimeError on import
        return " ".join(str(error).split()) or type(error).__name__
    return None


@contextmanager
def _pool(workers: int) -> Iterator[Callable[..., Iterator[Found]]]:
    """A ``map`` that works here, or in processes; results come in order."""
    if workers == 1:
        yield map
        return
    # a fork would copy this process with torch's threads in it
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_one_thread)
    try:
        yield pool.map
    finally:
        pool.shutdown(cancel_futures=True)


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def _score_row(manifest: Manifest, task: tuple[Row, Sequence[str]]) -> Found:
    """One row's scores by metric; whatever goes wrong is that metric's reason."""
    row, names = task
    images: dict[str, Image | UserError] = {}

    def image(kind: str) -> Image:
        """A partner of the row, decoded once."""
        if kind not in images:
            try:
                images[kind] = _open(manifest, row, kind)
            except UserError as error:
                images[kind] = error
        found = images[kind]
        if isinstance(found, UserError):
            raise found
        return found

    return (row.image, row.reference), {name: _outcome(name, row, image) for name in names}


def _outcome(name: str, row: Row, image: Callable[[str], Image]) -> Outcome:
    from harmonyiqa.baselines.metrics import METRICS, foreground

    plain = name.removesuffix(FOREGROUND)
    metric = METRICS[plain]
    score = _load(plain)
    if isinstance(score, str):
        return f"{plain} cannot be loaded: {score}"
    try:
        pictures = image("image"), image("reference") if metric.needs_reference else None
        if pictures[1] is not None and pictures[0].shape != pictures[1].shape:
            raise UserError(
                f"{row.image} is {_size(pictures[0])}, its reference {row.reference} {_size(pictures[1])}; "
                "they must be of one size"
            )
        if name != plain:
            pictures = foreground(metric, *pictures, image("mask"))
        value = score(*pictures)
    except UserError as error:
        return str(error)
    except Exception as error:  # whatever a library raises on one odd image, the others are scored
        return f"{row.image}: {plain}: {type(error).__name__}: {' '.join(str(error).split())}"
    return value if math.isfinite(value) else f"{row.image}: {plain} returned {value}, which is no score"


@cache
def _load(name: str) -> "Score | str":
    """A metric's function, or why there is none: weights may have to be fetched."""
    from harmonyiqa.baselines.metrics import METRICS

    try:
        score: Score = METRICS[name].load()
    except Exception as error:  # no network, a moved file, a full disk: whatever keeps the weights away
        return f"{type(error).__name__}: {' '.join(str(error).split())}"
    return score


def _open(manifest: Manifest, row: Row, kind: str) -> Image:
    import numpy as np

    from harmonyiqa.images import open_mask, open_rgb

    path: str | None = getattr(row, kind)
    if path is None:
        purpose = (
            "these metrics compare with one" if kind == "reference" else "it says where the foreground is"
        )
        raise UserError(f"{row.image} has no {kind}; {purpose}")
    file = manifest.resolve(path)
    return open_mask(file) if kind == "mask" else np.asarray(open_rgb(file))


def _size(image: Image) -> str:
    return f"{image.shape[1]} x {image.shape[0]}"


def _read_journal(path: Path) -> dict[Key, dict[str, Outcome]]:
    """Scores of a run that was cut; a line that was cut too is passed over."""
    found: dict[Key, dict[str, Outcome]] = {}
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                image, reference, scores = json.loads(line)
            except ValueError:
                continue
            found.setdefault((image, reference), {}).update(scores)
    return found


def _note(journal: Path, key: Key, found: dict[str, Outcome]) -> None:
    scores = {name: outcome for name, outcome in found.items() if not isinstance(outcome, str)}
    journal.parent.mkdir(parents=True, exist_ok=True)
    with journal.open("a", encoding="utf-8") as file:
        file.write(json.dumps([*key, scores]) + "\n")
