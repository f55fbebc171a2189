"""A run folder says how it was made: settings, versions, history, model card, model.

settings.yaml     every setting of the run, defaults included
environment.json  versions, machine kind, seed, hash of the manifest
split.json        which images were train, val and test, and the hash of that
history.jsonl     every logged number, one line a time
metrics.json      the best validation and how long it took
probes.json       whether the trained model passes each probe (`evaluate.probes`)
checkpoint-N/     what `--resume` goes on from
tensorboard/      the same numbers as curves
model/            the trained model; its README.md is the model card
"""

import ctypes
import json
import platform
import shutil
import sys
import time
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml
from accelerate import PartialState
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm
from transformers import (
    EarlyStoppingCallback,
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.integrations import TensorBoardCallback

from harmonyiqa import __version__
from harmonyiqa.config import AictTrainSettings, TowerTrainSettings, TrainSettings
from harmonyiqa.data.manifest import Manifest
from harmonyiqa.data.split_files import RUN_FILE, split_of, write_split
from harmonyiqa.errors import UserError
from harmonyiqa.files import atomic_path, sha256_of

if TYPE_CHECKING:
    from harmonyiqa.harmonize.network import AICT
    from harmonyiqa.model.harmonyiqa import HarmonyIQA

RunSettings = TrainSettings | AictTrainSettings | TowerTrainSettings
_SHOWN = (
    "loss",
    "learning_rate",
    "eval_srcc",
    "eval_krcc",
    "eval_plcc",
    "eval_rmse",
    "eval_unscored",
    "eval_fmse",
    "eval_auc_medium",
    "eval_auc_strong",
)
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


def open_run(settings: RunSettings, *, resume: bool) -> None:
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
        write_json(folder / "environment.json", environment(settings))
        with atomic_path(path) as part:  # last: with it the folder holds a run
            part.write_text(now, encoding="utf-8")


def environment(settings: RunSettings) -> dict[str, Any]:
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
        "data_order": "each epoch a permutation drawn from seed and epoch (accelerate's SeedableRandomSampler)",
    } | (
        {}
        if isinstance(settings, TowerTrainSettings)
        else {"manifest_sha256": sha256_of(settings.data.manifest)}
    )


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


def arguments(
    settings: RunSettings,
    *,
    batch_size: int,
    every: int,
    best: str,
    higher_better: bool,
    keep_last: bool = False,
    **own: Any,
) -> TrainingArguments:
    """transformers' settings of a run, as far as the trainings share them.

    Args:
        settings: the run's.
        batch_size: items a step and process.
        every: steps from one validation, and checkpoint, to the next.
        best: the validation metric that chooses the model.
        higher_better: its direction.
        keep_last: the last weights are the model, not those that were validated best.
        own: what one training sets alone.
    """
    optim = settings.optim
    workers = 0 if isinstance(settings, TowerTrainSettings) else settings.data.workers
    return TrainingArguments(
        output_dir=settings.out,
        seed=settings.seed,
        num_train_epochs=optim.epochs,
        max_steps=settings.max_steps or -1,
        per_device_train_batch_size=batch_size,
        gradient_accumulation_steps=optim.accumulation,
        learning_rate=optim.learning_rate,
        max_grad_norm=optim.max_grad_norm,
        bf16=optim.precision == "bf16",
        eval_strategy="steps",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=2,
        load_best_model_at_end=not keep_last,
        metric_for_best_model=best,
        greater_is_better=higher_better,
        report_to=[],  # TensorBoard is a callback, with a folder of its own
        remove_unused_columns=False,
        dataloader_num_workers=workers,
        dataloader_persistent_workers=workers > 0,
        use_cpu=not torch.cuda.is_available(),
        **own,
    )


def run(trainer: Trainer, checkpoint: Path | None) -> float:
    """Train, from a checkpoint if there is one; the seconds that it took."""
    if trainer.args.device.type == "cpu":
        keep_memory()
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(Progress)
    began = time.monotonic()
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    return time.monotonic() - began


def keep_memory() -> None:
    """Let glibc keep the memory of large tensors for the next ones; with another C library nothing happens.

    Giving it back after each use, and having it zeroed when it is fetched again, took 30% of a step on a CPU
    (docs/bundled_model.md).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option, value in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, 2**28)):
            mallopt(option, value)


_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # of malloc.h


def finish(trainer: Trainer, model: "HarmonyIQA | AICT", folder: Path, seconds: float) -> None:
    """Leave the trained model and the metrics of its best validation in the run folder."""
    model.save_pretrained(folder / "model")
    # so that it stays known wherever the model goes
    shutil.copyfile(folder / RUN_FILE, folder / "model" / RUN_FILE)
    record_metrics(trainer, folder, seconds)


def record_metrics(trainer: Trainer, folder: Path, seconds: float) -> None:
    """Write down the best validation and how long the run took."""
    best, state = trainer.args.metric_for_best_model, trainer.state
    validations = [h for h in state.log_history if f"eval_{best}" in h]
    metrics = {
        f"best_val_{best}": state.best_metric,
        "best_step": state.best_global_step,
        "steps": state.global_step,
        "epochs": state.epoch,
        "seconds": round(seconds, 1),
        "best_validation": next((v for v in validations if v["step"] == state.best_global_step), {}),
    }
    write_json(folder / "metrics.json", metrics)


def read_run(settings: RunSettings) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    """The folder of a finished run, its metrics and its environment."""
    folder = Path(settings.out)
    metrics, environment = (
        json.loads((folder / f"{n}.json").read_text("utf-8")) for n in ("metrics", "environment")
    )
    return folder, metrics, environment


def _step_of(line: str) -> float:
    """The step of a line of the history; a line that was cut off belongs to none."""
    try:
        return float(json.loads(line)["step"])
    except (json.JSONDecodeError, KeyError, TypeError):
        return float("inf")


def callbacks(folder: Path, patience: int, checkpoint: Path | None) -> list[TrainerCallback]:
    """History, TensorBoard's curves and early stop.

    Args:
        folder: the run's.
        patience: validations without a new best until the run stops; 0 never.
        checkpoint: what the run goes on from, if it goes on.
    """
    step = int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0
    found: list[TrainerCallback] = [History(folder, step)]
    if PartialState().is_main_process:
        found.append(TensorBoardCallback(SummaryWriter(log_dir=str(folder / "tensorboard"))))
    if patience:
        found.append(EarlyStoppingCallback(patience))
    return found


class History(TrainerCallback):
    """Keeps every logged number in `history.jsonl`.

    Args:
        folder: the run folder.
        from_step: where the run goes on; what was logged after that step is logged again, and cut off here.
    """

    def __init__(self, folder: Path, from_step: int = 0) -> None:
        self.path = folder / "history.jsonl"
        if PartialState().is_main_process and self.path.exists():
            lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
            with atomic_path(self.path) as part:
                part.write_text("".join(ln for ln in lines if _step_of(ln) <= from_step), encoding="utf-8")

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
