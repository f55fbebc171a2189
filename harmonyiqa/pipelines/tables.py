"""``harmonyiqa tables``: manifests and predictions in; the paper's tables with ours beside them out."""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harmonyiqa.errors import UserError

if TYPE_CHECKING:
    from harmonyiqa.data.manifest import Manifest, Row
    from harmonyiqa.data.predictions import Prediction
    from harmonyiqa.evaluate.join import Joined
    from harmonyiqa.evaluate.tables import Result
    from harmonyiqa.report.paper import Own, PublishedTable
    from harmonyiqa.report.paper_page import Figure

logger = logging.getLogger(__name__)

HARMONYIQAD = "harmonyiqad"
METRICS = ("srcc", "krcc", "plcc")
FIGURES = 6  # predictors that get a scatter plot and residuals
MODES = {"FR": "II", "NR": "III"}  # table of HarmonyIQAD


@dataclass(frozen=True)
class _Set:
    """A data set: all its rows, those that are measured on, and those that the null predictors learn from."""

    whole: "Manifest"
    split: str
    chosen: "Manifest"
    train: "list[Row]"


@dataclass(frozen=True)
class _File:
    """A predictions file: the row of the tables that it fills, its set, and its scores beside the MOS."""

    path: str
    key: str
    set: str
    joined: "Joined"
    results: "list[Result]"


def tables(
    manifest: str,
    predictions: list[str],
    others: list[str] | None = None,
    cross: list[str] | None = None,
    split: str | None = None,
    null_manifest: str | None = None,
    seeds: int = 200,
    bootstrap: int = 1000,
    seed: int = 0,
    out: str | None = None,
    notes: list[str] | None = None,
) -> int:
    """Print tables II to VI of the paper, the published figures beside ours; what is missing stands as missing.

    A predictions file with references fills table II, one without table III; one of another set table V. Its row is
    the model's name in it (`psnr`, `fsim`, ...), or what stands before the equals sign: `harmonyiqa=runs/a/scores.csv`;
    for table IV `lora_vision=`, `lora_llm=`, `lora_both=`, `lora_projector=`. Several files of one row are seeds: mean
    and deviation.

    Args:
        manifest: HarmonyIQAD, with mos, method, group, content and split, as .csv, .jsonl or .parquet.
        predictions: Files that `harmonyiqa score` or `harmonyiqa baselines` wrote, as FILE or ROW=FILE.
        others: Manifests of other sets, as csiq=FILE, tid2013=FILE, kadid10k=FILE or live=FILE; predictions belong to
            the set whose images they name.
        cross: Files cross.json that `harmonyiqa cross` wrote, for table VI.
        split: train, val, test or all. Default: test, or all where a manifest has no test rows.
        null_manifest: Where the pixel-free predictors of HarmonyIQAD learn. Default: the manifest's own train rows.
        seeds: Random splits, of either kind, on which the pixel-free predictors are shown; 0 leaves them out.
        bootstrap: Resamples behind each interval.
        seed: Seed of the resamples.
        out: Folder for tables.md, tables.tex, tables.csv, tables.html and the figures.
        notes: Further lines of the protocol.

    Returns:
        0, or 1 if rows of a manifest could not be used; each kind is counted and named in the protocol.

    Raises:
        UserError: if a file is wrong, belongs to no set or to two, or has no row to go to.
    """
    from harmonyiqa.data.tables import write_table
    from harmonyiqa.report.paper import fill, read_published
    from harmonyiqa.report.paper_page import write_tables_page
    from harmonyiqa.report.paper_text import Document, to_latex, to_markdown, to_rows
    from harmonyiqa.report.tables import write_text

    if bootstrap < 1:
        raise UserError(f"bootstrap {bootstrap} must be at least 1")
    published = read_published()
    sets = _read_sets(manifest, others or [], split, null_manifest)
    files = [_read_file(each, sets, published, bootstrap, seed) for each in predictions]
    own, placed = _place(published, files, sets, cross or [], bootstrap, seed)
    rows = [row for row in sets[HARMONYIQAD].whole.rows if row.mos is not None]
    document = Document(
        title=f"The paper's tables on {Path(manifest).name}",
        tables=fill(published, own),
        seeds=_over_seeds(rows, seeds),
        protocol=[*_protocol(sets, files, bootstrap, seed), *placed, *(notes or [])],
    )
    text = to_markdown(document)
    if out is not None:
        folder = Path(out)
        figures = _figures(rows, files)
        write_text(text, folder / "tables.md")
        write_text(to_latex(document), folder / "tables.tex")
        write_table(to_rows(document), folder / "tables.csv")
        for figure in figures:
            write_text(figure.svg, folder / "figures" / f"{figure.name}.svg")
        write_tables_page(document, figures, folder / "tables.html")
    print(text, end="")
    if out is not None:
        print(f"page: {Path(out) / 'tables.html'}")
    return int(any(file.joined.unused for file in files))


def _read_sets(
    manifest: str, others: Sequence[str], split: str | None, null_manifest: str | None
) -> dict[str, _Set]:
    from harmonyiqa.data.manifest import read_manifest
    from harmonyiqa.pipelines.evaluate import train_rows
    from harmonyiqa.report.paper import SETS

    paths = {HARMONYIQAD: manifest}
    for each in others:
        name, equals, path = each.partition("=")
        if not equals or name not in SETS:
            raise UserError(f"other {each!r} must be SET=FILE with SET one of {', '.join(SETS)}")
        paths[name] = path
    sets = {}
    for name, path in paths.items():
        whole = read_manifest(path)
        part = split or ("test" if any(row.split == "test" for row in whole.rows) else "all")
        chosen = whole if part == "all" else whole.split(part)
        if all(row.mos is None for row in chosen.rows):
            raise UserError(f"{path}: no row (split {part}) has a mos, so there is nothing to measure")
        train = train_rows(whole, null_manifest if name == HARMONYIQAD else None)
        sets[name] = _Set(whole, part, chosen, [row for row in train if row.mos is not None])
    return sets


def _read_file(
    argument: str, sets: Mapping[str, _Set], published: "Sequence[PublishedTable]", bootstrap: int, seed: int
) -> _File:
    from harmonyiqa.data.predictions import read_predictions
    from harmonyiqa.evaluate.join import join

    name, equals, path = argument.partition("=")
    if not equals or Path(argument).exists():
        name, path = "", argument
    found = read_predictions(path)
    models = list(dict.fromkeys(prediction.model for prediction in found if prediction.model))
    if not name and len(models) != 1:
        raise UserError(
            f"{path} names {'no model' if not models else ' and '.join(models)}, so its row is not known; "
            f"give ROW={path}"
        )
    belongs = _set_of(path, found, sets)
    joined = join(sets[belongs].chosen, found, known=sets[belongs].whole.rows)
    for problem in joined.problems:
        logger.warning("%s: %s", path, problem)
    if not joined.rows:
        raise UserError(f"{path}: no row of {sets[belongs].chosen.path} has both a MOS and a score")
    if joined.mode not in MODES:
        raise UserError(f"{path} has scores with and without reference; keep one kind a file")
    key = _key(name or models[0], published)
    return _File(path, key, belongs, joined, _measured(joined.rows, {key: joined.scores}, bootstrap, seed))


def _set_of(path: str, predictions: "Sequence[Prediction]", sets: Mapping[str, _Set]) -> str:
    """The set that most of the predicted images belong to."""
    images = {prediction.image for prediction in predictions}
    counts = {name: len(images & {row.image for row in each.whole.rows}) for name, each in sets.items()}
    most = max(counts.values())
    best = [name for name, count in counts.items() if count == most]
    if not most:
        names = ", ".join(str(each.whole.path) for each in sets.values())
        example = predictions[0].image if predictions else "nothing"
        raise UserError(
            f"{path} predicts {example!r}, which is in none of {names}; score those manifests themselves"
        )
    if len(best) > 1:
        raise UserError(f"{path} fits {' and '.join(best)} alike; give tables of one of them at a time")
    return best[0]


def _key(name: str, published: "Sequence[PublishedTable]") -> str:
    """A published row's key, by key or by printed name; another name as it is."""

    def plain(text: str) -> str:
        return re.sub(r"[^a-z0-9]", "", text.lower())

    for table in published:
        for row in table.rows:
            if row.key is not None and plain(name) in (plain(row.key), plain(row.name)):
                return row.key
    return name


def _measured(rows: "Sequence[Row]", predictors: Any, bootstrap: int, seed: int) -> "list[Result]":
    from harmonyiqa.evaluate.tables import measure, measurement, subsets

    measured = measurement(rows, bootstrap=bootstrap, seed=seed)
    return measure(measured, predictors, subsets(rows), metrics=METRICS)


def _place(
    published: "Sequence[PublishedTable]",
    files: Sequence[_File],
    sets: Mapping[str, _Set],
    cross: Sequence[str],
    bootstrap: int,
    seed: int,
) -> "tuple[dict[str, Own], list[str]]":
    """What was measured, by the table that it belongs to, and what has no place."""
    from harmonyiqa.evaluate.null_predictors import NULL_PREDICTORS, null_predictors
    from harmonyiqa.report.paper import SETS, Own
    from harmonyiqa.report.tables import read_results

    own = {table.name: Own() for table in published}
    ablation = {row.key for table in published if table.name == "IV" for row in table.rows}
    columns = {subset for table in published if table.name == "V" for subset in table.subsets}
    notes = []
    for file in files:
        mode = file.joined.mode
        if file.set != HARMONYIQAD:
            title = SETS[file.set]
            if title not in columns:
                notes.append(f"{file.path} is of {title}, which has no column in table V.")
            results = [replace(each, subset=title) for each in file.results if each.subset == "All"]
            # one file a set: they meet in one row
            own["V"].methods.setdefault((file.key, mode), []).append(results)
            continue
        places = [MODES[mode]]
        if mode == "NR" and file.key in ablation:
            places = ["III", "IV"] if file.key == "harmonyiqa" else ["IV"]
        for place in places:
            own[place].methods.setdefault((file.key, mode), []).append(file.results)
    for name, each in sets.items():
        rows = [row for row in each.chosen.rows if row.mos is not None]
        nulls = null_predictors(each.train, rows)
        results = _measured(rows, nulls, bootstrap, seed) if nulls else []
        if name == HARMONYIQAD:
            for place in ("II", "III", "IV"):
                own[place].nulls += results
        else:
            own["V"].nulls += [
                replace(result, subset=SETS[name]) for result in results if result.subset == "All"
            ]
    for path in cross:
        for result in read_results(path):
            if result.predictor in NULL_PREDICTORS:
                own["VI"].nulls.append(result)
            else:
                own["VI"].methods.setdefault((result.predictor, "NR"), []).append([result])
        notes.append(f"Table VI, ours: {path}.")
    return own, notes


def _over_seeds(rows: "Sequence[Row]", seeds: int) -> "dict[str, list[Result]]":
    from harmonyiqa.evaluate.seeds import measure_seeds

    if not seeds or not all(row.method and row.content for row in rows):
        return {}
    return {
        f"{'by content' if kind == 'content' else 'per method, as in the paper'} ({seeds} seeds, 4:1)": measure_seeds(
            rows, {}, seeds=seeds, kind=kind, metrics=METRICS
        )
        for kind in ("content", "method")
    }


def _protocol(sets: Mapping[str, _Set], files: Sequence[_File], bootstrap: int, seed: int) -> list[str]:
    from harmonyiqa import __version__
    from harmonyiqa.evaluate.join import mos_of
    from harmonyiqa.evaluate.summary import interval_note, null_note, split_note, synthetic_notes
    from harmonyiqa.files import sha256_of
    from harmonyiqa.report.paper import SETS

    lines = [
        f"harmonyiqa {__version__}. Published figures: from the paper's text, none recomputed.",
        "KRCC is tau-b. PLCC is raw. The paper does not say which it prints; its MSE and PSNR, which have one "
        "SRCC, differ in it, as they would without a fit.",
    ]
    for name, each in sets.items():
        rows = [row for row in each.chosen.rows if row.mos is not None]
        mos = mos_of(rows)
        title = SETS.get(name, "HarmonyIQAD")
        lines += [
            f"{title}: {each.whole.path.name}, SHA-256 {sha256_of(each.whole.path)[:16]}, {len(each.whole.rows)} rows; "
            f"measured on {len(rows)}, MOS {mos.min():.2f} to {mos.max():.2f}.",
            split_note(each.whole.rows, each.split),
            *synthetic_notes(rows),
            null_note(rows, each.train, any(row.method or row.content for row in rows) and bool(each.train)),
        ]
    largest = max(len(each.chosen.rows) for each in sets.values())
    clustered = all(row.content for each in sets.values() for row in each.chosen.rows)
    lines.append(interval_note(clustered, bootstrap, seed, largest))
    for file in files:
        problems = "".join(f"; {problem}" for problem in file.joined.problems)
        lines.append(
            f"{file.key} ({file.joined.mode}, {SETS.get(file.set, 'HarmonyIQAD')}): {Path(file.path).name}, SHA-256 "
            f"{sha256_of(file.path)[:16]}, {len(file.joined.rows)} images{problems}."
        )
    return lines


def _figures(rows: "Sequence[Row]", files: Sequence[_File]) -> "list[Figure]":
    from harmonyiqa.report import figures
    from harmonyiqa.report.paper_page import Figure

    found = [
        Figure(
            "fig3a_mos",
            f"Figure 3a: distribution of the {len(rows)} MOS.",
            figures.mos_distribution(rows),
        )
    ]
    if (svg := figures.mos_per_algorithm(rows)) is not None:
        found.append(
            Figure(
                "fig3b_algorithms", "Figure 3b: mean and standard deviation of the MOS, by algorithm.", svg
            )
        )

    def order(file: _File) -> tuple[bool, float]:
        return file.key != "harmonyiqa", -abs(file.results[0].cells["srcc"].value or 0)

    shown = sorted((file for file in files if file.set == HARMONYIQAD), key=order)[:FIGURES]
    for number, file in enumerate(shown, 1):
        name = f"{file.key}, {file.joined.mode}"
        stem = f"{number:02}_{re.sub(r'[^A-Za-z0-9]+', '_', name)}"
        joined = file.joined
        found.append(
            Figure(
                f"{stem}_scatter",
                f"{name}: MOS over predictions, with the 4-parameter curve.",
                figures.scatter(joined.rows, joined.scores, name),
            )
        )
        if (svg := figures.residuals_per_method(joined.rows, joined.scores)) is not None:
            found.append(
                Figure(
                    f"{stem}_residuals",
                    f"{name}: MOS less the fitted prediction, by algorithm; below 0 it is flattered.",
                    svg,
                )
            )
    return found
