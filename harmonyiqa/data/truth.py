"""Which rows of a manifest show how the harmonized image should look."""

from harmonyiqa.data.manifest import Manifest, Row
from harmonyiqa.errors import UserError


def with_truth(manifest: Manifest) -> Manifest:
    """Rows with a mask, and a reference that shows the right foreground (see `shows_truth`).

    Raises:
        UserError: no row is left.
    """
    chosen = manifest.select(lambda row: bool(row.mask and row.reference) and shows_truth(row))
    if not chosen.rows:
        raise UserError(f"{manifest.path} has no row with a mask and a reference that shows the truth")
    return chosen


def shows_truth(row: Row) -> bool:
    """Whether the image should come to look like its reference.

    Two kinds of rows in synthesized sets should not, harmonious or not: those whose whole photo was shifted (a value in
    the column `decoy`), and pastes of another object (method `paste`).
    """
    return row.method != "paste" and not row.extra.get("decoy")
