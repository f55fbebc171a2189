"""``harmonyiqa harmonize-eval``: how close methods come to the real photos, published rows beside ours."""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from harmonyiqa.data.manifest import Manifest, Row, evenly, read_manifest
from harmonyiqa.data.tables import write_table
from harmonyiqa.data.truth import shows_truth
from harmonyiqa.errors import UserError
from harmonyiqa.images import DEFAULT_MAX_PIXELS

if TYPE_CHECKING:
    from harmonyiqa import HarmonyIQA
    from harmonyiqa.evaluate.harmonization import Measured
    from harmonyiqa.harmonize.methods import Harmonizer

log = logging.getLogger(__name__)
_SHOWN_FAILURES = 20


def harmonize_eval(
    manifest: str,
    methods: list[str] | None = None,
    protocol: Literal["aict", "idih", "dovenet"] = "aict",
    size: int | None = None,
    over: str | None = None,
    split: str | None = None,
    group: str | None = None,
    by: list[str] | None = None,
    limit: int = 0,
    score: Literal["none", "nr", "fr"] = "none",
    model: str | None = None,
    scorer: str | None = None,
    out: str | None = None,
    out_json: str | None = None,
    out_markdown: str | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
    fast: bool = False,
    device: str | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> int:
    """Measure harmonized images against real photos: MSE, fMSE, PSNR, SSIM, and what HarmonyIQA says of them.

    Means are over images, per subset (group) and over all; where the AICT paper has a table of the same data, size and
    protocol, its rows stand above. With `copy` among the methods a second table sets each result against its
    composite, with 95% intervals over scenes.

    Args:
        manifest: Composites with mask and reference (`harmonyiqa data iharmony4`, `ccharmony`), or results of
            `harmonyiqa harmonize`.
        methods: Harmonize the composites by these: aict, copy, reinhard, mkl, histogram, idt, palette, poisson.
            Default: the manifest's images are results already.
        protocol: aict, idih or dovenet; figures of different protocols must not be compared.
        size: Resize composite, mask and real photo to a square of this side first: 256, 1024, 2048. Default: full size.
        over: Only images whose sides both exceed this, such as 4096x2160 or 5120x2880.
        split: train, val, test or all. Default: test, or all where the manifest has no test rows.
        group: Only this subset, such as HAdobe5k.
        by: Columns of the manifest by which the second table is split too: source, or with cuts severity:6,12. Needs
            `copy` among the methods.
        limit: Only so many rows, spread evenly over the manifest; 0 takes all.
        score: Score the results with HarmonyIQA too: nr without, fr with the real photo as its reference. Rows without
            a real photo can only be scored.
        model: The AICT network: a folder or a hub id. Default: the bundled one.
        scorer: The model that scores. Default: the bundled one.
        out: Write the figures of every image here: .csv, .jsonl or .parquet.
        out_json: Write the means here.
        out_markdown: Write the printed table here.
        bootstrap: Resamples behind each interval.
        seed: Seed of the resamples.
        fast: Look up with numba (extra `fast`).
        device: Where networks run, such as cpu or cuda:1. Default: a GPU if there is one.
        max_pixels: The most pixels (width x height) an image may have.

    Returns:
        0, or 1 if some rows could not be measured; each is named with the reason.

    Raises:
        UserError: if an argument, a model or the manifest is wrong, or no row is left.
    """
    from tqdm import tqdm

    from harmonyiqa.evaluate.gains import COMPOSITE, gains
    from harmonyiqa.evaluate.harmonization import means
    from harmonyiqa.harmonize.methods import harmonizer
    from harmonyiqa.report.harmonization_table import matching_table, render, render_gains
    from harmonyiqa.report.tables import write_text

    if size is not None and size < 11:
        raise UserError(f"size {size} must be at least 11, the window of SSIM")
    if bootstrap < 1:
        raise UserError(f"bootstrap {bootstrap} must be at least 1")
    if by and COMPOSITE not in (methods or []):
        raise UserError(f"by {by[0]} splits the second table, which needs {COMPOSITE} among the methods")
    rows = _rows(read_manifest(manifest), split, group, over, limit, max_pixels)
    lacking = [row.image for row in rows.rows if row.reference is None]
    if lacking and score != "nr":
        raise UserError(
            f"{lacking[0]} has no reference ({len(lacking)} such rows): such can only have --score nr"
        )
    shown = rows.select(lambda row: row.reference is None or shows_truth(row))
    if not shown.rows:
        raise UserError(f"{manifest}: no reference of these rows shows the truth (decoys and pastes)")
    if left_out := len(rows.rows) - len(shown.rows):
        log.info("%d rows are left out: their reference does not show the truth (decoys, pastes)", left_out)
    kinds = _kinds(shown.rows, by or [])
    place, judge = None, None
    if "aict" in (methods or []) or score != "none":
        from harmonyiqa.pipelines.score import pick_device

        place = str(pick_device(device))
    functions = {name: harmonizer(name, model, device=place, fast=fast) for name in methods or []}
    if score != "none":
        from harmonyiqa import HarmonyIQA

        judge = HarmonyIQA.from_pretrained(scorer, device=place)
    measured: list[Measured] = []
    for row, own in zip(
        tqdm(shown.rows, desc="harmonize-eval", unit="image", disable=None), kinds, strict=True
    ):
        measured += [
            replace(each, content=row.content, kinds=own)
            for each in _measure(shown, row, functions, protocol, size, judge, score == "fr", max_pixels)
        ]

    found, gained = means(measured), gains(measured, bootstrap=bootstrap, seed=seed)
    published = matching_table({each.group for each in measured}, protocol, size, over)
    text = _heading(manifest, protocol, size, over) + "\n\n"
    if found:
        text += render(found, published) + "\n"
    if published:
        text += (
            f"\nRows marked paper: table {published.name} of Meng et al., NeurIPS 2024 ({published.title}).\n"
        )
    if gained:
        text += "\n" + render_gains(gained) + "\n"
    if out is not None:
        write_table(
            [
                {
                    "image": each.image,
                    "group": each.group,
                    "content": each.content,
                    "method": each.method,
                    **each.figures,
                    "error": each.error,
                }
                for each in measured
            ],
            out,
        )
    if out_json is not None:
        plain = [{"subset": m.subset, "method": m.method, "images": m.images, **m.figures} for m in found]
        settings = {
            "manifest": Path(manifest).name,
            "protocol": protocol,
            "size": size,
            "over": over,
            "score": score,
        }
        told = {"means": plain, "gains": [asdict(each) for each in gained], "settings": settings}
        write_text(json.dumps(told, indent=2) + "\n", out_json)
    if out_markdown is not None:
        write_text(text, out_markdown)
    print(text, end="")
    failures = [each for each in measured if each.error is not None]
    for each in failures[:_SHOWN_FAILURES]:
        print(f"  failed: {each.method}: {each.error}")
    if len(failures) > _SHOWN_FAILURES:
        print(f"  ... {len(failures) - _SHOWN_FAILURES} more failures: --out FILE.csv lists every one")
    return int(bool(failures))


def _rows(
    whole: Manifest, split: str | None, group: str | None, over: str | None, limit: int, max_pixels: int
) -> Manifest:
    split = split or ("test" if any(row.split == "test" for row in whole.rows) else "all")
    chosen = whole if split == "all" else whole.split(split)
    if group is not None:
        chosen = chosen.select(lambda row: (row.group or "").lower() == group.lower())
    if over is not None:
        least = _size(over)
        chosen = chosen.select(
            lambda row: _exceeds(chosen.resolve(row.composite or row.image), least, max_pixels)
        )
    chosen = replace(chosen, rows=evenly(chosen.rows, limit))
    if not chosen.rows:
        groups = ", ".join(sorted({row.group for row in whole.rows if row.group})) or "none"
        raise UserError(
            f"{whole.path}: no row is left (split {split}, group {group}, over {over}; groups: {groups})"
        )
    return chosen


def _kinds(rows: Sequence[Row], by: Sequence[str]) -> list[tuple[str, ...]]:
    """For every row its kinds of composite, one a column that was asked for."""
    columns = []
    for column, _, text in (asked.partition(":") for asked in by):
        values = [row.extra.get(column, getattr(row, column, None)) for row in rows]
        if any(value is None or value == "" for value in values):
            known = sorted({name for row in rows for name in row.extra}) or ["none"]
            raise UserError(
                f"by {column}: not every row has a value of that column (further columns: {', '.join(known)})"
            )
        try:
            cuts = [float(cut) for cut in text.split(",") if cut]
            columns.append([_kind(column, value, cuts) for value in values])
        except ValueError as error:
            raise UserError(f"by {column}:{text}: {error}") from error
    return [tuple(kinds) for kinds in zip(*columns, strict=True)] if columns else [()] * len(rows)


def _kind(column: str, value: object, cuts: Sequence[float]) -> str:
    if not cuts:
        return f"{column} {value}"
    number = float(str(value))
    under = [cut for cut in cuts if cut < number]
    over = [cut for cut in cuts if cut >= number]
    if not under:
        return f"{column} to {min(over):g}"
    return f"{column} over {max(under):g}" + (f" to {min(over):g}" if over else "")


def _size(text: str) -> tuple[int, int]:
    numbers = text.lower().split("x")
    if len(numbers) != 2 or not all(number.isdecimal() for number in numbers):
        raise UserError(f"over {text!r} must be like 4096x2160")
    long, short = sorted(map(int, numbers), reverse=True)
    return long, short


def _exceeds(path: Path, least: tuple[int, int], max_pixels: int) -> bool:
    from harmonyiqa.images import open_header

    with open_header(path, max_pixels=max_pixels) as image:
        return max(image.size) > least[0] and min(image.size) > least[1]


def _measure(
    manifest: Manifest,
    row: Row,
    functions: "dict[str, Harmonizer]",
    protocol: str,
    size: int | None,
    judge: "HarmonyIQA | None",
    with_reference: bool,
    max_pixels: int,
) -> "Iterator[Measured]":
    """The figures of one row, of every method."""
    import numpy as np

    from harmonyiqa.evaluate.harmonization import Measured, fidelity, resized
    from harmonyiqa.harmonize.pictures import read_mask
    from harmonyiqa.images import open_rgb

    def pixels(name: str) -> "np.ndarray":
        return resized(np.asarray(open_rgb(manifest.resolve(name), max_pixels=max_pixels)), size)

    composite = (row.composite or row.image) if functions else row.image
    names = list(functions) or [row.method or "image"]
    subset = row.group or "images"
    try:
        if row.mask is None:
            raise UserError(f"{row.image} has no mask in {manifest.path}")
        given, mask = pixels(composite), resized(read_mask(manifest.resolve(row.mask)), size)
        real = pixels(row.reference) if row.reference else None
    except UserError as error:
        for name in names:
            yield Measured(row.image, name, subset, {}, str(error))
        return
    for name in names:
        try:
            result = functions[name](given, mask) if functions else given
            figures: dict[str, float] = {}
            if real is not None:
                close = fidelity(result, real, mask, protocol)
                figures = {"fmse": close.fmse, "mse": close.mse, "psnr": close.psnr, "ssim": close.ssim}
            if judge is not None:
                score = judge.score(result, reference=real if with_reference else None)
                figures["score"] = score if isinstance(score, float) else score[0]
            yield Measured(row.image, name, subset, figures)
        except UserError as error:
            yield Measured(row.image, name, subset, {}, f"{row.image}: {error}")


def _heading(manifest: str, protocol: str, size: int | None, over: str | None) -> str:
    shown = "full size" if size is None else f"{size} x {size}"
    return f"# {Path(manifest).name}, protocol {protocol}, {shown}" + (f", above {over}" if over else "")
