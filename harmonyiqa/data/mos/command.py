"""``harmonyiqa mos``: ratings -> mean opinion scores, a report on the raters, and how far they agree."""

import math
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, TypeVar

from harmonyiqa.data.manifest import Manifest, Row, read_manifest, relocated, write_manifest
from harmonyiqa.data.tables import write_table
from harmonyiqa.errors import UserError

if TYPE_CHECKING:
    from harmonyiqa.data.mos.raters import RaterReport
    from harmonyiqa.data.mos.ratings import Ratings
    from harmonyiqa.data.mos.reliability import Reliability
    from harmonyiqa.data.mos.scores import Scores, Screening

T = TypeVar("T")


def mos(
    ratings: str,
    out: str,
    manifest: str | None = None,
    raters: str | None = None,
    lowest: float = 1,
    highest: float = 5,
    screening: bool = True,
) -> int:
    """Turn people's ratings into mean opinion scores from 0 to 100, as the paper does (BT.500, equation 1).

    Ratings are a table with the columns rater, image, rating, and if known session and time. Outliers go, then
    raters with over 5% of them; what is left becomes Z-scores, and their mean a MOS.

    Args:
        ratings: Table of ratings (.csv, .jsonl or .parquet).
        out: Table to write: image, mos, mos_std, mos_se, mos_low, mos_high (95% interval), votes. It can be the
            --labels of `harmonyiqa data folder`.
        manifest: Manifest of the rated images, under the same names: `out` becomes this manifest with their MOS.
        raters: Write the report on each rater here too (.csv, .jsonl or .parquet).
        lowest: The lowest vote that the scale allows.
        highest: The highest.
        screening: Whether to look for outliers; without, only raters with the same vote throughout are rejected.

    Returns:
        0; 1 if an image has no valid vote left and so no MOS.
    """
    from harmonyiqa.data.mos.raters import report_raters
    from harmonyiqa.data.mos.ratings import read_ratings
    from harmonyiqa.data.mos.reliability import reliability
    from harmonyiqa.data.mos.scores import mean_opinion_scores, screen

    votes = read_ratings(ratings, lowest, highest)
    screened = screen(votes, outliers=screening)
    scores = mean_opinion_scores(votes, screened.valid)
    reports = report_raters(votes, screened)
    rows = _rows(votes, scores)
    if manifest is not None:
        rows = _joined(read_manifest(manifest), rows, out)
    write_manifest(rows, out)
    if raters is not None:
        write_table(
            [{name: _cell(value) for name, value in asdict(each).items()} for each in reports], raters
        )
    _print_counts(votes, screened)
    _print_raters(reports)
    for what, chosen in (("all votes", votes), ("valid votes", votes.select(screened.valid))):
        print(_reliability_line(what, reliability(chosen)))
    without = [row.image for row in rows if row.mos is None]
    for name in without:
        print(f"no valid vote for {name}: it has no MOS")
    print(f"{out}: {len(rows) - len(without)} MOS")
    return 1 if without else 0


def _rows(ratings: "Ratings", scores: "Scores") -> list[Row]:
    columns = (scores.mos, scores.std, scores.se, scores.low, scores.high)
    cells = zip(*([_cell(value) for value in column.tolist()] for column in columns), strict=True)
    return [
        Row(
            image,
            mos=mos,
            mos_std=std,
            extra={"mos_se": se, "mos_low": low, "mos_high": high, "votes": votes},
        )
        for image, votes, (mos, std, se, low, high) in zip(
            ratings.images, scores.votes.tolist(), cells, strict=True
        )
    ]


def _joined(manifest: Manifest, scores: list[Row], out: str) -> list[Row]:
    """The manifest's rows with people's MOS in place of an earlier one; their paths start from ``out``."""
    found = {row.image: row for row in scores}
    if strange := found.keys() - {row.image for row in manifest.rows}:
        raise UserError(
            f"{manifest.path} lacks {len(strange)} of the rated images, among them {min(strange)!r}; "
            "give the manifest that was rated"
        )
    joined = []
    for rated, row in zip(manifest.rows, relocated(manifest, out), strict=True):
        score = found.get(rated.image, Row(rated.image))
        extra = row.extra | score.extra
        joined.append(replace(row, mos=score.mos, mos_std=score.mos_std, mos_kind=None, extra=extra))
    return joined


def _print_counts(ratings: "Ratings", screening: "Screening") -> None:
    votes = ratings.rating.size
    print(
        f"{votes} votes of {len(ratings.raters)} raters on {len(ratings.images)} images; "
        f"{screening.outlier.sum()} outliers ({screening.outlier.mean():.2%}), "
        f"{len(screening.rejected)} raters rejected, {screening.valid.sum()} votes valid ({screening.valid.mean():.2%})"
    )


def _print_raters(reports: "list[RaterReport]") -> None:
    for each in reports:
        if each.rejected or each.flags:
            reasons = "; ".join(filter(None, (each.rejected and f"rejected, {each.rejected}", each.flags)))
            agreement = "none" if math.isnan(each.agreement) else f"{each.agreement:.2f}"
            print(
                f"rater {each.rater}: {reasons} (outliers {each.outlier_share:.1%}, "
                f"agreement {agreement}, bias {each.bias:+.2f})"
            )


def _reliability_line(what: str, found: "Reliability") -> str:
    return (
        f"{what}: ICC(2,1) {found.icc_agreement:.3f}, ICC(3,1) {found.icc_consistency:.3f}, mean of "
        f"{found.votes_per_image:.1f} votes ICC(2,k) {found.icc_agreement_mean:.3f}, "
        f"ICC(3,k) {found.icc_consistency_mean:.3f}; Krippendorff's alpha {found.alpha:.3f}"
    )


def _cell(value: T) -> T | None:
    """A number that does not exist is an empty cell."""
    return None if isinstance(value, float) and math.isnan(value) else value
