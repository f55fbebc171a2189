"""Make a study folder from manifests: copies of the images, settings, database, invitations; and back it up."""

import os
import secrets
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from PIL import Image

from harmonyiqa.data.manifest import Manifest, Row, read_manifest
from harmonyiqa.data.tables import write_table
from harmonyiqa.errors import UserError
from harmonyiqa.files import atomic_path
from harmonyiqa.images import open_rgb
from harmonyiqa.rate.plan import pair_plan, rating_plan
from harmonyiqa.rate.secret_links import hashed, new_media_id, new_secret
from harmonyiqa.rate.settings import StudySettings, read_settings, write_settings
from harmonyiqa.rate.store import DATABASE, Facts, Media, Rater, Store, StudyImage, create_database

MEDIA = "media"
INVITATIONS = "invitations.csv"
ADMIN = "admin_link.txt"
_AS_THEY_ARE = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp"}  # formats that every browser shows
_SHOWN_PROBLEMS = 10


def create_study(
    manifest: str | Path,
    folder: str | Path,
    settings: StudySettings,
    *,
    mode: Literal["rating", "pairs"],
    raters: int,
    sessions: int,
    training: str | Path | None,
    golden: str | Path | None,
    repeats: int,
    pairs: int | None,
    seed: int,
) -> Store:
    """Make the folder, whole or not at all.

    Args:
        manifest: rows with ``image`` and, as far as known, ``composite``, ``reference``, ``content``,
            ``method``. All images of a row must be of one size.
        folder: the study; must not exist yet.
        settings: texts and times.
        mode: ``rating`` on the scale of ``settings.labels``, or ``pairs``: which of two images of one content?
        raters: how many invitations.
        sessions: over how many the presentations are spread.
        training: manifest of examples that every rater sees first.
        golden: manifest of attention checks; its further columns ``low`` and ``high`` bound the right answers.
        repeats: how many images a rater sees a second time.
        pairs: pair mode: how many pairs a rater sees; None is all.
        seed: of every rater's random order.

    Raises:
        UserError: if a setting does not fit, a manifest or an image cannot be used, or the folder exists.
    """
    folder = Path(folder)
    if folder.exists():
        raise UserError(f"{folder} exists; a study is made in a new folder")
    for name, value in (("raters", raters), ("sessions", sessions)):
        if value < 1:
            raise UserError(f"{name} {value} must be at least 1")
    if mode == "pairs" and len(settings.labels) != 2:
        raise UserError(f"pairs need two labels, left and right; labels has {len(settings.labels)}")
    if mode == "pairs" and (training or golden or repeats):
        raise UserError("training, golden and repeats belong to --mode rating")
    if mode == "rating" and pairs is not None:
        raise UserError("pairs belongs to --mode pairs")

    with _new_folder(folder) as part:
        library = _Library(part / MEDIA)
        main = library.add(_rows(manifest, mode))
        first = library.add(read_manifest(training)) if training else []
        known = library.add(_golden_rows(golden, len(settings.labels))) if golden else []
        library.raise_problems()
        scenes = {image.id: image.content for image in library.images if image.content is not None}
        plans = {
            rater: (
                pair_plan(main, scenes, pairs=pairs, seed=seed, rater=_name(rater))
                if mode == "pairs"
                else rating_plan(
                    main,
                    scenes,
                    training=first,
                    golden=known,
                    repeats=repeats,
                    seed=seed,
                    rater=_name(rater),
                )
            )
            for rater in range(1, raters + 1)
        }
        length = max(sum(shown.kind != "training" for shown in plan) for plan in plans.values())
        admin, links = new_secret(), {rater: new_secret() for rater in plans}
        facts = Facts(
            study=secrets.token_hex(4),
            mode=mode,
            points=len(settings.labels),
            portion=-(-length // sessions),
            seed=seed,
            admin=hashed(admin),
        )
        people = [Rater(rater, _name(rater), hashed(link)) for rater, link in links.items()]
        create_database(part / DATABASE, facts, library.media, library.images, people, plans)
        write_settings(settings, part)
        address = settings.address.rstrip("/")
        invitations = [{"rater": _name(r), "link": f"{address}/join/{link}"} for r, link in links.items()]
        write_table(invitations, part / INVITATIONS)
        (part / ADMIN).write_text(f"{address}/admin/join/{admin}\n", encoding="utf-8")
        for secret in (INVITATIONS, ADMIN):
            (part / secret).chmod(0o600)
    return Store(folder)


def open_study(folder: str | Path) -> tuple[Store, StudySettings]:
    """A study's database and settings.

    Raises:
        UserError: if ``folder`` is no study, or the settings no longer fit its votes.
    """
    store, settings = Store(folder), read_settings(Path(folder))
    if len(settings.labels) != store.facts.points:
        store.close()
        raise UserError(
            f"settings.yaml of {folder} has {len(settings.labels)} labels, its votes are "
            f"1..{store.facts.points}; change the words of the labels, not their number"
        )
    return store, settings


def backup_study(folder: str | Path, out: str | Path) -> None:
    """Copy a study, also while it is served, into a folder that is a study too.

    The database is copied as it is at one moment and checked. A later backup to the same folder copies only
    images that it lacks. The files with secret links are left out.

    Raises:
        UserError: if ``folder`` is no study, ``out`` holds another one, or it cannot be written.
    """
    out = Path(out)
    store = Store(folder)
    try:
        if (out / DATABASE).exists():
            _check_same_study(out, store.facts.study)
        elif out.exists() and any(out.iterdir()):
            raise UserError(f"{out} holds other files; give a new folder or an earlier backup of this study")
        (out / MEDIA).mkdir(parents=True, exist_ok=True)
        out.chmod(0o700)
        for media in store.media.values():
            if not (out / MEDIA / media.file).exists():
                with atomic_path(out / MEDIA / media.file) as part:
                    shutil.copyfile(store.folder / MEDIA / media.file, part)
        write_settings(read_settings(store.folder), out)
        with atomic_path(out / DATABASE) as part:
            store.backup(part)
    except OSError as error:
        raise UserError(f"cannot write the backup {out}: {error.strerror or error}") from error
    finally:
        store.close()


class _Library:
    """Takes images into the study: each file once, under a random name, readable by every browser."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._by_path: dict[Path, Media] = {}
        self.images: list[StudyImage] = []
        self._problems: list[str] = []

    @property
    def media(self) -> list[Media]:
        return list(self._by_path.values())

    def add(self, manifest: Manifest) -> list[int]:
        """Take in every row; returns the images' numbers."""
        from tqdm import tqdm

        first = len(self.images) + 1
        for number, row in enumerate(tqdm(manifest.rows, manifest.path.name, file=sys.stderr), 1):
            try:
                self._add_row(manifest, row)
            except (UserError, OSError) as error:
                self._problems.append(f"row {number} of {manifest.path}: {error}")
        return list(range(first, len(self.images) + 1))

    def raise_problems(self) -> None:
        """Say everything that was wrong with the images, at once."""
        if self._problems:
            more = len(self._problems) - _SHOWN_PROBLEMS
            tail = f"; and {more} more" if more > 0 else ""
            raise UserError("; ".join(self._problems[:_SHOWN_PROBLEMS]) + tail)

    def _add_row(self, manifest: Manifest, row: Row) -> None:
        image = self._take(manifest.resolve(row.image))
        partners: dict[str, str | None] = {}
        for kind in ("composite", "reference"):
            path = getattr(row, kind)
            partner = self._take(manifest.resolve(path)) if path else None
            if partner and (partner.width, partner.height) != (image.width, image.height):
                raise UserError(
                    f"{kind} {path} is {partner.width} x {partner.height}, its image "
                    f"{image.width} x {image.height}; raters compare them pixel by pixel: make them one size"
                )
            partners[kind] = partner.id if partner else None
        low, high = (_whole(row.extra.get(name)) for name in ("low", "high"))
        self.images.append(
            StudyImage(
                id=len(self.images) + 1,
                name=row.image,
                media=image.id,
                method=row.method,
                content=row.content,
                low=low,
                high=high,
                **partners,
            )
        )

    def _take(self, path: Path) -> Media:
        path = path.resolve()
        if path not in self._by_path:
            image = open_rgb(path)  # decodes it whole: a damaged file is found now, not by a rater
            media_id = new_media_id()
            suffix = _suffix_as_it_is(path)
            if suffix:
                shutil.copyfile(path, self._folder / f"{media_id}{suffix}")
            else:
                suffix = ".png"
                image.save(self._folder / f"{media_id}{suffix}")
            self._by_path[path] = Media(media_id, f"{media_id}{suffix}", *image.size)
        return self._by_path[path]


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """Yield a folder beside ``folder``, for its owner only; rename it into place if the block succeeds."""
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        part.mkdir(parents=True, mode=0o700)
        yield part
        part.replace(folder)
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror or error}; choose another folder") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _suffix_as_it_is(path: Path) -> str | None:
    """The suffix under which a browser shows these very bytes rightly; None if they must be rewritten."""
    with Image.open(path) as image:
        plain = image.mode in ("RGB", "L", "P") and not image.has_transparency_data
        return _AS_THEY_ARE.get(image.format or "") if plain else None


def _rows(manifest: str | Path, mode: str) -> Manifest:
    read = read_manifest(manifest)
    name, count = Counter(row.image for row in read.rows).most_common(1)[0]
    if count > 1:
        raise UserError(f"{manifest} has {name} {count} times; keep one row, and see --repeats")
    if mode == "pairs":
        for number, row in enumerate(read.rows, 1):
            if row.content is None or row.method is None:
                raise UserError(
                    f"row {number} of {manifest} ({row.image}) lacks content or method: pairs are two images "
                    "of one content, and methods are what is ranked"
                )
    return read


def _golden_rows(golden: str | Path, points: int) -> Manifest:
    read = read_manifest(golden)
    for number, row in enumerate(read.rows, 1):
        low, high = (_whole(row.extra.get(name)) for name in ("low", "high"))
        if low is None or high is None or not 1 <= low <= high <= points:
            raise UserError(
                f"row {number} of {golden} ({row.image}): low {row.extra.get('low')!r}, high "
                f"{row.extra.get('high')!r} must be whole numbers, 1 <= low <= high <= {points}: the right answers"
            )
    return read


def _whole(value: object) -> int | None:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return int(number) if number.is_integer() else None


def _name(rater: int) -> str:
    return f"r{rater:02}"


def _check_same_study(out: Path, study: str) -> None:
    other = Store(out)
    other.close()
    if other.facts.study != study:
        raise UserError(f"{out} holds a backup of another study; give a new folder")
