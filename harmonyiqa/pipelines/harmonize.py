"""``harmonyiqa harmonize``: composites and masks in; full-size results, a manifest and a page out."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from harmonyiqa.data.manifest import Row, read_manifest, relative_path, write_manifest
from harmonyiqa.data.tables import SUFFIXES, write_table
from harmonyiqa.errors import UserError
from harmonyiqa.files import atomic_path
from harmonyiqa.images import DEFAULT_MAX_PIXELS

if TYPE_CHECKING:
    from harmonyiqa.data.predictions import Prediction
    from harmonyiqa.harmonize.jobs import Job
    from harmonyiqa.harmonize.methods import Harmonizer

log = logging.getLogger(__name__)
_SHOWN_FAILURES = 20


def harmonize(
    paths: list[str],
    out: str,
    mask: list[str] | None = None,
    method: str = "aict",
    reference: str | None = None,
    model: str | None = None,
    scorer: str | None = None,
    suffix: str | None = None,
    report: str | None = None,
    fast: bool = False,
    device: str | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> int:
    """Harmonize composites at their full size: the foreground takes the colours that fit its background.

    Size, bit depth, format, colour profile and EXIF stay. Results of an earlier, cut run into the same folder are kept.
    Writes OUT/manifest.csv, which `harmonyiqa score` and `harmonyiqa harmonize-eval` read.

    Args:
        paths: Composites, folders of them, or one manifest with the columns image (or composite) and mask.
        out: Folder for the results. With `--method all` a folder a method.
        mask: The one mask of all images, or masks and folders of masks, paired by name without suffix.
        method: aict, copy, reinhard, mkl, histogram, idt, palette, poisson; or all, which scores every version and
            writes a ranked contact sheet, OUT/index.html.
        reference: The untouched photo, or a folder of photos, paired by name: `all` then scores against them.
        model: The AICT network: a folder or a hub id. Default: the bundled one.
        scorer: The model that scores: a folder or a hub id. Default: the bundled one.
        suffix: Write .png, .jpg, .tif or .webp instead of each source's own format.
        report: Write a before/after page here: .html.
        fast: Look up with numba (extra `fast`); the first call compiles.
        device: Where networks run, such as cpu or cuda:1. Default: a GPU if there is one.
        max_pixels: The most pixels (width x height) an image may have.

    Returns:
        0 if every image was harmonized, 1 if some could not be; each is listed in OUT/errors.csv with the reason.

    Raises:
        UserError: if a path, a setting or a model is wrong; nothing has been harmonized then.
    """
    from harmonyiqa.harmonize.methods import NAMES, harmonizer

    if method != "all" and method not in NAMES:
        raise UserError(f"method {method!r} is unknown; choose from all, {', '.join(NAMES)}")
    if suffix is not None and suffix.lower() not in (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp"):
        raise UserError(f"suffix {suffix!r} must be .png, .jpg, .tif or .webp")
    if report is not None and Path(report).suffix.lower() not in (".html", ".htm"):
        raise UserError(f"report {report!r} must end in .html")
    jobs = _jobs(paths, mask, reference)
    folder = Path(out)
    if any(job.image.resolve().is_relative_to(folder.resolve()) for job in jobs):
        raise UserError(f"out {out!r} holds the composites: choose another folder")
    place = _place(device) if method in ("aict", "all") else None
    functions = {}
    for name in NAMES if method == "all" else [method]:
        try:
            functions[name] = harmonizer(name, model, device=place, fast=fast)
        except UserError as error:
            if method != "all" or model is not None:
                raise
            log.warning("%s is left out: %s", name, error)
    _remember(folder, {"method": method, "model": model, "suffix": suffix})

    made, errors, kept = _harmonize_all(jobs, functions, folder, method == "all", suffix, max_pixels)
    rows = [_row(job, name, path, folder) for (job, name), path in made.items()]
    if rows:
        write_manifest(rows, folder / "manifest.csv")
    if errors:
        write_table(errors, folder / "errors.csv", ["image", "mask", "method", "error"])
    else:
        (folder / "errors.csv").unlink(missing_ok=True)
    print(f"{folder}: {len(made)} results" + (f", {kept} of them from an earlier run" if kept else ""))
    for failure in errors[:_SHOWN_FAILURES]:
        print(f"  failed: {failure['method']}: {failure['error']}")
    if len(errors) > _SHOWN_FAILURES:
        print(f"  ... {len(errors) - _SHOWN_FAILURES} more failures in {folder / 'errors.csv'}")
    if rows and (method == "all" or report is not None):
        page = Path(report) if report is not None else folder / "index.html"
        predictions, note = _score(made, folder, scorer, place, max_pixels) if method == "all" else ([], "")
        _write_page(made, predictions, page, note, folder, max_pixels)
        print(f"page: {page}")
    return int(bool(errors))


def _place(device: str | None) -> str:
    from harmonyiqa.pipelines.score import pick_device

    return str(pick_device(device))


def _jobs(paths: list[str], mask: list[str] | None, reference: str | None) -> "list[Job]":
    from harmonyiqa.harmonize.jobs import jobs_from_manifest, jobs_from_paths

    manifests = [path for path in paths if Path(path).suffix.lower() in SUFFIXES and not Path(path).is_dir()]
    if not manifests:
        if not mask:
            raise UserError(
                "give --mask: the mask of all images, or masks or a folder of masks of the same names"
            )
        return jobs_from_paths(paths, mask, reference)
    if len(paths) > 1:
        raise UserError(f"{manifests[0]} is a manifest: harmonize it alone, without other paths")
    if mask or reference:
        raise UserError(
            f"{manifests[0]} names its own masks and references: leave --mask and --reference out"
        )
    return jobs_from_manifest(read_manifest(manifests[0]))


def _remember(folder: Path, settings: dict[str, str | None]) -> None:
    """Results that are kept must have been made in the same way."""
    path = folder / "settings.json"
    if path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))
        if before != settings:
            changed = ", ".join(key for key, value in settings.items() if before.get(key) != value)
            raise UserError(f"{folder} holds results of other settings ({changed}): choose another --out")
    with atomic_path(path) as part:
        part.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def _harmonize_all(
    jobs: "Sequence[Job]",
    functions: "dict[str, Harmonizer]",
    folder: Path,
    several: bool,
    suffix: str | None,
    max_pixels: int,
) -> "tuple[dict[tuple[Job, str], Path], list[dict[str, str | None]], int]":
    """Results by job and method, what failed, and how many results were there before."""
    from tqdm import tqdm

    from harmonyiqa.harmonize.pictures import read_mask, read_picture, write_picture

    made: dict[tuple[Job, str], Path] = {}
    errors: list[dict[str, str | None]] = []
    kept = 0

    def fail(job: "Job", method: str, reason: str) -> None:
        errors.append(
            {
                "image": str(job.image),
                "mask": str(job.mask) if job.mask else None,
                "method": method,
                "error": reason,
            }
        )

    for job in tqdm(jobs, desc="harmonize", unit="image", disable=None):
        name = PurePosixPath(job.name).with_suffix(suffix or job.image.suffix)
        targets = {method: folder / method / name if several else folder / name for method in functions}
        missing = {method: path for method, path in targets.items() if not _is_newer(path, job)}
        for method, path in targets.items():
            if method not in missing:
                made[job, method] = path
                kept += 1
        if not missing:
            continue
        try:
            if job.error or job.mask is None:
                raise UserError(job.error or f"{job.image} has no mask")
            picture, mask = read_picture(job.image, max_pixels=max_pixels), read_mask(job.mask)
        except UserError as error:
            fail(job, ", ".join(missing), str(error))
            continue
        for method, path in missing.items():
            try:
                write_picture(picture, functions[method](picture.pixels, mask), path)
                made[job, method] = path
            except UserError as error:
                fail(job, method, f"{job.image}: {error}")
            except Exception as error:  # whatever one odd image does, the others are made
                fail(job, method, f"{job.image}: {type(error).__name__}: {error}")
    return made, errors, kept


def _is_newer(path: Path, job: "Job") -> bool:
    sources = [source for source in (job.image, job.mask) if source is not None and source.exists()]
    return path.exists() and all(path.stat().st_mtime >= source.stat().st_mtime for source in sources)


def _row(job: "Job", method: str, path: Path, folder: Path) -> Row:
    manifest = folder / "manifest.csv"
    known = job.row or Row("")
    return Row(
        image=relative_path(path, manifest),
        reference=relative_path(job.reference, manifest) if job.reference else None,
        composite=relative_path(job.image, manifest),
        mask=relative_path(job.mask, manifest) if job.mask else None,
        method=method,
        group=known.group,
        content=known.content or PurePosixPath(job.name).with_suffix("").as_posix(),
        split=known.split,
    )


def _score(
    made: "dict[tuple[Job, str], Path]", folder: Path, scorer: str | None, device: str | None, max_pixels: int
) -> "tuple[list[Prediction], str]":
    """The score of every result, in their order, then of the untouched photos; and what to know about the model."""
    from harmonyiqa import HarmonyIQA
    from harmonyiqa.data.predictions import write_predictions
    from harmonyiqa.pipelines.score import model_note
    from harmonyiqa.scoring.engine import predict
    from harmonyiqa.scoring.items import Item

    model = HarmonyIQA.from_pretrained(scorer, device=device)
    manifest = folder / "manifest.csv"

    def item(path: Path, reference: Path | None) -> Item:
        named = relative_path(reference, manifest) if reference else None
        return Item(relative_path(path, manifest), named, path, reference)

    items = [item(path, job.reference) for (job, _), path in made.items()]
    photos = dict.fromkeys(job.reference for job, _ in made if job.reference is not None)
    predictions = predict(model, items + [item(photo, photo) for photo in photos], max_pixels=max_pixels)
    write_predictions(predictions[: len(items)], folder / "scores.csv")
    return predictions, model_note(model)


def _write_page(
    made: "dict[tuple[Job, str], Path]",
    predictions: "Sequence[Prediction]",
    page: Path,
    note: str,
    folder: Path,
    max_pixels: int,
) -> None:
    from harmonyiqa.report.harmonized import Scene, Version, summary, write_harmonized_page

    manifest = folder / "manifest.csv"
    score = {prediction.image: prediction.score for prediction in predictions}
    versions: dict[Job, list[Version]] = {}
    for (job, method), path in made.items():
        found = versions.setdefault(job, [])
        found.append(Version(method, path, score.get(relative_path(path, manifest))))
    scenes = [
        Scene(
            job.name,
            job.image,
            tuple(found),
            job.reference,
            score.get(relative_path(job.reference, manifest)) if job.reference else None,
        )
        for job, found in versions.items()
    ]
    write_harmonized_page(scenes, page, note=note, max_pixels=max_pixels)
    if predictions:
        print(summary(scenes))
