"""iHarmony4 and ccHarmony, as their authors distribute them, made into the rows of a manifest.

A row's image is the composite, its reference the real photo; content is the photo, group the subset. There is no MOS.
"""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harmonyiqa.data.manifest import Row
from harmonyiqa.data.readers.common import Files, counted
from harmonyiqa.errors import UserError

SUBSETS = {
    "HCOCO": (38545, 4283),
    "HAdobe5k": (19437, 2160),
    "HFlickr": (7449, 828),
    "Hday2night": (311, 133),
}
CCHARMONY = {"train": 308, "test": 118}  # foregrounds; each has ten composites
_PER_FOREGROUND = 10
_FOLDERS = {
    "composite": ("composite_images", "composite"),
    "mask": ("masks", "mask"),
    "real": ("real_images", "real"),
}


@dataclass(frozen=True, slots=True)
class _Names:
    """The three files of a composite, names without folder and suffix; the numbers at the end are no part of a name."""

    composite: str
    mask: str
    real: str


def rows_of_iharmony4(root: str | Path, out: str | Path) -> tuple[list[Row], list[str]]:
    """One row a composite of the official lists, in their order.

    Args:
        root: folder with HCOCO, HAdobe5k, HFlickr, Hday2night (any of them, in any letter case), each with
            composite_images/, masks/ and real_images/; and the lists, <Subset>_train.txt and <Subset>_test.txt in the
            subsets, or IHD_train.txt and IHD_test.txt at the top.
        out: where the manifest will stand; the rows' paths start from its folder.

    Returns:
        The rows, and everything that is wrong, one line a kind: missing files, lines of another form, composites named
        twice or in no list, counts other than the official ones.

    Raises:
        UserError: if there is no subset, no list, or no composite.
    """
    root = Path(root)
    folders = {folder.name.lower(): folder.name for folder in root.iterdir() if folder.is_dir()}
    present = {subset: folders[subset.lower()] for subset in SUBSETS if subset.lower() in folders}
    if not present:
        raise UserError(f"{root} has none of the folders {', '.join(SUBSETS)}")
    found = _Found(Files(root, out))
    counts: list[str] = []
    strange: list[str] = []
    for number, split in enumerate(("train", "test")):
        whole = _whole_list(root, split, strange)
        for subset, folder in present.items():
            names = whole[subset] if whole else _list_of(root / folder, subset, split)
            if len(names) != SUBSETS[subset][number]:
                counts.append(f"{subset} {split}: {len(names)}, not {SUBSETS[subset][number]}")
            for name in names:
                stem = Path(name).stem
                parts = stem.rsplit("_", 2)  # from the right: the photo's own name may hold underscores
                if len(parts) == 3:
                    found.add(folder, subset, split, _Names(stem, f"{parts[0]}_{parts[1]}", parts[0]))
                else:
                    found.malformed.append(f"{subset}/{name}")
    problems = [
        *counted([subset for subset in SUBSETS if subset not in present], "subsets are missing"),
        *counted(strange, "lines name no subset"),
        *found.problems("like a_b_c.jpg", set(present.values())),
        *counted(counts, "official counts differ"),
    ]
    if not found.rows:
        raise UserError(f"{root} has no composite that can be used: {'; '.join(problems)}")
    return found.rows, problems


def rows_of_ccharmony(root: str | Path, out: str | Path) -> tuple[list[Row], list[str]]:
    """Ten rows a foreground of the official lists, in their order.

    Args:
        root: folder with composite_images/, masks/ and real_images/ (or composite/, mask/, real/), and the lists
            train_list.txt and test_list.txt (or train.txt and test.txt), which name foregrounds such as IMG_0281_a:
            composites are IMG_0281_a_*, the mask IMG_0281_a, the photo IMG_0281. A line may name a composite instead.
        out: where the manifest will stand; the rows' paths start from its folder.

    Returns:
        The rows, and everything that is wrong, one line a kind.

    Raises:
        UserError: if a list or every composite is missing.
    """
    root = Path(root)
    found = _Found(Files(root, out))
    of_foreground = found.composites_by_foreground()
    counts, without = [], []
    for split, official in CCHARMONY.items():
        paths = [root / name for name in (f"{split}_list.txt", f"{split}.txt", f"ccHarmony_{split}.txt")]
        lines = _read_list(next((path for path in paths if path.is_file()), paths[0]))
        foregrounds: dict[str, None] = {}
        for line in lines:
            stem = Path(line).stem if Path(line).suffix.lower() in (".jpg", ".png", ".jpeg", ".bmp") else line
            parent = stem.rpartition("_")[0].lower()
            named = [stem] if stem.lower() in of_foreground.get(parent, {}) else None
            foreground = stem.rpartition("_")[0] if named else stem
            foregrounds[foreground] = None
            composites = named or [*of_foreground.get(foreground.lower(), {}).values()]
            if not composites:
                without.append(line)
            elif named is None and len(composites) != _PER_FOREGROUND:
                counts.append(f"{line}: {len(composites)} composites, not {_PER_FOREGROUND}")
            if "_" not in foreground:
                found.malformed.append(line)
                continue
            for composite in composites:
                names = _Names(composite, foreground, foreground.rpartition("_")[0])
                found.add("", "ccHarmony", split, names)
        if len(foregrounds) != official:
            counts.append(f"{split}: {len(foregrounds)} foregrounds, not {official}")
    problems = [
        *counted(without, "listed foregrounds have no composite"),
        *found.problems("like IMG_0281_a", {""}),
        *counted(counts, "official counts differ"),
    ]
    if not found.rows:
        raise UserError(f"{root} has no composite that can be used: {'; '.join(problems)}")
    return found.rows, problems


def hold_out(rows: Sequence[Row], share: float, seed: int = 0) -> list[Row]:
    """Training rows of some photos become val: a share of each subset's photos, every composite of a photo alike.

    The official lists have no validation split, and choosing a network on the test split would leak.

    Raises:
        UserError: the share is not in [0, 1).
    """
    if not 0 <= share < 1:
        raise UserError(f"val {share} must be in [0, 1)")
    held: set[str] = set()
    for group in sorted({row.group or "" for row in rows}):
        photos = sorted(
            {row.content or "" for row in rows if (row.group or "") == group and row.split == "train"}
        )
        random.Random(seed).shuffle(photos)
        held.update(photos[: round(share * len(photos))])
    return [
        replace(row, split="val") if row.split == "train" and row.content in held else row for row in rows
    ]


class _Found:
    """Rows of composites whose files are there, and what is not."""

    def __init__(self, files: Files) -> None:
        self.files = files
        self.rows: list[Row] = []
        self.malformed: list[str] = []
        self._missing: dict[str, dict[str, None]] = {kind: {} for kind in _FOLDERS}
        self._seen: Counter[str] = Counter()
        # (subset folder, folder of the kind, name without suffix), all in lower case -> path
        self._by_stem: dict[tuple[str, str, str], str] = {}
        for name in files.names:
            *above, folder, file = ("", *name.lower().split("/"))
            self._by_stem["/".join(above).strip("/"), folder, file.rpartition(".")[0]] = name

    def _find(self, folder: str, kind: str, stem: str) -> str | None:
        for name in _FOLDERS[kind]:
            if path := self._by_stem.get((folder.lower(), name, stem.lower())):
                return self.files.find(path)
        return None

    def composites_by_foreground(self) -> dict[str, dict[str, str]]:
        """Foreground in lower case -> its composites, in order of their numbers, name in lower case -> name."""
        found: dict[str, dict[str, str]] = {}
        for (folder, kind, stem), path in self._by_stem.items():
            if not folder and kind in _FOLDERS["composite"]:
                name = path.rpartition("/")[2].rpartition(".")[0]
                found.setdefault(stem.rpartition("_")[0], {})[stem] = name

        def number(item: tuple[str, str]) -> tuple[int, str]:
            last = item[0].rpartition("_")[2]
            return (int(last) if last.isdecimal() else 0, last)

        return {foreground: dict(sorted(names.items(), key=number)) for foreground, names in found.items()}

    def add(self, folder: str, subset: str, split: str, names: _Names) -> None:
        """Take a composite in, or write down which of its files is missing."""
        shown = f"{folder}/" if folder else ""
        paths = {kind: self._find(folder, kind, getattr(names, kind)) for kind in _FOLDERS}
        for kind, path in paths.items():
            if path is None:
                self._missing[kind][f"{shown}{getattr(names, kind)}"] = None
        key = f"{shown}{names.composite}".lower()
        self._seen[key] += 1
        if self._seen[key] == 1 and paths["composite"] and paths["mask"] and paths["real"]:
            self.rows.append(
                Row(
                    image=paths["composite"],
                    reference=paths["real"],
                    mask=paths["mask"],
                    method="composite",
                    group=subset,
                    content=f"{shown}{names.real}",
                    split=split,
                )
            )

    def problems(self, form: str, folders: set[str]) -> Iterator[str]:
        """What is wrong, one line a kind."""
        yield from counted(self.malformed, f"listed names are not {form}")
        for kind, what in (("composite", "listed composites"), ("mask", "masks"), ("real", "real photos")):
            yield from counted(list(self._missing[kind]), f"{what} are missing")
        yield from counted(
            [name for name, count in self._seen.items() if count > 1], "composites are listed twice"
        )
        known = {name.lower() for name in folders}
        names = [
            f"{folder}/{stem}" if folder else stem
            for folder, kind, stem in self._by_stem
            if folder in known and kind in _FOLDERS["composite"]
        ]
        unlisted = [name for name in names if name not in self._seen]
        yield from counted(unlisted, "composites are in no list")


def _whole_list(root: Path, split: str, strange: list[str]) -> dict[str, list[str]]:
    """Names by subset of IHD_<split>.txt, {} without that file; lines of no subset are added to ``strange``."""
    path = root / f"IHD_{split}.txt"
    if not path.is_file():
        return {}
    names: dict[str, list[str]] = {subset: [] for subset in SUBSETS}
    subsets = {subset.lower(): subset for subset in SUBSETS}
    for line in _read_list(path):
        parts = line.replace("\\", "/").split("/")
        if parts[0].lower() in subsets:
            names[subsets[parts[0].lower()]].append(parts[-1])
        else:
            strange.append(f"{line} ({path.name})")
    return names


def _list_of(folder: Path, subset: str, split: str) -> list[str]:
    wanted = f"{subset}_{split}.txt"
    path = next((p for p in folder.iterdir() if p.name.lower() == wanted.lower()), folder / wanted)
    return [line.replace("\\", "/").rpartition("/")[2] for line in _read_list(path)]


def _read_list(path: Path) -> list[str]:
    if not path.is_file():
        raise UserError(f"{path} does not exist; the data set comes with it")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text ({error.reason})") from error
    return [line.strip() for line in text.splitlines() if line.strip()]
