"""What is to be harmonized, by which mask, and what its result is called."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from harmonyiqa.data.manifest import Manifest, Row
from harmonyiqa.errors import UserError
from harmonyiqa.images import file_key, find_images, pair_by_key


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """One composite; two are never equal, so that results can be kept by job.

    Attributes:
        name: of its result, a path below the output folder.
        image: the composite.
        mask: its foreground.
        reference: the untouched photo, where it is known.
        row: what a manifest knows of it, paths left out.
        error: why it cannot be harmonized, where that is known before any file is opened.
    """

    name: str
    image: Path
    mask: Path | None
    reference: Path | None = None
    row: Row | None = None
    error: str | None = None


def jobs_from_paths(
    paths: Sequence[str | Path], masks: Sequence[str | Path], reference: str | Path | None = None
) -> list[Job]:
    """One job an image, sorted by path; results keep the folders below a given folder.

    Args:
        paths: images and folders; what lies in a folder of masks or references is left out.
        masks: the one mask of all images, or masks and folders of masks, paired by name without suffix.
        reference: the untouched photo of all images, or a folder of photos, paired likewise.

    Raises:
        UserError: a path does not exist, nothing is left to harmonize, two masks or references fit one image, or two
            results would have one name.
    """
    partners = [Path(p).resolve() for p in (*masks, reference) if p is not None and Path(p).is_dir()]
    found: dict[Path, str] = {}
    for path in map(Path, paths):
        for image in find_images([path]):
            if not any(image.resolve().is_relative_to(folder) for folder in partners):
                found[image] = image.relative_to(path).as_posix() if path.is_dir() else image.name
    if not found:
        raise UserError("every image lies in the folder of masks or references: name the composites too")
    images = list(found)
    by_key = _masks_by_key(images, masks)
    references = [None] * len(images) if reference is None else pair_by_key(images, reference)
    jobs = []
    for image, photo in zip(images, references, strict=True):
        mask = by_key.get(file_key(image)) if isinstance(by_key, dict) else by_key
        error = None if mask else f"{image} has no mask: none is named {image.stem}.*"
        jobs.append(Job(found[image], image, mask, photo, error=error))
    return _distinct(jobs)


def jobs_from_manifest(manifest: Manifest) -> list[Job]:
    """One job a composite: the column `composite`, or `image` where a row has none.

    Raises:
        UserError: two results would have one name.
    """
    jobs: dict[str, Job] = {}
    for row in manifest.rows:
        composite = row.composite or row.image
        parts = [part for part in PurePosixPath(composite).parts if part not in ("..", "/")]
        jobs[composite] = Job(
            "/".join(parts),
            manifest.resolve(composite),
            manifest.resolve(row.mask) if row.mask else None,
            manifest.resolve(row.reference) if row.reference else None,
            row,
            None if row.mask else f"{composite} has no mask in {manifest.path}",
        )
    return _distinct(list(jobs.values()))


def _masks_by_key(images: Sequence[Path], masks: Sequence[str | Path]) -> dict[str, Path] | Path:
    if len(masks) == 1 and Path(masks[0]).is_file():
        return Path(masks[0])
    wanted = {file_key(image) for image in images}
    found: dict[str, Path] = {}
    for mask in find_images(masks):
        key = file_key(mask)
        if key in found and key in wanted:
            raise UserError(f"{found[key]} and {mask} could both be the mask of {key}: keep one")
        found[key] = mask
    return found


def _distinct(jobs: list[Job]) -> list[Job]:
    seen: dict[str, Job] = {}
    for job in jobs:
        stem = str(PurePosixPath(job.name).with_suffix("")).lower()
        if stem in seen:
            raise UserError(
                f"{seen[stem].image} and {job.image} would both become {job.name}: harmonize them into two folders"
            )
        seen[stem] = job
    return jobs
