"""Pictures that a reader can trust: whole SVG files, the same for the same input, nothing where there is nothing."""

from xml.etree import ElementTree

import numpy as np

from harmonyiqa.data.manifest import Row
from harmonyiqa.report import figures

RNG = np.random.default_rng(0)
ROWS = [
    Row(f"{m}{c}.jpg", mos=30.0 + 10 * m + float(RNG.normal(0, 5)), method=f"m{m}", group="GN"[m % 2])
    for m in range(3)
    for c in range(15)
]
SCORES = np.array([row.mos for row in ROWS]) + RNG.normal(0, 5, len(ROWS))


def parts(svg: str) -> list[str]:
    ElementTree.fromstring(svg)
    return [node.get("id", "") for node in ElementTree.fromstring(svg).iter() if node.get("id")]


def test_every_figure_is_svg_and_the_same_twice() -> None:
    for draw in (
        lambda: figures.mos_distribution(ROWS),
        lambda: figures.mos_per_algorithm(ROWS),
        lambda: figures.scatter(ROWS, SCORES, "a <model> & co"),
        lambda: figures.residuals_per_method(ROWS, SCORES),
    ):
        first = draw()
        assert parts(first)
        assert draw() == first


def test_one_bar_an_algorithm_and_none_without_algorithms() -> None:
    nameless = [Row("x.jpg", mos=1.0), *ROWS]
    assert figures.mos_per_algorithm(nameless) is None
    assert figures.residuals_per_method(nameless, np.append(1.0, SCORES)) is None
    three, two = (figures.mos_per_algorithm(rows) for rows in (ROWS, ROWS[:30]))
    assert sum(part.startswith("patch") for part in parts(three)) == 1 + sum(
        part.startswith("patch") for part in parts(two)
    )


def test_a_constant_predictor_has_a_scatter_without_curve_and_no_residuals() -> None:
    flat = np.zeros(len(ROWS))
    with_curve, without = (len(parts(figures.scatter(ROWS, scores, "p"))) for scores in (SCORES, flat))
    assert without < with_curve
    assert figures.residuals_per_method(ROWS, flat) is None
