"""What a model separates on the bundled model's test set (`make_bundled_test.py`), and what baselines do.

    python scripts/evaluate_bundled.py work/bundled_test --models bundled --out results/bundled_test

Areas under the ROC curve for "the better kind scores higher" (0.5: blind to it), pairs of one scene in the right
order, each with a 95% interval over photos; for all images, and as the mean over the sources of photos; strong shifts
by family too. Then how far scores move when an image is saved again, and how much of the altered region the heat map
finds, beside a region of another image.

Baselines that are given the mask: the CIEDE2000 between the mean colours inside and outside, the distance between the
two colour histograms, and with `--photos` boosted trees on colour statistics of both, trained on composites of the
pack's train photos. Weights of an earlier model are a folder like any other.
"""

import io
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
from jsonargparse import auto_cli
from make_bundled_test import BINS
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from tqdm import tqdm

from harmonyiqa import HarmonyIQA
from harmonyiqa.color import delta_e_2000, srgb_to_lab
from harmonyiqa.data.manifest import Manifest, read_manifest
from harmonyiqa.evaluate.intervals import Interval, draw, interval, resample_means
from harmonyiqa.evaluate.separation import pairs_within, resample_auc, right
from harmonyiqa.images import open_rgb
from harmonyiqa.metrics import Floats, MetricError, auc
from harmonyiqa.pipelines.evaluate import load_model, score_manifest
from harmonyiqa.report.tables import table, write_text
from harmonyiqa.synthesize.bank import build_bank
from harmonyiqa.synthesize.batch import BatchMaker
from harmonyiqa.synthesize.recipe import Recipe

GAP = 3.0  # CIEDE2000 by which two images of a pair must differ
# measure -> kinds that should score high, kinds that should score low
SEPARATED = {
    "untouched / strong": (["untouched"], ["strong"]),
    "untouched / medium": (["untouched"], ["medium"]),
    "untouched / weak": (["untouched"], ["weak"]),
    "untouched / same class": (["untouched"], ["same_class"]),
    "untouched, matched / mismatched": (["untouched", "matched"], ["mismatched"]),
    "untouched / matched": (["untouched"], ["matched"]),
    "untouched / whole": (["untouched"], ["whole"]),
}
PAIRS = "pairs of a scene"
_STRONG = "untouched / strong"
_FAMILY = "family "


@dataclass(frozen=True)
class Measured:
    """One number, and what it comes to in every resample."""

    value: float
    replicates: Floats

    @cached_property
    def interval(self) -> Interval | None:
        """The central 95% of the resamples."""
        return interval(self.replicates)

    def __sub__(self, other: Self) -> "Measured":
        return Measured(self.value - other.value, self.replicates - other.replicates)

    def __str__(self) -> str:
        if self.interval is None:
            return f"{self.value:.3f}"
        return f"{self.value:.3f} [{self.interval.low:.3f}, {self.interval.high:.3f}]"


def main(
    folder: str,
    models: str = "bundled",
    out: str = "results/bundled_test",
    full_reference: bool = False,
    every: int = 1,
    photos: str | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
) -> int:
    """Measure models and baselines.

    Args:
        folder: what `make_bundled_test.py` wrote.
        models: model folders or `bundled`, with commas between them.
        out: where table.md and table.json go.
        full_reference: score with the untouched photo as reference too.
        every: only each so-many-th scene.
        photos: the photo pack: trains the baseline that learns.
        bootstrap: resamples behind each interval.
        seed: seed of the resamples.
    """
    manifest = some_scenes(read_manifest(Path(folder) / "manifest.csv"), every)
    scores = baselines(manifest)
    if photos is not None:
        scores["boosted trees, mask given"] = boosted_trees(photos, manifest)
    again: dict[str, dict[str, float]] = {}
    overlaps: dict[str, dict[str, Measured]] = {}
    for name in models.split(","):
        model = load_model(name)
        again[Path(name).name] = saved_again(model, manifest, seed)
        if model.map_head is not None:
            overlaps[Path(name).name] = heat_maps(model, manifest, bootstrap, seed)
        for mode in ("NR", "FR") if full_reference else ("NR",):
            found = score_manifest(model, manifest, mode == "NR", 32)
            missing = [p.image for p in found if p.score is None]
            if missing:
                raise RuntimeError(f"{name} could not score {len(missing)} images, {missing[0]} first")
            scores[f"{Path(name).name}, {mode}"] = np.array([p.score for p in found])
    results = {name: measure(manifest, values, bootstrap, seed) for name, values in scores.items()}
    text = markdown(results, manifest) + more(again, overlaps)
    write_text(text, str(Path(out) / "table.md"))
    plain = {
        "separated": {
            name: {place: _plain(cells) for place, cells in places.items()}
            for name, places in results.items()
        },
        "saved again": again,
        "heat maps": {name: _plain(cells) for name, cells in overlaps.items()},
    }
    write_text(json.dumps(plain, indent=1) + "\n", str(Path(out) / "table.json"))
    print(text)
    return 0


def some_scenes(manifest: Manifest, every: int) -> Manifest:
    """Each so-many-th scene of a manifest."""
    scenes = set(sorted({str(row.content) for row in manifest.rows})[::every])
    return replace(manifest, rows=[row for row in manifest.rows if str(row.content) in scenes])


def _plain(cells: dict[str, Measured]) -> dict[str, list[float]]:
    """Value, lower and upper end of each."""
    return {
        name: [cell.value, *(vars(cell.interval).values() if cell.interval else ())]
        for name, cell in cells.items()
    }


def baselines(manifest: Manifest) -> dict[str, Floats]:
    """Scores (N,) of the colour distances with the mask given, the larger distance scoring lower."""
    means, histograms = [], []
    for row in tqdm(manifest.rows, "baselines", unit="image"):
        rgb = np.asarray(Image.open(manifest.resolve(row.image)).convert("RGB"), np.float64) / 255
        inside = np.asarray(Image.open(manifest.resolve(row.mask or ""))) > 127
        lab = srgb_to_lab(rgb)
        means.append(-float(delta_e_2000(lab[inside].mean(0), lab[~inside].mean(0))))
        bins = [np.histogramdd(lab[part], _BINS)[0] / max(1, part.sum()) for part in (inside, ~inside)]
        histograms.append(-float(np.abs(bins[0] - bins[1]).sum() / 2))
    return {"mean colours, mask given": np.array(means), "histograms, mask given": np.array(histograms)}


_BINS = [np.linspace(0, 100, 9), np.linspace(-100, 100, 17), np.linspace(-100, 100, 17)]


def boosted_trees(photos: str, manifest: Manifest) -> Floats:
    """Scores (N,) of a classifier that is given the mask, and learned from composites of the train photos."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    maker = BatchMaker(build_bank(photos, "train", _LEARNT), _LEARNT, Recipe(untouched=0.4, paste=0))
    seen, altered = [], []
    for number in tqdm(range(_COMPOSITES // 32), "boosted trees", unit="batch"):
        made = maker.batch(number, 32)
        for image, alpha in zip(
            made.image.permute(0, 2, 3, 1).numpy(), made.alpha[:, 0].numpy(), strict=True
        ):
            seen.append(_statistics(image, alpha > 0.5))
        altered += (made.severity >= BINS["weak"][0]).tolist()
    trees = HistGradientBoostingClassifier(random_state=0).fit(np.array(seen), np.array(altered))
    found = []
    for row in tqdm(manifest.rows, "boosted trees", unit="image"):
        image, mask = (
            Image.open(manifest.resolve(path)).resize((_LEARNT, _LEARNT), Image.Resampling.BILINEAR)
            for path in (row.image, row.mask or "")
        )
        found.append(_statistics(np.asarray(image.convert("RGB")) / 255, np.asarray(mask) > 127))
    return -trees.predict_proba(np.array(found))[:, 1]


def _statistics(rgb: NDArray[np.floating], inside: NDArray[np.bool_]) -> Floats:
    """Of CIELAB colours inside, outside and just outside: quantiles, means, spreads, and their differences."""
    ring = ndimage.binary_dilation(inside, iterations=max(1, len(inside) // 12)) & ~inside
    lab = srgb_to_lab(rgb)
    parts = []
    for part in (inside, ~inside, ring):
        colors = lab[part] if part.any() else np.zeros((1, 3))
        chroma = np.hypot(colors[:, 1], colors[:, 2])
        values = np.column_stack([colors, chroma])
        parts.append(
            np.concatenate([np.quantile(values, (0.05, 0.5, 0.95), 0), [values.mean(0), values.std(0)]])
        )
    own, other, near = parts
    return np.concatenate([own, other, own - other, own - near, [[inside.mean()] * 4]]).ravel()


_LEARNT, _COMPOSITES = 128, 8000


def saved_again(model: HarmonyIQA, manifest: Manifest, seed: int, count: int = 200) -> dict[str, float]:
    """Mean absolute change of the score of images that are saved as another file, or made smaller."""
    rows = [row for row in manifest.rows if row.group in ("untouched", "strong")]
    chosen = np.random.default_rng(seed).choice(len(rows), min(count, len(rows)), replace=False)
    images = [open_rgb(manifest.resolve(rows[index].image)) for index in chosen]
    plain = np.array(model.score(images))
    changes: dict[str, Callable[[Image.Image], Image.Image]] = {
        "PNG": lambda image: _through(image, "PNG"),
        "JPEG, quality 95": lambda image: _through(image, "JPEG", quality=95),
        "a tenth smaller": lambda image: image.resize(
            [round(0.9 * s) for s in image.size], Image.Resampling.BICUBIC
        ),
    }
    return {
        name: float(np.abs(np.array(model.score([change(image) for image in images])) - plain).mean())
        for name, change in changes.items()
    }


def _through(image: Image.Image, kind: str, **options: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return Image.open(file).convert("RGB")


def heat_maps(model: HarmonyIQA, manifest: Manifest, bootstrap: int, seed: int) -> dict[str, Measured]:
    """How much the brightest part of the heat map, as large as the altered region, is the altered region.

    Intersection over union, in the mean over strong shifts and by how much of the image was altered; "another
    region" is that of another image in its place.
    """
    rows = [row for row in manifest.rows if row.group == "strong"]
    masks = [np.asarray(Image.open(manifest.resolve(row.mask or ""))) > 127 for row in rows]
    found, other = [], []
    for index, row in enumerate(tqdm(rows, "heat maps", unit="image")):
        example = model.prepare(open_rgb(manifest.resolve(row.image)))
        heat = Image.fromarray(model.predict_map(model.collate([example]))[0].cpu().numpy())
        mask = masks[index]
        values = np.asarray(heat.resize(mask.shape[::-1], Image.Resampling.BICUBIC))
        found.append(_overlap(values, mask))
        other.append(_overlap(masks[index - 1].astype(float), mask))
    area = np.array([mask.mean() for mask in masks])
    resamples = draw([str(row.content).rsplit("-", 1)[0] for row in rows], bootstrap, seed)
    places = {
        "all": area > 0,
        **{f"{low:.0%}-{high:.0%}": (area >= low) & (area < high) for low, high in _AREAS},
    }
    overlaps = {}
    for place, here in places.items():
        for name, measured in (("heat map", found), ("another region", other)):
            some = np.array(measured)[here]
            replicates = resample_means(some, resamples.rows(here))
            overlaps[f"{name}, {place}"] = Measured(float(some.mean()), replicates)
    return overlaps


_AREAS = ((0.03, 0.1), (0.1, 0.25), (0.25, 0.6))


def _overlap(values: NDArray[np.floating], mask: NDArray[np.bool_]) -> float:
    """Of the mask and the highest values, as many as the mask has pixels."""
    highest = np.argsort(values, axis=None, kind="stable")[-int(mask.sum()) :]
    shared = mask.ravel()[highest].sum()
    return float(shared / (2 * len(highest) - shared))


def measure(manifest: Manifest, scores: Floats, bootstrap: int, seed: int) -> dict[str, dict[str, Measured]]:
    """Every measure, on all images, on each source, and as the mean over sources."""
    rows = manifest.rows
    kinds = np.array([row.group for row in rows])
    severity = np.array([row.extra["severity"] for row in rows], np.float64)
    sources = np.array([row.extra["source"] for row in rows])
    scenes = np.array([row.content for row in rows])
    photos = [str(scene).rsplit("-", 1)[0] for scene in scenes]
    resamples = draw(photos, bootstrap, seed)

    def separated(better: NDArray[np.bool_], worse: NDArray[np.bool_]) -> Measured:
        value = auc(scores[better], scores[worse])
        return Measured(value, resample_auc(scores, better, worse, resamples))

    places = {"all": np.ones(len(rows), bool)} | {str(s): sources == s for s in np.unique(sources)}
    families = np.array([row.method for row in rows])
    shifted = kinds == "strong"
    by_family = {
        f"{_FAMILY}{name}": (kinds == "untouched") | (shifted & (families == name))
        for name in np.unique(families[shifted])
    }
    found: dict[str, dict[str, Measured]] = {}
    for place, here in places.items():
        found[place] = {}
        for name, (high, low) in SEPARATED.items():
            better, worse = (here & np.isin(kinds, kind) for kind in (high, low))
            if better.any() and worse.any():
                found[place][name] = separated(better, worse)
        chosen = np.flatnonzero(here)
        higher, lower = pairs_within(scenes[chosen], -severity[chosen], GAP)
        judged = right(scores[chosen], higher, lower)
        replicates = resample_means(judged, resamples.rows(chosen[higher]))
        found[place][PAIRS] = Measured(float(judged.mean()), replicates)
    for place, here in by_family.items():
        found[place] = {_STRONG: separated(here & ~shifted, here & shifted)}
    found["mean of sources"] = {}
    for name in (*SEPARATED, PAIRS):
        of = [found[place][name] for place in places if place != "all" and name in found[place]]
        if of:
            value = float(np.mean([each.value for each in of]))
            found["mean of sources"][name] = Measured(
                value, np.mean([each.replicates for each in of], axis=0)
            )
    return found


def markdown(results: dict[str, dict[str, dict[str, Measured]]], manifest: Manifest) -> str:
    """One table for all images, one for the mean of sources, and one a predictor by source."""
    names = [*SEPARATED, PAIRS]
    parts = [f"# {manifest.path.parent.name}, {len(manifest.rows)} images (synthetic composites)"]
    for place in ("all", "mean of sources"):
        lines = [[n, *(str(results[p][place].get(n, "")) for p in results)] for n in names]
        parts += [f"## {place}", table(["", *results], lines)]
    families = [place for place in next(iter(results.values())) if place.startswith(_FAMILY)]
    lines = [
        [place.removeprefix(_FAMILY), *(str(results[p][place][_STRONG]) for p in results)]
        for place in families
    ]
    parts += [f"## {_STRONG}, by family", table(["", *results], lines)]
    for predictor, places in results.items():
        of = [p for p in places if p not in ("all", "mean of sources") and not p.startswith(_FAMILY)]
        lines = [[n, *(str(places[place].get(n, "")) for place in of)] for n in names]
        parts += [f"## {predictor}, by source", table(["", *of], lines)]
    return "\n\n".join(parts) + "\n"


def more(again: dict[str, dict[str, float]], overlaps: dict[str, dict[str, Measured]]) -> str:
    """The tables of images saved again, and of heat maps."""
    parts = []
    shown: list[tuple[str, dict[str, dict[str, str]]]] = [
        (
            "points by which a score moves when the image is saved again, in the mean",
            {model: {name: f"{value:.2f}" for name, value in of.items()} for model, of in again.items()},
        ),
        (
            "intersection over union of heat map and altered region, strong shifts",
            {model: {name: str(value) for name, value in of.items()} for model, of in overlaps.items()},
        ),
    ]
    for title, results in shown:
        if results:
            names = list(next(iter(results.values())))
            lines = [[name, *(of[name] for of in results.values())] for name in names]
            parts.append(f"\n## {title}\n\n" + table(["", *results], lines) + "\n")
    return "".join(parts)


if __name__ == "__main__":
    try:
        sys.exit(auto_cli(main, as_positional=True))
    except MetricError as error:
        sys.exit(str(error))
