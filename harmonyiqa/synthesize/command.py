"""``harmonyiqa data synthesize``: photos and region maps -> composites of known severity."""

import multiprocessing
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from harmonyiqa.errors import UserError

if TYPE_CHECKING:
    from harmonyiqa.data.manifest import Row
    from harmonyiqa.synthesize.compose import Content
    from harmonyiqa.synthesize.regions import Photo

_DONORS = 3


def synthesize(
    photos: str,
    out: str,
    split: Literal["train", "val", "test", "all"] = "all",
    contents: int = 100,
    versions: int = 9,
    size: int = 256,
    seed: int = 0,
    workers: int = 2,
) -> None:
    """Make composites with synthetic scores: a region of a photo is shifted in colour by a known amount.

    Writes OUT/manifest.csv (last, so that a half-made set has none), images/, references/ and masks/. The
    score is a function of the colour difference (CIEDE2000) over the region; no person gave it. The same seed
    and photos give the same files, whatever the number of workers.

    Args:
        photos: Folder with photos and region maps: NAME.jpg beside NAME.regions.png (8 bit, 0 is unlabelled,
            each other value a region), or a photos.csv with the columns image, regions, source, split.
        out: Folder to write; it must be new or empty.
        split: Take only photos of this split; all where there is no photos.csv that names splits.
        contents: How many photos to use, drawn with small sources favoured; 0 for all.
        versions: Images made of each photo.
        size: Longest side of the images in pixels; smaller photos are not enlarged.
        seed: Seed of everything drawn.
        workers: Processes.
    """
    from harmonyiqa.data.manifest import write_manifest
    from harmonyiqa.synthesize.regions import find_photos

    _check_counts(
        contents=(contents, 0), versions=(versions, 1), size=(size, 16), seed=(seed, 0), workers=(workers, 1)
    )
    folder = Path(out)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{out} exists and is not an empty folder; name a new one")
    pool = find_photos(photos, split)
    for name in ("images", "references", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    rows = _make(_plan(pool, folder, versions, size, seed), contents or len(pool), workers)
    if not rows:
        raise UserError(f"no photo of {photos} has a region that fills 3-50% of it; look at its region maps")
    write_manifest(rows, folder / "manifest.csv")
    _print_summary(rows, folder / "manifest.csv")


def _check_counts(**values: tuple[int, int]) -> None:
    for name, (value, least) in values.items():
        if value < least:
            raise UserError(f"{name} {value} is too small; give {least} or more")


def _plan(photos: "list[Photo]", out: Path, versions: int, size: int, seed: int) -> "Iterator[Content]":
    """Every photo once, in drawn order, with donors of its own source and split.

    A photo's weight is 1 / sqrt(photos of its source): large sources lead, but not by their full size.
    """
    import numpy as np

    from harmonyiqa.synthesize.compose import Content

    rng = np.random.default_rng(seed)
    count = Counter(photo.source for photo in photos)
    weight = np.array([count[photo.source] ** -0.5 for photo in photos])
    siblings: defaultdict[tuple[str, str | None], list[Photo]] = defaultdict(list)
    for photo in photos:
        siblings[photo.source, photo.split].append(photo)
    for index in rng.choice(len(photos), size=len(photos), replace=False, p=weight / weight.sum()):
        photo = photos[index]
        others = siblings[photo.source, photo.split]
        drawn = rng.choice(len(others), size=min(_DONORS + 1, len(others)), replace=False)
        donors = [others[i] for i in drawn if others[i] is not photo][:_DONORS]
        yield Content(photo, tuple(donors), out, versions, size, seed)


def _make(plan: "Iterator[Content]", wanted: int, workers: int) -> "list[Row]":
    """Make contents in the plan's order until there are ``wanted``: some photos have no usable region."""
    from tqdm import tqdm

    from harmonyiqa.synthesize.compose import make_content

    rows: list[Row] = []
    with (
        ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as executor,
        tqdm(total=wanted, desc="synthesize", unit="content", file=sys.stderr) as progress,
    ):
        made = 0
        in_order = map if workers == 1 else partial(executor.map, chunksize=4)
        while batch := list(islice(plan, wanted - made)):
            results: Iterable[list[Row]] = in_order(make_content, batch)
            for result in results:
                made += bool(result)
                progress.update(bool(result))
                rows += result
    return rows


def _print_summary(rows: "list[Row]", manifest: Path) -> None:
    import numpy as np

    from harmonyiqa.metrics import MetricError, srcc

    mos = np.array([row.mos for row in rows])
    untouched = np.mean([row.extra["severity"] == 0 for row in rows])
    decoyed = np.mean([row.extra["decoy"] is not None for row in rows])
    print(f"{manifest}: {len(rows)} images of {len({row.content for row in rows})} contents")
    print(f"untouched regions {untouched:.1%}, whole-photo decoys {decoyed:.1%}")
    print(
        f"synthetic MOS: mean {mos.mean():.2f}, sd {mos.std():.2f}, range {mos.min():.2f} to {mos.max():.2f}"
    )

    methods = np.array([row.method for row in rows])
    means = {method: mos[methods == method].mean() for method in methods}
    try:
        correlation = f"{srcc([means[method] for method in methods], mos):.3f}"
    except MetricError:  # one method, or one row
        correlation = "undefined"
    print(f"SRCC of each method's mean over these rows: {correlation} (near 0: the method tells nothing)")
    print("The scores are synthetic: a function of the colour difference, not anybody's opinion.")
