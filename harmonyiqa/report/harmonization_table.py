"""Means of harmonized images as a table, the AICT paper's rows beside ours."""

from collections.abc import Collection, Sequence
from pathlib import Path

from harmonyiqa.evaluate.gains import Gain
from harmonyiqa.evaluate.harmonization import FIGURES, Mean
from harmonyiqa.report.paper import PublishedTable, read_published
from harmonyiqa.report.tables import Footnotes, cell_text, table

PUBLISHED = Path(__file__).with_name("published_aict.yaml")
_TITLES = {"fmse": "fMSE", "mse": "MSE", "psnr": "PSNR", "ssim": "SSIM", "score": "HarmonyIQA"}
_DIGITS = {"fmse": 2, "mse": 2, "psnr": 2, "ssim": 4, "score": 2}
_IHARMONY4 = {"HAdobe5k", "HCOCO", "Hday2night", "HFlickr"}


def matching_table(
    subsets: Collection[str], protocol: str, size: int | None, over: str | None
) -> PublishedTable | None:
    """The table of the AICT paper that these results can stand beside, if there is one.

    Args:
        subsets: of the results.
        protocol: only "aict" has published rows here.
        size: side of the square that the images were resized to; None for their own size.
        over: the size that every image exceeds, such as 4096x2160.
    """
    present = set(subsets)
    name = None
    if protocol == "aict" and present == {"ccHarmony"} and size == 256:
        name = "3"
    elif protocol == "aict" and over and present == {"HAdobe5k"} and size is None:
        name = {"4096x2160": "9", "5120x2880": "10"}.get(over)
    elif protocol == "aict" and not over and present and present <= _IHARMONY4:
        names = {None: "1", 256: "7"} | ({2048: "2", 1024: "8"} if present == {"HAdobe5k"} else {})
        name = names.get(size)
    return next((each for each in read_published(PUBLISHED) if each.name == name), None)


def render(found: Sequence[Mean], published: PublishedTable | None) -> str:
    """One line a subset and method; published rows stand above ours and say "paper" where ours count images."""
    names = [name for name in FIGURES if any(name in mean.figures for mean in found)]
    only = {mean.subset for mean in found} == {"All"}
    lines = []
    for subset in dict.fromkeys(mean.subset for mean in found):
        # results of one subset alone stand beside that subset's rows
        theirs = published.subsets[0] if published and only and len(published.subsets) == 1 else subset
        for row in published.rows if published else []:
            values = {metric: value for (group, metric), value in row.values.items() if group == theirs}
            if any(value is not None for value in values.values()):
                lines.append([subset, row.name, "paper", *(_cell(name, values.get(name)) for name in names)])
        for mean in found:
            if mean.subset == subset:
                cells = [_cell(name, mean.figures.get(name)) for name in names]
                lines.append([subset, f"{mean.method} (ours)", str(mean.images), *cells])
    return table(["subset", "method", "images", *(_TITLES[name] for name in names)], lines)


def render_gains(found: Sequence[Gain]) -> str:
    """One line a subset and method: results against their composites, 95% intervals in brackets."""
    notes = Footnotes()
    columns = [
        ("fMSE / composites'", [each.share for each in found]),
        ("images nearer", [each.nearer for each in found]),
        ("HarmonyIQA gained", [each.score for each in found]),
    ]
    shown = [(title, cells) for title, cells in columns if any(cells)]
    texts = [[cell_text(cell, notes) if cell else "" for cell in cells] for _, cells in shown]
    lines = [
        [each.subset, each.method, str(each.images), *line]
        for each, line in zip(found, zip(*texts, strict=True), strict=True)
    ]
    return table(["subset", "method", "images", *(title for title, _ in shown)], lines)


def _cell(name: str, value: float | None) -> str:
    return "" if value is None else f"{value:.{_DIGITS[name]}f}"
