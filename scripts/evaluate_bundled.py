"""What a model separates on the bundled model's test set (`make_bundled_test.py`), and what baselines do.

    python scripts/evaluate_bundled.py work/bundled_test --models bundled --out results/bundled_test

Areas under the ROC curve for "the better kind scores higher" (0.5: blind to it), pairs of one scene in the right
order, each with a 95% interval over photos; for all images, and as the mean over the sources of photos.

Baselines that are given the mask: the CIEDE2000 between the mean colours inside and outside, and the distance
between the two colour histograms. Weights of an earlier model are a folder like any other.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jsonargparse import auto_cli
from PIL import Image
from tqdm import tqdm

from harmonyiqa.color import delta_e_2000, srgb_to_lab
from harmonyiqa.data.manifest import Manifest, read_manifest
from harmonyiqa.evaluate.intervals import Interval, draw, interval, resample_means
from harmonyiqa.evaluate.separation import pairs_within, resample_auc, right
from harmonyiqa.metrics import Floats, MetricError, auc
from harmonyiqa.pipelines.evaluate import load_model, score_manifest
from harmonyiqa.report.tables import table, write_text

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


@dataclass(frozen=True)
class Measured:
    """One number with its interval."""

    value: float
    interval: Interval | None

    def __str__(self) -> str:
        if self.interval is None:
            return f"{self.value:.3f}"
        return f"{self.value:.3f} [{self.interval.low:.3f}, {self.interval.high:.3f}]"


def main(
    folder: str,
    models: list[str] | None = None,
    out: str = "results/bundled_test",
    full_reference: bool = False,
    bootstrap: int = 1000,
    seed: int = 0,
) -> int:
    """Measure models and baselines.

    Args:
        folder: what `make_bundled_test.py` wrote.
        models: model folders, or `bundled`.
        out: where table.md and table.json go.
        full_reference: score with the untouched photo as reference too.
        bootstrap: resamples behind each interval.
        seed: seed of the resamples.
    """
    manifest = read_manifest(Path(folder) / "manifest.csv")
    scores = baselines(manifest)
    for name in models or ["bundled"]:
        model = load_model(name)
        for mode in ("NR", "FR") if full_reference else ("NR",):
            found = score_manifest(model, manifest, mode == "NR", 32)
            missing = [p.image for p in found if p.score is None]
            if missing:
                raise RuntimeError(f"{name} could not score {len(missing)} images, {missing[0]} first")
            scores[f"{Path(name).name}, {mode}"] = np.array([p.score for p in found])
    results = {name: measure(manifest, values, bootstrap, seed) for name, values in scores.items()}
    text = markdown(results, manifest)
    write_text(text, str(Path(out) / "table.md"))
    plain = {
        name: {
            where: {
                what: [m.value, *(vars(m.interval).values() if m.interval else ())]
                for what, m in cells.items()
            }
            for where, cells in places.items()
        }
        for name, places in results.items()
    }
    write_text(json.dumps(plain, indent=1) + "\n", str(Path(out) / "table.json"))
    print(text)
    return 0


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


def measure(manifest: Manifest, scores: Floats, bootstrap: int, seed: int) -> dict[str, dict[str, Measured]]:
    """Every measure, on all images, on each source, and as the mean over sources."""
    rows = manifest.rows
    kinds = np.array([row.group for row in rows])
    severity = np.array([row.extra["severity"] for row in rows], np.float64)
    sources = np.array([row.extra["source"] for row in rows])
    scenes = np.array([row.content for row in rows])
    photos = [str(scene).rsplit("-", 1)[0] for scene in scenes]
    resamples = draw(photos, bootstrap, seed)
    places = {"all": np.ones(len(rows), bool)} | {str(s): sources == s for s in np.unique(sources)}
    found: dict[str, dict[str, Measured]] = {}
    replicates: dict[str, dict[str, Floats]] = {}
    for place, here in places.items():
        found[place], replicates[place] = {}, {}
        for name, (high, low) in SEPARATED.items():
            better, worse = (here & np.isin(kinds, kind) for kind in (high, low))
            if not better.any() or not worse.any():
                continue
            replicates[place][name] = resample_auc(scores, better, worse, resamples)
            found[place][name] = Measured(
                auc(scores[better], scores[worse]), interval(replicates[place][name])
            )
        chosen = np.flatnonzero(here)
        higher, lower = pairs_within(scenes[chosen], -severity[chosen], GAP)
        judged = right(scores[chosen], higher, lower)
        replicates[place][PAIRS] = resample_means(judged, resamples.rows(chosen[higher]))
        found[place][PAIRS] = Measured(float(judged.mean()), interval(replicates[place][PAIRS]))
    found["mean of sources"] = {}
    for name in (*SEPARATED, PAIRS):
        of = [place for place in places if place != "all" and name in found[place]]
        if not of:
            continue
        values = [found[place][name].value for place in of]
        mean = np.mean([replicates[place][name] for place in of], axis=0)
        found["mean of sources"][name] = Measured(float(np.mean(values)), interval(mean))
    return found


def markdown(results: dict[str, dict[str, dict[str, Measured]]], manifest: Manifest) -> str:
    """One table for all images, one for the mean of sources, and one a predictor by source."""
    names = [*SEPARATED, PAIRS]
    parts = [f"# {manifest.path.parent.name}, {len(manifest.rows)} images (synthetic composites)"]
    for place in ("all", "mean of sources"):
        lines = [[n, *(str(results[p][place].get(n, "")) for p in results)] for n in names]
        parts += [f"## {place}", table(["", *results], lines)]
    for predictor, places in results.items():
        of = [place for place in places if place not in ("all", "mean of sources")]
        lines = [[n, *(_short(places[place].get(n)) for place in of)] for n in names]
        parts += [f"## {predictor}, by source", table(["", *of], lines)]
    return "\n\n".join(parts) + "\n"


def _short(measured: Measured | None) -> str:
    return "" if measured is None else f"{measured.value:.2f}"


if __name__ == "__main__":
    try:
        sys.exit(auto_cli(main, as_positional=True))
    except MetricError as error:
        sys.exit(str(error))
