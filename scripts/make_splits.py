"""Make the twenty splits of HarmonyIQAD that ship with the package. They are made once and stay as they are.

    python scripts/make_splits.py work/splits   # the same files as harmonyiqa/data/shipped_splits

Ten are content-disjoint, ten of the paper's kind (4:1 of each method's images). Each ten are two times five folds,
so that every image is tested in exactly two of them. Names only: no label is needed.
"""

import sys
from pathlib import Path

from jsonargparse import auto_cli

from harmonyiqa.data.manifest import Row
from harmonyiqa.data.readers.harmonyiqad import CONTENTS, read_methods
from harmonyiqa.data.split_files import split_of, write_split
from harmonyiqa.data.splits import FOLDS
from harmonyiqa.errors import UserError

FOLD_COUNT, SEEDS, VAL = 5, (0, 1), 0.1
ABOUT = {
    "content": "HarmonyIQAD, content-disjoint: no scene stands in two splits",
    "method": "HarmonyIQAD, 4:1 of each method's images as in the paper: test scenes were seen in training",
}


def main(out: str) -> None:
    """Write the split files.

    Args:
        out: Folder to write to.
    """
    rows = [
        Row(f"model{method}_{content}.jpg", method=f"model{method}", content=str(content))
        for method in read_methods()
        for content in range(1, CONTENTS + 1)
    ]
    for kind, about in ABOUT.items():
        cuts = [cut for seed in SEEDS for cut in FOLDS[kind](rows, FOLD_COUNT, VAL, seed)]
        for index, cut in enumerate(cuts):
            name = f"harmonyiqad_{kind}_{index}"
            write_split(split_of(cut, name, about), Path(out) / f"{name}.json")
    print(f"{out}: {sum(1 for _ in Path(out).glob('*.json'))} split files")


if __name__ == "__main__":
    try:
        auto_cli(main)
    except UserError as error:
        sys.exit(f"make_splits: {error}")
