"""A run folder says how it was made: settings, versions, history, model card, model.

settings.yaml     every setting of the run, defaults included
environment.json  versions, machine kind, seed, hash of the manifest
split.json        which images were train, val and test, and the hash of that
history.jsonl     every logged number, one line a time
metrics.json      the best validation and how long it took
checkpoint-N/     what `--resume` goes on from
tensorboard/      the same numbers as curves
model/            the trained model; its README.md is the model card
"""

import json
import platform
import sys
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
import yaml
from tqdm import tqdm
from transformers import ProgressCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from harmonyiqa import __version__
from harmonyiqa.config import TrainSettings
from harmonyiqa.data.manifest import Manifest
from harmonyiqa.data.split_files import RUN_FILE, split_of, write_split
from harmonyiqa.errors import UserError
from harmonyiqa.files import atomic_path, sha256_of

_SHOWN = ("loss", "learning_rate", "eval_srcc", "eval_krcc", "eval_plcc", "eval_rmse", "eval_unscored")
_PACKAGES = (
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "bitsandbytes",
    "datasets",
    "scipy",
    "pillow",
    "numpy",
)


def open_run(settings: TrainSettings, *, resume: bool) -> None:
    """Make the run folder and write down settings and environment.

    Raises:
        UserError: the folder holds a run and `resume` is off, or it was made with other settings.
    """
    folder = Path(settings.out)
    path = folder / "settings.yaml"
    now = yaml.safe_dump(asdict(settings), sort_keys=False)
    if path.exists():
        if not resume:
            raise UserError(
                f"{folder} holds a run already: add --resume to go on with it, or choose another --out"
            )
        then = yaml.safe_load(path.read_text(encoding="utf-8"))
        changed = sorted(k for k, v in asdict(settings).items() if then.get(k) != v)
        if changed:
            raise UserError(
                f"{folder} was started with other settings ({', '.join(changed)}): resume with the same ones"
            )
    else:
        with atomic_path(path) as part:
            part.write_text(now, encoding="utf-8")
        write_json(folder / "environment.json", environment(settings))


def environment(settings: TrainSettings) -> dict[str, Any]:
    """Versions, machine kind, seed and what data it was."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:  # bitsandbytes is absent on some platforms
            versions[package] = "not installed"
    return {
        "harmonyiqa": __version__,
        "python": platform.python_version(),
        "packages": versions,
        "machine": platform.machine(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "threads": torch.get_num_threads(),
        "seed": settings.seed,
        "manifest_sha256": sha256_of(settings.data.manifest),
    }


def record_split(manifest: Manifest, folder: Path) -> None:
    """Write down which images the run learns from (`data.split_files` reads it before an evaluation).

    Raises:
        UserError: one image is in two splits.
    """
    write_split(split_of(manifest.rows, manifest.path.stem), folder / RUN_FILE)


def write_json(path: Path, value: Any) -> None:
    """Write JSON, aside and renamed."""
    with atomic_path(path) as part:
        part.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def read_run(settings: TrainSettings) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    """The folder of a finished run, its metrics and its environment."""
    folder = Path(settings.out)
    metrics, environment = (
        json.loads((folder / f"{n}.json").read_text("utf-8")) for n in ("metrics", "environment")
    )
    return folder, metrics, environment


class History(TrainerCallback):
    """Keeps every logged number in `history.jsonl`."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "history.jsonl"

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Any = None,
        **_: Any,
    ) -> None:
        """Append one line to the file, and show the numbers above the progress bar."""
        if state.is_world_process_zero and logs:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": state.global_step, **logs}) + "\n")
            shown = "  ".join(f"{k} {v:.4g}" for k, v in logs.items() if isinstance(v, float) and k in _SHOWN)
            tqdm.write(f"step {state.global_step}  {shown}", file=sys.stderr)


class Progress(ProgressCallback):
    """transformers' progress bar, without its own print of every log to stdout, where results belong."""

    def on_log(self, *_: Any, **__: Any) -> None:
        """`History` shows them."""
