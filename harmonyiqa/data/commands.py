"""``harmonyiqa data folder | check | split``."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from harmonyiqa.data.manifest import SPLITS, Row, read_manifest, relocated, write_manifest
from harmonyiqa.errors import UserError


def folder(
    images: str,
    out: str,
    references: str | None = None,
    masks: str | None = None,
    labels: str | None = None,
) -> int:
    """Write a manifest of a folder of images.

    Partners and labels belong to the image of the same file name without suffix. An image without partner or
    label is listed; its cell stays empty.

    Args:
        images: Folder with the images, searched recursively.
        out: Manifest to write (.csv, .jsonl or .parquet); its paths start from its folder.
        references: Folder of untouched photos, or one photo for all.
        masks: Folder of masks (white is the foreground), or one mask for all.
        labels: Table with a column image and others of a manifest (mos, method, group, content, split).

    Returns:
        0; 1 if a partner or a label is missing.
    """
    from harmonyiqa.data.folder import rows_of_folder

    rows, problems = rows_of_folder(images, out, references, masks, labels)
    write_manifest(rows, out)
    _list(problems)
    print(f"{out}: {len(rows)} images{_and_missing(len(problems))}")
    return 1 if problems else 0


def check(manifest: str) -> int:
    """Open every file of a manifest and report all that is wrong.

    Args:
        manifest: Manifest to check (.csv, .jsonl or .parquet).

    Returns:
        0 if nothing is wrong, else 1.
    """
    from harmonyiqa.data.check import find_problems

    read = read_manifest(manifest)
    problems = find_problems(read)
    _list(problems)
    print(f"{manifest}: {described(read.rows)}")
    print(f"problems: {len(problems)}" if problems else "nothing wrong")
    return 1 if problems else 0


def split(
    manifest: str,
    out: str,
    kind: Literal["content", "method"] = "content",
    train: float = 0.7,
    val: float = 0.1,
    seed: int = 0,
    folds: int = 0,
    repeats: int = 1,
    use: str | None = None,
) -> None:
    """Cut a manifest into train, val and test, and say what leaks between them.

    By default train and val together stand to test at 4:1, as in the paper.

    Args:
        manifest: Manifest to cut; splits that it has are replaced.
        out: Manifest to write, with the column split; its paths start from its folder. A name that ends in .json
            becomes a split file instead: image names and hashes, to hand on. Several get _0, _1, ... in their names.
        kind: By content (no scene stands in two splits) or per method as in the paper (scenes do).
        train: Share for training.
        val: Share for validation; the rest is test.
        seed: Seed of the shuffle.
        folds: Make this many splits, each image tested in one of them; --train then follows.
        repeats: Make as many with each of this many seeds, the first being --seed.
        use: Take a split file instead of cutting: a path, or one that ships with the package
            (harmonyiqad_content_0 to _9, harmonyiqad_method_0 to _9).
    """
    from harmonyiqa.data.split_files import apply_split, read_split, split_of, write_split
    from harmonyiqa.data.splits import FOLDS, KINDS, leakage

    if repeats < 1:
        raise UserError(f"--repeats {repeats} must be at least 1")
    read = read_manifest(manifest)
    rows = relocated(read, out)
    cuts: list[tuple[str, list[Row]]] = []
    if use is not None:
        given = read_split(use)
        cuts.append((given.about, apply_split(given, rows)))
    else:
        for one in range(seed, seed + repeats):
            by = f"by {kind}, seed {one}"
            if folds:
                parts = FOLDS[kind](rows, folds, val, one)
                cuts += [(f"{by}, fold {i} of {folds}, val {val:g}", part) for i, part in enumerate(parts)]
            else:
                cuts.append((f"{by}, train {train:g}, val {val:g}", KINDS[kind](rows, train, val, one)))
    for index, (about, cut) in enumerate(cuts):
        path = Path(out)
        if len(cuts) > 1:
            path = path.with_stem(f"{path.stem}_{index}")
        file = split_of(cut, path.stem if use is None else given.name, about)
        if path.suffix.lower() == ".json":
            write_split(file, path)
        else:
            write_manifest(cut, path)
        print(f"{path}: {described(cut)}, split {file.split_sha256[:12]}")
        for line in leakage(cut).lines():
            print(line)


def described(rows: Sequence[Row]) -> str:
    """A manifest in one line: rows, contents, splits, and what kind of MOS in which range."""
    parts = [f"{len(rows)} rows"]
    if contents := {row.content for row in rows if row.content}:
        parts.append(f"{len(contents)} contents")
    by_split = Counter(row.split for row in rows)
    parts += [f"{by_split[name]} {name}" for name in SPLITS if by_split[name]]
    if scores := [row.mos for row in rows if row.mos is not None]:
        kinds = " and ".join(sorted({row.mos_kind for row in rows if row.mos_kind}))
        parts.append(
            f"{len(scores)} {kinds + ' ' if kinds else ''}MOS from {min(scores):.2f} to {max(scores):.2f}"
        )
    return ", ".join(parts)


def _list(problems: Sequence[str]) -> None:
    for problem in problems:
        print(problem)


def _and_missing(count: int) -> str:
    return f"; {count} without a partner or label, listed above" if count else ""
