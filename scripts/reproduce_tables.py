"""From the downloaded database to the finished page: the paper's tables II and III, published figures beside ours.

    python scripts/reproduce_tables.py HarmonyIQAD/MOSz.xlsx --images HarmonyIQAD/images \\
        --references 'HarmonyIQAD/references/{content}.*' --out results/tables

It runs `harmonyiqa` commands one after the other and writes them on the page. A step whose command and input have not
changed is not repeated, so that a run that was cut goes on where it stopped. Predictions of your own models go beside:
`--models harmonyiqa=runs/mine/model`, `--predictions lora_vision=runs/ablation/scores.csv`.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from harmonyiqa.cli import main as harmonyiqa
from harmonyiqa.data.predictions import read_predictions
from harmonyiqa.files import sha256_of
from harmonyiqa.report.tables import write_text

KINDS = ("content", "method")


def main(argv: Sequence[str] | None = None) -> int:
    """Run every step.

    Returns:
        0; 1 if images could not be scored, which the page's protocol counts; 2 if a step cannot be done.
    """
    given = _parser().parse_args(argv)
    out = Path(given.out)
    steps = Steps(out / "steps.json")
    manifest, split = out / "harmonyiqad.csv", out / "split.csv"

    words = ["data", "harmonyiqad", "--labels", given.labels, "--out", str(manifest)]
    for option in ("images", "references", "composites", "masks", "methods"):
        if (value := getattr(given, option)) is not None:
            words += [f"--{option}", value]
    status = steps.run(words, manifest, input_file=given.labels)

    how = (
        ["--kind", given.split, "--seed", str(given.seed)] if given.split in KINDS else ["--use", given.split]
    )
    status |= steps.run(["data", "split", "--manifest", str(manifest), "--out", str(split), *how], split)

    scored = []
    if given.metrics != "none":
        folder = out / "baselines"
        words = ["baselines", "--manifest", str(split), "--out", str(folder), "--metrics", given.metrics]
        status |= steps.run([*words, "--workers", str(given.workers)], folder)
        scored += sorted(folder.glob("*.csv"))
    arguments = [str(path) for path in scored if _has_scores(path)]
    for each in given.models:
        row, _, model = each.rpartition("=")
        for mode in ("nr", "fr") if given.references else ("nr",):
            path = out / "scores" / f"{row or Path(model).name}_{mode}.csv"
            words = ["score", str(split), "--model", model, "--out", str(path)]
            status |= steps.run(words + ["--no_reference"] * (mode == "nr"), path)
            arguments.append(f"{row or Path(model).name}={path}")

    words = [
        "tables",
        "--manifest",
        str(split),
        "--out",
        str(out),
        "--predictions",
        *arguments,
        *given.predictions,
    ]
    for option in ("others", "cross"):
        if getattr(given, option):
            words += [f"--{option}", *getattr(given, option)]
    return status | harmonyiqa([*words, "--notes", *steps.commands])


class Steps:
    """Commands in order; one that was done with the same words and input is passed over, until one was not."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.done = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        self.commands: list[str] = []
        self._changed = False

    def run(self, words: list[str], output: Path, input_file: str | None = None) -> int:
        """Run `harmonyiqa WORDS` unless its output is there already.

        Args:
            words: the command.
            output: what it writes.
            input_file: a file whose new content means doing it again.

        Returns:
            The command's status, of now or then: 0 or 1.
        """
        command = shlex.join(["harmonyiqa", *words])
        self.commands.append(command)
        there = input_file is not None and Path(input_file).is_file()
        state = {"command": command, "input": sha256_of(str(input_file)) if there else ""}
        before = self.done.get(str(output), {})
        same = all(before.get(key) == value for key, value in state.items())
        if not self._changed and output.exists() and same:
            print(f"already done: {command}", file=sys.stderr)
            return int(before["status"])
        self._changed = True
        print(command, file=sys.stderr)
        status = harmonyiqa(words)
        if status not in (0, 1):
            sys.exit(status)
        self.done[str(output)] = {**state, "status": status}
        write_text(json.dumps(self.done, indent=2) + "\n", self.path)
        return status


def _has_scores(path: Path) -> bool:
    """A metric that scored nothing (no references, no weights) has no place in a table; say so here."""
    rows = read_predictions(path)
    if any(row.score is not None for row in rows):
        return True
    print(f"{path} is left out: {rows[0].error if rows else 'it is empty'}", file=sys.stderr)
    return False


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("labels", help="MOSz.xlsx as released")
    parser.add_argument("--out", default="results/tables", help="folder for everything that is made")
    parser.add_argument("--images", help="folder with the harmonized images")
    for name in ("references", "composites", "masks"):
        parser.add_argument(f"--{name}", help="pattern of their paths, such as 'references/{content}.*'")
    parser.add_argument("--methods", help="YAML that gives the method numbers names and groups")
    parser.add_argument(
        "--split",
        default="harmonyiqad_content_0",
        help="a split that ships with the package, a split file, or content or method to cut anew",
    )
    parser.add_argument("--seed", type=int, default=0, help="of a split that is cut anew")
    parser.add_argument("--metrics", default="all", help="for `harmonyiqa baselines`, or none")
    parser.add_argument("--workers", type=int, default=1, help="processes that compute them")
    parser.add_argument("--models", nargs="*", default=["bundled=bundled"], metavar="ROW=MODEL")
    parser.add_argument("--predictions", nargs="*", default=[], metavar="ROW=FILE", help="made elsewhere")
    parser.add_argument("--others", nargs="*", metavar="SET=MANIFEST", help="for table V")
    parser.add_argument("--cross", nargs="*", metavar="FILE", help="cross.json files, for table VI")
    return parser


if __name__ == "__main__":
    sys.exit(main())
