"""transformers' Trainer, with checkpoints of the trained tensors only and validation by real scores."""

import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.data import DataLoader, Dataset
from transformers import EvalPrediction, Trainer

from harmonyiqa.errors import UserError
from harmonyiqa.files import atomic_path
from harmonyiqa.metrics import MetricError, krcc, plcc, rmse, srcc
from harmonyiqa.model.harmonyiqa import HarmonyIQA
from harmonyiqa.model.inputs import Batch
from harmonyiqa.train.data import Collator

log = logging.getLogger(__name__)
WEIGHTS = "trained.safetensors"
COMPLETE = "complete"  # written last: a checkpoint without it was cut off


class ScorerTrainer(Trainer):
    """Trains a `HarmonyIQA`; the loss is the model's own (`HarmonyIQA.forward`)."""

    model: HarmonyIQA
    data_collator: Collator

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
        if self.model.score_head is not None:
            return None, self.model.predict(batch), labels
        scores = map(self.model.inputs.prompt.parse_score, self.model.predict_text(batch))
        return (
            None,
            torch.tensor([math.nan if s is None else s for s in scores], device=labels.device),
            labels,
        )

    def _save(self, output_dir: str | None = None, state_dict: dict[str, torch.Tensor] | None = None) -> None:
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        save_file(trained_tensors(self.model), folder / WEIGHTS)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
            with atomic_path(folder / COMPLETE) as part:
                part.touch()

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        load_trained_tensors(self.model, Path(resume_from_checkpoint) / WEIGHTS)

    def _load_best_model(self) -> None:
        if self.state.best_model_checkpoint is not None:
            load_trained_tensors(self.model, Path(self.state.best_model_checkpoint) / WEIGHTS)


def trained_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """The parameters that learn, by name, on the CPU. A frozen 8-billion-parameter base is not among them."""
    return {n: p.detach().cpu().contiguous() for n, p in model.named_parameters() if p.requires_grad}


def load_trained_tensors(model: nn.Module, path: Path) -> None:
    """Put saved tensors back.

    Raises:
        UserError: the file holds other tensors than the model trains.
    """
    tensors = load_file(path)
    parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
    if tensors.keys() != parameters.keys():
        odd = sorted(tensors.keys() ^ parameters.keys())[0]
        raise UserError(
            f"{path} does not fit these settings ({odd}): what is trained must not change on resume"
        )
    with torch.no_grad():
        for name, tensor in tensors.items():
            parameters[name].copy_(tensor)


def last_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint of a run; half-written ones are skipped with a line."""
    checkpoints = sorted(
        folder.glob("checkpoint-*"), key=lambda p: int(p.name.rpartition("-")[2]), reverse=True
    )
    for checkpoint in checkpoints:
        if (checkpoint / COMPLETE).exists():
            return checkpoint
        log.warning("%s is incomplete, skipped", checkpoint)
    return None


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
