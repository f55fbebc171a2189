"""Figure 3 of the paper, scatter plots with the fitted curve, and residuals per method, as SVG."""

import io
from collections.abc import Sequence
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np

from harmonyiqa.data.manifest import Row
from harmonyiqa.evaluate.join import mos_of
from harmonyiqa.metrics import Floats, MetricError, fit_logistic, logistic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, QUIET, ACCENT, SECOND = "#1d1d1f", "#8a8a92", "#2f6f73", "#b5651d"
_DOTS = 5000  # more would hide each other, and make the page heavy


def mos_distribution(rows: Sequence[Row]) -> str:
    """Figure 3a: how many images have which MOS, one bar for 2.5 points."""
    figure, axes = _new("MOS", "images")
    axes.hist(
        mos_of(rows), bins=np.arange(0, 101, 2.5).tolist(), color=ACCENT, edgecolor="white", linewidth=0.5
    )
    axes.set_xlim(0, 100)
    return _svg(figure)


def mos_per_algorithm(rows: Sequence[Row]) -> str | None:
    """Figure 3b: mean and standard deviation of the MOS of each algorithm, best first; None without methods."""
    methods = _methods(rows)
    if not methods:
        return None
    means = {
        name: (float(np.mean(values)), float(np.std(values, ddof=1))) for name, values in methods.items()
    }
    order = sorted(means, key=lambda name: -means[name][0])
    figure, axes = _new("", "MOS: mean and standard deviation")
    axes.bar(
        order,
        [means[name][0] for name in order],
        yerr=[means[name][1] for name in order],
        color=ACCENT,
        ecolor=INK,
        capsize=4,
        width=0.65,
    )
    axes.set_ylim(0, 100)
    _tilt(axes, order)
    return _svg(figure)


def scatter(rows: Sequence[Row], scores: Floats, name: str) -> str:
    """MOS over predictions, one colour a group, and the 4-parameter curve where it can be fitted.

    Args:
        rows: N rows with MOS.
        scores: their predictions, shape (N,).
        name: the predictor's.
    """
    mos = mos_of(rows)
    figure, axes = _new(name, "MOS")
    shown = np.arange(len(rows))
    if len(rows) > _DOTS:
        shown = np.sort(np.random.default_rng(0).choice(len(rows), _DOTS, replace=False))
    groups = sorted({row.group or "" for row in rows})
    for group, colour in zip(groups, cycle((ACCENT, SECOND, QUIET, INK))):
        chosen = [index for index in shown.tolist() if (rows[index].group or "") == group]
        axes.plot(
            scores[chosen], mos[chosen], ".", color=colour, alpha=0.5, markersize=5, label=group or None
        )
    try:
        x = np.linspace(scores.min(), scores.max(), 200)
        axes.plot(x, logistic(x, fit_logistic(scores, mos)), color=INK, linewidth=1.5, label="logistic fit")
    except MetricError:
        pass  # the table says why there is no fitted PLCC
    if axes.get_legend_handles_labels()[1]:
        axes.legend(frameon=False, fontsize=8)
    return _svg(figure)


def residuals_per_method(rows: Sequence[Row], scores: Floats) -> str | None:
    """MOS less the fitted prediction, one box a method: whom the predictor flatters (below 0); None without methods
    or without a fit.

    Args:
        rows: N rows with MOS.
        scores: their predictions, shape (N,).
    """
    try:
        residuals = mos_of(rows) - logistic(scores, fit_logistic(scores, mos_of(rows)))
    except MetricError:
        return None
    methods = _methods(rows, residuals)
    if not methods:
        return None
    figure, axes = _new("", "MOS - fitted prediction")
    axes.axhline(0, color=QUIET, linewidth=1)
    axes.boxplot(
        list(methods.values()),
        tick_labels=list(methods),
        widths=0.5,
        flierprops={"markersize": 3, "markeredgecolor": QUIET},
        medianprops={"color": ACCENT, "linewidth": 2},
    )
    _tilt(axes, list(methods))
    return _svg(figure)


def _methods(rows: Sequence[Row], values: Floats | None = None) -> dict[str, list[float]]:
    """Values (else MOS) by method, sorted by name; {} unless every row names one."""
    if not all(row.method for row in rows):
        return {}
    found: dict[str, list[float]] = {name: [] for name in sorted({str(row.method) for row in rows})}
    for row, value in zip(rows, mos_of(rows) if values is None else values, strict=True):
        found[str(row.method)].append(float(value))
    return found


def _new(x: str, y: str) -> "tuple[Figure, Axes]":
    from matplotlib.figure import Figure  # no pyplot: nothing is shown, nothing is kept

    figure = Figure(figsize=(5.6, 3.6), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK, labelsize=8)
    return figure, axes


def _tilt(axes: "Axes", names: Sequence[str]) -> None:
    if sum(map(len, names)) > 60:
        axes.tick_params(axis="x", rotation=40)


def _svg(figure: "Figure") -> str:
    import matplotlib

    text = io.StringIO()
    # the same input gives the same bytes
    with matplotlib.rc_context({"svg.hashsalt": "harmonyiqa", "svg.fonttype": "path"}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()
