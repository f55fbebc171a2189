"""What is to be scored, and against which reference: from the command line's paths or from a manifest."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harmonyiqa.data.manifest import Manifest
from harmonyiqa.errors import UserError
from harmonyiqa.images import find_images, pair_by_key


@dataclass(frozen=True, slots=True)
class Item:
    """One image to score.

    Attributes:
        image: its name in the predictions: as in the manifest, else as found on the command line.
        reference: likewise; None without a reference (NR).
        image_path: where the file lies.
        reference_path: likewise; None without a reference (NR).
        error: why it cannot be scored, where that is known before any file is opened.
    """

    image: str
    reference: str | None
    image_path: Path
    reference_path: Path | None
    error: str | None = None


def items_from_manifest(manifest: Manifest, *, no_reference: bool = False) -> list[Item]:
    """One item a row, in order. A row with a reference is scored against it (FR), another by itself (NR).

    Args:
        manifest: paths in its rows start from its own folder.
        no_reference: score every row by itself.
    """
    items = []
    for row in manifest.rows:
        reference = None if no_reference else row.reference
        path = None if reference is None else manifest.resolve(reference)
        items.append(Item(row.image, reference, manifest.resolve(row.image), path))
    return items


def items_from_paths(paths: Sequence[str | Path], reference: str | Path | None = None) -> list[Item]:
    """One item an image file, in the order of ``find_images``.

    Args:
        paths: files and folders.
        reference: one file for all, or a folder whose files are paired by file key; images inside that folder
            are not scored themselves.

    Raises:
        UserError: if a path does not exist, a folder holds no image, nothing is left to score, or two
            references fit one image.
    """
    images = find_images(paths)
    if reference is None:
        return [Item(_name(path), None, path, None) for path in images]
    references = Path(reference)
    if references.is_dir():
        inside = references.resolve()
        images = [path for path in images if not path.resolve().is_relative_to(inside)]
        if not images:
            raise UserError(
                f"every image lies in the reference folder {reference}: name the folder to be scored too"
            )
    return [
        _pair(image, partner, references)
        for image, partner in zip(images, pair_by_key(images, references), strict=True)
    ]


def _pair(image: Path, partner: Path | None, references: Path) -> Item:
    if partner is None:
        return Item(_name(image), None, image, None, f"no reference named {image.stem}.* in {references}")
    return Item(_name(image), _name(partner), image, partner)


def _name(path: Path) -> str:
    # bytes of a file name that are no UTF-8 arrive as lone surrogates, which no table could be written with
    return str(path).encode("utf-8", "backslashreplace").decode()
