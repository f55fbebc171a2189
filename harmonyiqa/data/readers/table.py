"""Any table of labels whose columns have names of their own, made into the rows of a manifest."""

from pathlib import Path, PurePosixPath

from harmonyiqa.data.manifest import Row
from harmonyiqa.data.readers.common import Files, Scale, counted
from harmonyiqa.data.tables import read_table
from harmonyiqa.errors import UserError


def rows_of_table(
    labels: str | Path,
    out: str | Path,
    columns: dict[str, str | None],
    scale: Scale,
    images: str | Path | None = None,
) -> tuple[list[Row], list[str]]:
    """One row a label whose score is one and whose image is there, in the order of the table.

    Args:
        labels: a .csv, .jsonl or .parquet table.
        out: where the manifest will stand; the rows' paths start from its folder.
        columns: column of a manifest (image, mos, and as far as known reference, method, group, content) -> the
            table's name for it. Without content, rows of one reference show one content.
        scale: of the score.
        images: folder that the table's paths start from. Without it they are taken as they stand.

    Returns:
        The rows, and everything that is wrong, one line a kind.

    Raises:
        UserError: if the table cannot be read, lacks a column, or has no label that can be used.
    """
    named = {column: name for column, name in columns.items() if name is not None}
    table = read_table(labels)
    if not table:
        raise UserError(f"{labels} has no rows")
    if missing := [name for name in named.values() if all(name not in row for row in table)]:
        raise UserError(f"{labels} has no column {', '.join(missing)} (columns: {', '.join(table[0])})")
    files = None if images is None else Files(images, out)
    rows: list[Row] = []
    no_name, no_image, no_reference, no_score, twice = [], [], [], [], []
    seen = set()
    for number, cells in enumerate(table, 1):
        cell = {column: cells.get(name) for column, name in named.items()}
        image, reference = cell["image"], cell.get("reference")
        if not image:
            no_name.append(str(number))
            continue
        if (image, reference) in seen:
            twice.append(f"{image} (row {number})")
        seen.add((image, reference))
        image_path, reference_path = _found(files, image), _found(files, reference)
        score = scale.parse(cell["mos"])
        if image_path is None:
            no_image.append(str(image))
        if reference and reference_path is None:
            no_reference.append(str(reference))
        if score is None:
            no_score.append(f"{image} ({cell['mos']} in row {number})")
        if image_path is None or score is None:
            continue
        content = cell.get("content") or (reference and PurePosixPath(str(reference)).stem)
        rows.append(
            Row(
                image=image_path,
                reference=reference_path,
                mos=scale.mos(score),
                method=_text(cell.get("method")),
                group=_text(cell.get("group")),
                content=_text(content),
                extra=scale.original(score),
            )
        )
    problems = [
        *counted(no_name, "rows name no image"),
        *counted(no_image, "labelled images are missing"),
        *counted(list(dict.fromkeys(no_reference)), "references are missing"),
        *counted(no_score, f"labels hold no score from {scale}"),
        *counted(twice, "labels stand twice"),
    ]
    if not rows:
        raise UserError(f"{labels} has no label that can be used: {'; '.join(problems)}")
    return rows, problems


def _found(files: Files | None, name: object) -> str | None:
    if not name:
        return None
    return str(name) if files is None else files.find(str(name))


def _text(value: object) -> str | None:
    return None if value is None or value == "" else str(value)
