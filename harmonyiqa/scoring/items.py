"""What is to be scored, and against which reference: from a manifest's rows, or from files as they are listed."""

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from harmonyiqa.data.manifest import Manifest, Row
from harmonyiqa.errors import UserError
from harmonyiqa.images import Found, file_key, is_image_name, no_image_in, walk_images
from harmonyiqa.scoring.locations import Location, state_of

LIST_SUFFIX = ".txt"


@dataclass(frozen=True, slots=True)
class Item:
    """One image to score.

    Attributes:
        image: its name in the predictions: as in the manifest, else as found on the command line.
        reference: likewise; None without a reference (NR).
        image_path: where it lies.
        reference_path: likewise; None without a reference (NR).
        error: why it cannot be scored, where that is known before any file is opened.
    """

    image: str
    reference: str | None
    image_path: Location
    reference_path: Location | None
    error: str | None = None

    def fingerprint(self) -> str:
        """What changes when the image or its reference does: with the names, all that a row depends on."""
        own = state_of(self.image_path)
        return own if self.reference_path is None else f"{own} {state_of(self.reference_path)}"


def items_from_manifest(manifest: Manifest, *, no_reference: bool = False) -> list[Item]:
    """One item a row, in order. A row with a reference is scored against it (FR), another by itself (NR).

    Args:
        manifest: paths in its rows start from its own folder.
        no_reference: score every row by itself.
    """
    return [item_from_row(row, manifest.root, no_reference=no_reference) for row in manifest.rows]


def item_from_row(row: Row, root: Path, *, no_reference: bool = False) -> Item:
    """The item of a manifest's row, whose paths start from `root`."""
    reference = None if no_reference else row.reference
    return Item(row.image, reference, root / row.image, None if reference is None else root / reference)


def items_from_paths(paths: Sequence[str | Path], reference: str | Path | None = None) -> list[Item]:
    """Everything that `Files` lists, at once."""
    return list(Files([str(path) for path in paths], reference))


class Files:
    """One item an image file, listed anew whenever it is iterated, without holding the list.

    A file is taken as it is given, a folder by `walk_images`, a quoted pattern (`'photos/**/*.jpg'`) by what it
    matches, a list (.txt) by its lines, which are paths from the working folder. A file that two words name is
    listed once; a list is taken as it stands.

    Args:
        words: files, folders, patterns and lists.
        reference: one file for all, or a folder whose files are paired by file key; images inside that folder
            are not scored themselves.
        follow_links: read links that lead out of a folder or a pattern, and go into linked folders.

    Raises:
        UserError: if a word names nothing, a folder holds no image, or nothing is left to score.
    """

    def __init__(
        self, words: Sequence[str], reference: str | Path | None = None, *, follow_links: bool = False
    ) -> None:
        self._words = [str(Path(word)) for word in words]
        self._reference = None if reference is None else Path(reference)
        self._follow_links = follow_links
        self._first: dict[str, int] = {}  # where a word stands first
        for number, word in enumerate(self._words):
            self._first.setdefault(word, number)
        if self._reference is not None and not self._reference.exists():
            raise UserError(f"{reference} does not exist; give a file or a folder of references")
        if self._partners is not None and not self._partners:
            raise no_image_in(self._reference or "")
        for word in self._first:
            if next(self._listed(word), None) is None:
                raise no_image_in(word) if Path(word).is_dir() else UserError(f"{word} names no image")
        if next(iter(self), None) is None:
            raise UserError(
                f"every image lies in the reference folder {reference}: name the folder to be scored too"
            )

    def __iter__(self) -> Iterator[Item]:
        for number, word in enumerate(self._words):
            if self._first[word] != number:
                continue
            for found in self._listed(word):
                if not self._listed_before(found.path, number) and not self._is_reference(found.path):
                    yield self._item(found)

    def _listed(self, word: str) -> Iterator[Found]:
        path = Path(word)
        if path.is_dir():
            return self._inside(path, walk_images(path, follow_links=self._follow_links))
        if path.suffix.lower() == LIST_SUFFIX and path.is_file():
            return (Found(Path(line)) for line in _lines(path))
        if path.exists():
            return iter([Found(path)])
        if not glob.has_magic(word):
            raise UserError(f"{path} does not exist; give image files, folders or a manifest")
        found = (Found(each, is_link=True) for each in matching(path) if is_image_name(each.name))
        return self._inside(_fixed_part(path), found)

    def _inside(self, folder: Path, found: Iterator[Found]) -> Iterator[Found]:
        """An error for each link that leads out of the folder, unless links may be followed."""
        root = folder.resolve()
        for each in found:
            if each.is_link and not self._follow_links and not _leads_into(root, each.path):
                error = f"{each.path} is a link that leads out of {folder}: --follow_links reads it"
                yield Found(each.path, error=error)
                continue
            yield each

    def _listed_before(self, path: Path, number: int) -> bool:
        """Whether an earlier word lists this path too."""
        if number == 0:
            return False
        if self._first.get(str(path), number) < number:
            return True
        return any(
            self._first.get(str(folder), number) < number and self._walks_to(path, folder)
            for folder in path.parents
        )

    def _walks_to(self, path: Path, folder: Path) -> bool:
        between = path.relative_to(folder).parent
        hidden = any(part.startswith(".") for part in between.parts)
        linked = not self._follow_links and any(
            (folder / part).is_symlink() for part in (between, *between.parents) if part.parts
        )
        return is_image_name(path.name) and not hidden and not linked

    @cached_property
    def _partners(self) -> dict[str, list[Path]] | None:
        """Reference files by key; None without a folder of references."""
        if self._reference is None or not self._reference.is_dir():
            return None
        partners: dict[str, list[Path]] = {}
        for found in self._inside(
            self._reference, walk_images(self._reference, follow_links=self._follow_links)
        ):
            if found.error is None:
                partners.setdefault(file_key(found.path), []).append(found.path)
        return partners

    @cached_property
    def _reference_root(self) -> Path | None:
        return None if self._partners is None or self._reference is None else self._reference.resolve()

    def _is_reference(self, path: Path) -> bool:
        root = self._reference_root
        return root is not None and _real(path.parent).is_relative_to(root)

    def _item(self, found: Found) -> Item:
        image = name_of(found.path)
        if found.error is not None:
            return Item(image, None, found.path, None, printable(found.error))
        if self._reference is None:
            return Item(image, None, found.path, None)
        partners = (
            [self._reference] if self._partners is None else self._partners.get(file_key(found.path), [])
        )
        if len(partners) == 1:
            return Item(image, name_of(partners[0]), found.path, partners[0])
        error = f"no reference named {found.path.stem}.* in {self._reference}"
        if partners:
            error = (
                f"two references, {partners[0]} and {partners[1]}: keep one, or name the pairs in a manifest"
            )
        return Item(image, None, found.path, None, printable(error))


def matching(pattern: Path) -> list[Path]:
    """Files that a pattern matches, sorted; hidden ones are passed over."""
    start = _fixed_part(pattern)
    found = start.glob(str(pattern.relative_to(start)))
    shown = (
        path for path in found if not any(part.startswith(".") for part in path.relative_to(start).parts)
    )
    return sorted(path for path in shown if not path.is_dir())


def name_of(path: Path) -> str:
    """A path as text that any table can hold."""
    return printable(str(path))


def printable(text: str) -> str:
    """Text without lone surrogates, which is how bytes of a file name that are no UTF-8 arrive."""
    return text.encode("utf-8", "backslashreplace").decode()


@lru_cache(maxsize=64)
def _real(folder: Path) -> Path:
    return folder.resolve()


def _leads_into(root: Path, link: Path) -> bool:
    try:
        return link.resolve().is_relative_to(root)
    except (OSError, RuntimeError):  # a circle
        return False


def _lines(path: Path) -> Iterator[str]:
    """Lines of a list that are not blank; bytes that are no UTF-8 stay, as in names that the system gives."""
    with path.open(encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            if name := line.rstrip("\n"):
                yield name


def _fixed_part(pattern: Path) -> Path:
    """The folder that a pattern starts from."""
    parts = pattern.parts
    fixed = next(number for number, part in enumerate(parts) if glob.has_magic(part))
    return Path(*parts[:fixed])
