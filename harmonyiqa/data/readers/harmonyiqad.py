"""HarmonyIQAD: the released labels, the folder of images, and whatever else was downloaded, made into rows.

The labels name images ``model{method}_{content}.jpg``. Which algorithm a number stands for was not published, so
names and groups come from a file that users can edit (``methods.yaml`` beside this one is the default).
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from harmonyiqa.data.manifest import Row, relative_path
from harmonyiqa.data.readers.common import Files, Scale, counted, read_sheet
from harmonyiqa.data.tables import SUFFIXES, read_table
from harmonyiqa.errors import UserError

METHODS = Path(__file__).with_name("methods.yaml")
CONTENTS = 150  # composites, each harmonized by every method
SCALE = Scale(worst=0, best=100)
_NAME = re.compile(r"model(?P<method>\d+)_(?P<content>\d+)\.\w+")


@dataclass(frozen=True, slots=True)
class Method:
    """A harmonization algorithm: its name in tables, and NGIHA or GIHA."""

    name: str
    group: str


def rows_of_harmonyiqad(
    labels: str | Path,
    out: str | Path,
    images: str | Path | None = None,
    methods: str | Path | None = None,
    references: str | None = None,
    composites: str | None = None,
    masks: str | None = None,
) -> tuple[list[Row], list[str]]:
    """One row a label, in the order of the label file.

    Patterns are paths with the fields {content}, {method} (numbers) and {name} (of the image, without suffix);
    ``*`` in the file name stands for anything, as in ``references/{content}.*``.

    Args:
        labels: MOSz.xlsx as released (no header: name, MOS), or a table with the columns image and mos.
        out: where the manifest will stand; the rows' paths start from its folder.
        images: folder with the images, searched recursively. Without it rows name files that nobody looked for.
        methods: YAML: number -> {name, group}; default: ``METHODS``.
        references: pattern of the untouched photos.
        composites: pattern of the composites before harmonization.
        masks: pattern of the foreground masks.

    Returns:
        The rows, and everything that is wrong, one line a kind: names that are not of this form, numbers without
        a method, MOS that are none, images and partners that are missing or not the only match, counts other
        than 150 contents for each method.

    Raises:
        UserError: if a file cannot be read, a pattern has an unknown field, or no label can be used.
    """
    known = read_methods(methods)
    table = _read_labels(Path(labels))
    files = None if images is None else Files(images, out)
    patterns = {"reference": references, "composite": composites, "mask": masks}
    rows: list[Row] = []
    problems: defaultdict[str, list[str]] = defaultdict(list)
    contents: defaultdict[int, list[int]] = defaultdict(list)
    for name, cell in table:
        match, mos = _NAME.fullmatch(name), SCALE.parse(cell)
        if match is None:
            problems["names are not like model0_1.jpg"].append(name)
            continue
        number, content = int(match["method"]), int(match["content"])
        contents[number].append(content)
        image = name if files is None else _only(files.named(name), "image", name, problems)
        method = known.get(number)
        if method is None:
            problems["images have a method that the methods file does not name"].append(name)
        if mos is None:
            problems[f"labels hold no MOS from {SCALE}"].append(f"{name} ({cell})")
        if image is None or mos is None or method is None:
            continue
        partners = {
            kind: _only(_matches(kind, pattern, number, content, name, out), kind, name, problems)
            for kind, pattern in patterns.items()
            if pattern is not None
        }
        rows.append(
            Row(
                image=image,
                reference=partners.get("reference"),
                composite=partners.get("composite"),
                mask=partners.get("mask"),
                mos=mos,
                method=method.name,
                group=method.group,
                content=str(content),
                extra=SCALE.original(mos),
            )
        )
    if files is not None:
        labelled = {name.lower() for name, _ in table}
        found = (name.rpartition("/")[2] for name in files.names)
        problems["images have no label"] = [
            name for name in found if _NAME.fullmatch(name) and name.lower() not in labelled
        ]
    listed = [line for what, names in problems.items() for line in counted(names, what)]
    if not rows:
        raise UserError(f"{labels} has no label that can be used: {'; '.join(listed) or 'it has no rows'}")
    return rows, [*listed, *_count_problems(contents, known)]


def read_methods(path: str | Path | None = None) -> dict[int, Method]:
    """The methods file: number in the image's name -> its name and group.

    Raises:
        UserError: if it is missing, is no YAML, or an entry is not of the form ``0: {name: ..., group: ...}``.
    """
    path = METHODS if path is None else Path(path)
    if not path.is_file():
        raise UserError(f"methods file {path} does not exist; copy {METHODS.name} of the package and edit it")
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    methods = {}
    for number, entry in entries.items() if isinstance(entries, dict) else [("the file", entries)]:
        if not isinstance(number, int) or not isinstance(entry, dict) or set(entry) != {"name", "group"}:
            raise UserError(
                f"{path}: {number}: {entry!r} is not of the form 0: {{name: model0, group: NGIHA}}"
            )
        methods[number] = Method(str(entry["name"]), str(entry["group"]))
    names = [method.name for method in methods.values()]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise UserError(f"{path} names two methods {twice[0]!r}; names must differ")
    return methods


def _read_labels(path: Path) -> list[tuple[str, Any]]:
    """Image name and MOS, as the cells hold them."""
    if path.suffix.lower() == ".xlsx":
        return [
            (str(row[0]).strip(), row[1] if len(row) > 1 else None)
            for row in read_sheet(path)
            if row and row[0] is not None
        ]
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(
            f"labels {path} have suffix {path.suffix!r}; give MOSz.xlsx or a {' '.join(SUFFIXES)} table"
        )
    table = read_table(path)
    if missing := [column for column in ("image", "mos") if table and column not in table[0]]:
        raise UserError(f"{path} has no column {missing[0]!r} (columns: {', '.join(table[0])})")
    return [(Path(str(row["image"])).name, row["mos"]) for row in table]


def _matches(kind: str, pattern: str, method: int, content: int, name: str, out: str | Path) -> list[str]:
    """The files that a pattern means, as the manifest writes them."""
    try:
        wanted = Path(pattern.format(method=method, content=content, name=Path(name).stem))
    except (KeyError, IndexError, ValueError) as error:
        raise UserError(
            f"{kind}s pattern {pattern!r} has another field than {{method}}, {{content}}, {{name}}"
        ) from error
    found = sorted(wanted.parent.glob(wanted.name)) if "*" in wanted.name else [wanted]
    return [relative_path(path, out) for path in found if path.is_file()]


def _only(found: list[str], kind: str, name: str, problems: defaultdict[str, list[str]]) -> str | None:
    """The one file; none and several are problems."""
    if len(found) == 1:
        return found[0]
    missing = "labelled images are missing" if kind == "image" else f"images have no {kind}"
    problems[f"images have several files as {kind}" if found else missing].append(name)
    return None


def _count_problems(contents: dict[int, list[int]], methods: dict[int, Method]) -> Iterator[str]:
    """HarmonyIQAD has every content once for every method."""
    total = sum(map(len, contents.values()))
    if total != CONTENTS * len(methods):
        yield f"{total} labels, {len(methods)} methods of {CONTENTS} contents make {CONTENTS * len(methods)}"
    for number in methods:
        has = Counter(contents.get(number, []))
        missing = [str(content) for content in range(1, CONTENTS + 1) if content not in has]
        yield from counted(missing, f"contents of model{number} have no label")
        yield from counted(
            [str(c) for c, count in has.items() if count > 1], f"contents of model{number} stand twice"
        )
        strange = [str(content) for content in has if not 1 <= content <= CONTENTS]
        yield from counted(strange, f"contents of model{number} are not in 1 to {CONTENTS}")
