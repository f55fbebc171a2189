"""A folder of images, with folders of partners and a table of labels, made into the rows of a manifest."""

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from harmonyiqa.data.manifest import Row, read_manifest, relative_path
from harmonyiqa.errors import UserError
from harmonyiqa.images import file_key, find_images, pair_by_key


def rows_of_folder(
    images: str | Path,
    out: str | Path,
    references: str | Path | None = None,
    masks: str | Path | None = None,
    labels: str | Path | None = None,
) -> tuple[list[Row], list[str]]:
    """One row an image, sorted by path; partners are files of the same name without suffix.

    Args:
        images: folder, searched recursively; the folders of partners may lie in it.
        out: where the manifest will stand; the rows' paths start from its folder.
        references: folder of untouched photos, or the one photo of all images.
        masks: folder of masks, or the one mask of all images.
        labels: table with a column ``image`` and any other column of a manifest.

    Returns:
        The rows, and what is missing: an image without its partner or label, a label without its image.

    Raises:
        UserError: if a folder does not exist or is empty, or two files or labels could be meant.
    """
    images = Path(images)
    partners = [Path(folder).resolve() for folder in (references, masks) if folder is not None]
    found = [
        path
        for path in find_images([images])
        if not any(path.resolve().is_relative_to(folder) for folder in partners)
    ]
    if not found:
        raise UserError(f"{images} holds no image besides its references and masks")
    problems: list[str] = []

    def paired(kind: str, folder: str | Path | None) -> list[str | None]:
        if folder is None:
            return [None] * len(found)
        pairs = pair_by_key(found, folder)
        problems.extend(
            f"{image} has no {kind} in {folder}"
            for image, pair in zip(found, pairs, strict=True)
            if pair is None
        )
        return [None if pair is None else relative_path(pair, out) for pair in pairs]

    rows = [
        Row(image=relative_path(image, out), reference=reference, mask=mask)
        for image, reference, mask in zip(
            found, paired("reference", references), paired("mask", masks), strict=True
        )
    ]
    if labels is not None:
        names = [path.relative_to(images).as_posix() if images.is_dir() else path.name for path in found]
        rows = _labelled(rows, names, labels, problems)
    return rows, problems


def _labelled(rows: list[Row], names: list[str], labels: str | Path, problems: list[str]) -> list[Row]:
    """Give each row the label of its path below the image folder, or else of its file name without suffix."""
    table = read_manifest(labels).rows
    by_path: defaultdict[str, list[Row]] = defaultdict(list)
    by_key: defaultdict[str, list[Row]] = defaultdict(list)
    for label in table:
        by_path[label.image].append(label)
        by_key[file_key(label.image)].append(label)

    labelled, used = [], set()
    for row, name in zip(rows, names, strict=True):
        matches = by_path.get(name) or by_key.get(file_key(name), [])
        if len(matches) > 1:
            raise UserError(
                f"{labels} has {len(matches)} labels for {name}; keep one, or write paths such as {name}"
            )
        if not matches:
            problems.append(f"{name} has no label in {labels}")
            labelled.append(row)
            continue
        label = matches[0]
        if label.image in used:
            raise UserError(f"label {label.image!r} of {labels} fits several images, {name} too; write paths")
        used.add(label.image)
        labelled.append(
            replace(label, image=row.image, reference=row.reference, composite=None, mask=row.mask)
        )
    problems.extend(
        f"label {label.image!r} of {labels} has no image" for label in table if label.image not in used
    )
    return labelled
