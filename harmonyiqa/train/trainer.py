"""transformers' Trainer, with checkpoints of the trained tensors only and validation by real scores."""

import json
import logging
import shutil
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import save_fsdp_optimizer
from safetensors.torch import load_file, save_file
from torch import nn
from torch.distributed.fsdp import FSDPModule, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils.data import DataLoader, Dataset
from transformers import EvalPrediction, Trainer
from transformers.trainer import SCHEDULER_NAME, TRAINER_STATE_NAME
from transformers.trainer_utils import rotate_checkpoints

from harmonyiqa.errors import UserError
from harmonyiqa.files import sha256_of
from harmonyiqa.metrics import MetricError, krcc, plcc, rmse, srcc
from harmonyiqa.model.harmonyiqa import HarmonyIQA
from harmonyiqa.model.inputs import Batch
from harmonyiqa.train.data import Collator
from harmonyiqa.train.optimizers import muon
from harmonyiqa.train.runs import write_json

log = logging.getLogger(__name__)
WEIGHTS = "trained.safetensors"
COMPLETE = "complete"  # written last: the SHA-256 of every other file


class WholeCheckpoints(Trainer):
    """A Trainer that leaves whole checkpoints only.

    Args:
        muon: train matrices with Muon (`harmonyiqa.train.optimizers`) and the rest with AdamW.
        options: of transformers' Trainer.
    """

    optimizer: torch.optim.Optimizer | None

    def __init__(self, *, muon: bool = False, **options: Any) -> None:
        self.muon = muon
        super().__init__(**options)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """The Trainer's own, by its arguments, or Muon."""
        if self.optimizer is None and self.muon:
            model = self.model if model is None else model
            self.optimizer = muon(
                model,
                learning_rate=self.args.learning_rate,
                weight_decay=self.args.weight_decay,
                decayed=self.get_decay_parameter_names(model),
            )
        return super().create_optimizer(model)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """Safetensors takes no weights that are laid out with their channels last."""
        tensors = self.model.state_dict() if state_dict is None else state_dict
        super()._save(output_dir, {name: tensor.contiguous() for name, tensor in tensors.items()})

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Write aside, note what was written, rename: a checkpoint that was cut off has another name or no note."""
        run, name = Path(self.args.output_dir), f"checkpoint-{self.state.global_step}"
        aside = run / ".writing"
        if self.args.should_save:
            shutil.rmtree(aside, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        self.args.output_dir = str(aside)
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self.args.output_dir = str(run)
        if self.state.best_global_step == self.state.global_step:
            self.state.best_model_checkpoint = str(run / name)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            self.state.save_to_json(str(aside / name / TRAINER_STATE_NAME))
            write_json(aside / name / COMPLETE, _digests(aside / name))
            shutil.rmtree(run / name, ignore_errors=True)
            (aside / name).replace(run / name)
            shutil.rmtree(aside)
            rotate_checkpoints(
                str(run), self.args.save_total_limit, self.state.best_model_checkpoint, use_mtime=True
            )
        self.accelerator.wait_for_everyone()


class ScorerTrainer(WholeCheckpoints):
    """Trains a `HarmonyIQA`; the loss is the model's own (`HarmonyIQA.forward`)."""

    model: HarmonyIQA
    data_collator: Collator
    _gathers = False

    def get_eval_dataloader(self, eval_dataset: str | Dataset | None = None) -> DataLoader:
        """Validation asks for scores in both stages, so its batches hold MOS, not sentences."""
        training_collator, self.data_collator = (
            self.data_collator,
            Collator(self.model.inputs, sentences=False),
        )
        try:
            return super().get_eval_dataloader(eval_dataset)
        finally:
            self.data_collator = training_collator

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[None, torch.Tensor, torch.Tensor]:
        """Score as `harmonyiqa score` would: by the head, in stage 1 by the sentence (NaN without a number)."""
        labels = inputs.pop("labels").to(self.args.device)
        batch = Batch(**inputs)
        self._gather_for("predict", "predict_text")
        with self.accelerator.autocast():  # the frozen weights may be bfloat16, those that learn are not
            return None, self.model.predict_or_nan(batch), labels

    def _gather_for(self, *methods: str) -> None:
        """Let FSDP gather its shards for these methods too, not only for `forward`."""
        if self.is_fsdp_enabled and isinstance(self.model, FSDPModule) and not self._gathers:
            for method in methods:
                register_fsdp_forward_method(self.model, method)
            self._gathers = True

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write the trained tensors; called in every process, since sharded ones are gathered from all."""
        tensors = trained_tensors(self.model)
        if self.args.should_save:
            folder = Path(output_dir or self.args.output_dir)
            folder.mkdir(parents=True, exist_ok=True)
            save_file(tensors, folder / WEIGHTS)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not self.is_fsdp_enabled:
            super()._save_optimizer_and_scheduler(output_dir)
            return
        _reshard(self.model)
        # Trainer would save the frozen base beside them
        plugin = self.accelerator.state.fsdp_plugin
        save_fsdp_optimizer(plugin, self.accelerator, self.optimizer, self.model, output_dir)
        if self.args.should_save:
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / SCHEDULER_NAME)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        load_trained_tensors(self.model, Path(resume_from_checkpoint) / WEIGHTS)

    def _load_best_model(self) -> None:
        if self.state.best_model_checkpoint is not None:
            load_trained_tensors(self.model, Path(self.state.best_model_checkpoint) / WEIGHTS)


def trained_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """The parameters that learn, whole, by name, on the CPU. A frozen 8-billion-parameter base is not among them.

    Parameters sharded by FSDP or ZeRO-3 are gathered, so every process must call this.
    """
    _reshard(model)
    tensors = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            with _gathered(parameter):
                whole = parameter.full_tensor() if isinstance(parameter, DTensor) else parameter
                tensors[name] = whole.detach().to("cpu", copy=True).contiguous()
    return tensors


def _reshard(model: nn.Module) -> None:
    """Sharded again in every part: after a forward pass FSDP leaves the outermost weights whole.

    Those are other parameters than the optimiser's, and what is written into them is lost.
    """
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def _gathered(parameter: nn.Parameter, *, write: bool = False) -> AbstractContextManager[Any]:
    """Whole for a while, where DeepSpeed ZeRO-3 has sharded it."""
    if not hasattr(parameter, "ds_id"):
        return nullcontext()
    import deepspeed

    return deepspeed.zero.GatheredParameters([parameter], modifier_rank=0 if write else None)


def load_trained_tensors(model: nn.Module, path: Path) -> None:
    """Put tensors back from a checkpoint.

    Raises:
        UserError: the file holds other tensors than the model trains.
    """
    tensors = load_file(path)
    learns = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    if tensors.keys() != learns:
        odd = sorted(tensors.keys() ^ learns)[0]
        raise UserError(
            f"{path} does not fit these settings ({odd}): what is trained must not change on resume"
        )
    put_trained_tensors(model, tensors)


@torch.no_grad()
def put_trained_tensors(model: nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    """Set parameters by name, sharded ones too; every process must call this."""
    _reshard(model)
    parameters = dict(model.named_parameters())
    for name, tensor in tensors.items():
        parameter = parameters[name]
        if isinstance(parameter, DTensor):
            whole = tensor.to(parameter.device)
            tensor = distribute_tensor(whole, parameter.device_mesh, parameter.placements)
        with _gathered(parameter, write=True):
            parameter.copy_(tensor)


def last_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint of a run; half-written and damaged ones are skipped with a line."""
    checkpoints = sorted(
        folder.glob("checkpoint-*"), key=lambda p: int(p.name.rpartition("-")[2]), reverse=True
    )
    for checkpoint in checkpoints:
        problem = _problem(checkpoint)
        if problem is None:
            return checkpoint
        log.warning("%s is skipped: %s", checkpoint, problem)
    return None


def _digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder, by relative path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != COMPLETE)
    return {path.relative_to(folder).as_posix(): sha256_of(path) for path in files}


def _problem(checkpoint: Path) -> str | None:
    """Why a checkpoint cannot be resumed from; None if it can."""
    note = checkpoint / COMPLETE
    if not note.exists():
        return "it was cut off while it was written"
    try:
        noted = json.loads(note.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError):
        return f"{COMPLETE} is damaged"
    found = _digests(checkpoint)
    odd = sorted(name for name in noted.keys() | found.keys() if noted.get(name) != found.get(name))
    return f"{odd[0]} is not what was written" if odd else None


def validation_metrics(prediction: EvalPrediction) -> dict[str, float]:
    """SRCC, KRCC, PLCC and RMSE of the images that got a score, and the share that got none.

    Scores without any order (all the same, or fewer than three) count as SRCC -1, so that they are never the best.
    """
    scores, mos = np.asarray(prediction.predictions, float), np.asarray(prediction.label_ids, float)
    valid = np.isfinite(scores)
    metrics = {"unscored": float(1 - valid.mean())}
    try:
        if valid.sum() < 3:
            raise MetricError(f"only {valid.sum()} of {len(scores)} images got a score")
        for name, metric in (("srcc", srcc), ("krcc", krcc), ("plcc", plcc), ("rmse", rmse)):
            metrics[name] = metric(scores[valid], mos[valid])
    except MetricError as error:
        log.warning("validation: %s", error)
        metrics["srcc"] = -1.0
    return metrics
