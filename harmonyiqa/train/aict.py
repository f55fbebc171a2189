"""Training of AICT on the same Trainer, launcher, resume and run folder as the scorer (AICT paper, section 4.1.2)."""

import logging
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from accelerate import PartialState
from safetensors.torch import load_file, save_file
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers import EvalPrediction, TrainerCallback, TrainingArguments, set_seed

from harmonyiqa.config import AictTrainSettings
from harmonyiqa.data.manifest import read_manifest
from harmonyiqa.errors import UserError
from harmonyiqa.harmonize.loss import AictLoss
from harmonyiqa.harmonize.network import AICT
from harmonyiqa.train.composites import composite_maker
from harmonyiqa.train.runs import arguments, callbacks, finish, open_run, record_split, run
from harmonyiqa.train.trainer import WholeCheckpoints, last_checkpoint
from harmonyiqa.train.triplets import MadeTriplets, TripletCollator, TripletDataset

log = logging.getLogger(__name__)
_WEIGHTS, _MEAN = "network.safetensors", "mean.safetensors"


def train_aict(settings: AictTrainSettings, *, resume: bool = False) -> AICT:
    """Train AICT and leave the best network, by validation fMSE, in `<out>/model`.

    Args:
        settings: the run.
        resume: go on from the newest whole checkpoint in `settings.out`.

    Raises:
        UserError: the data or the start network do not fit the settings, or the run folder is taken.
    """
    manifest = read_manifest(settings.data.manifest)
    folder = Path(settings.out)
    # without `cpu` the processes of torchrun do not meet on a machine without a GPU
    if PartialState(cpu=not torch.cuda.is_available()).is_main_process:
        open_run(settings, resume=resume)
    set_seed(settings.seed)
    network = _start(settings)
    train: TripletDataset | MadeTriplets
    if settings.photos is None:
        train = TripletDataset(manifest, "train", settings.data, augment=True)
    else:
        maker = composite_maker(
            settings.photos, folder, "train", tile=settings.photos.size, seed=settings.seed
        )
        size = settings.optim.batch_size
        train = MadeTriplets(maker, settings.photos.images // size, size)
    val = TripletDataset(manifest, "val", settings.data, augment=False, limit=settings.validation.max_images)
    if PartialState().is_main_process:
        record_split(manifest, folder)
        log.info(
            "%s parameters; %s training %s and %s validation composites",
            f"{sum(p.numel() for p in network.parameters()):,}",
            f"{len(train):,}",
            "batches" if settings.photos else "composites",
            f"{len(val):,}",
        )
    checkpoint = last_checkpoint(folder) if resume else None
    trainer = AictTrainer(
        constant=settings.optim.constant,
        average=settings.optim.average,
        muon=settings.optim.optimizer == "muon",
        model=AictLoss(network, settings.loss),
        args=_arguments(settings, len(train)),
        train_dataset=train,
        eval_dataset=val,
        data_collator=TripletCollator(network.config.low_resolution),
        compute_metrics=validation_metrics,
        callbacks=callbacks(folder, settings.validation.patience, checkpoint),
    )
    seconds = run(trainer, checkpoint)
    if trainer.is_world_process_zero():
        finish(trainer, network, folder, seconds)
    trainer.accelerator.wait_for_everyone()
    return network.eval()


class AictTrainer(WholeCheckpoints):
    """Trains an `AictLoss`: Adam or Muon, constant then linear rate, whole checkpoints, validation by fMSE.

    Args:
        constant: share of all steps before the rate begins to fall.
        average: what a step leaves of the running mean of weights, which is validated and kept; 0: no mean.
        options: of transformers' Trainer.
    """

    model: AictLoss
    lr_scheduler: torch.optim.lr_scheduler.LRScheduler | None

    def __init__(self, *, constant: float, average: float = 0, **options: Any) -> None:
        self.constant = constant
        super().__init__(**options)
        self.mean: AveragedModel | None = None
        if average:
            network = self.model.network
            self.mean = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(average), use_buffers=True)
            self.add_callback(_Averaging(self.mean, network))

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Adam with the paper's betas and epsilon, no weight decay; or Muon."""
        if self.optimizer is None and not self.muon:
            self.optimizer = torch.optim.Adam(
                self.model.parameters(), self.args.learning_rate, (0.9, 0.999), 1e-8
            )
        return super().create_optimizer(model)

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """Constant for the first part of the steps, then linearly to zero."""
        if self.lr_scheduler is None:
            flat = round(self.constant * num_training_steps)
            falling = max(1, num_training_steps - flat)
            self.lr_scheduler = LambdaLR(
                optimizer or self.create_optimizer(),
                lambda step: min(1.0, max(0.0, (num_training_steps - step) / falling)),
            )
        return self.lr_scheduler

    def evaluate(self, *arguments: Any, **options: Any) -> dict[str, float]:
        """Validation, of the mean of weights if there is one."""
        if self.mean is None:
            return super().evaluate(*arguments, **options)
        own, self.model.network = self.model.network, cast(AICT, self.mean.module)
        try:
            return super().evaluate(*arguments, **options)
        finally:
            self.model.network = own

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The loss, fMSE of the results (N,), and fMSE of the composites (N,) in the place of labels."""
        with torch.no_grad():
            found = self.model(**self._prepare_inputs(inputs))
        return found["loss"], found["fmse"], found["composite_fmse"]

    def _save(self, output_dir: str | None = None, state_dict: dict[str, torch.Tensor] | None = None) -> None:
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        save_file(self.model.network.state_dict(), folder / _WEIGHTS)  # batch statistics too
        if self.mean is not None:
            save_file(self.mean.module.state_dict(), folder / _MEAN)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        folder = Path(resume_from_checkpoint)
        self.model.network.load_state_dict(load_file(folder / _WEIGHTS))
        if self.mean is not None:
            self.mean.module.load_state_dict(load_file(folder / _MEAN))
            self.mean.n_averaged.fill_(1)  # at 0 the next step would begin the mean anew

    def _load_best_model(self) -> None:
        if self.state.best_model_checkpoint is not None:
            name = _WEIGHTS if self.mean is None else _MEAN
            self.model.network.load_state_dict(load_file(Path(self.state.best_model_checkpoint) / name))


class _Averaging(TrainerCallback):
    """Takes the weights of every step into their mean."""

    def __init__(self, mean: AveragedModel, network: AICT) -> None:
        self.mean, self.network = mean, network

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.mean.update_parameters(self.network)


def validation_metrics(prediction: EvalPrediction) -> dict[str, float]:
    """Mean fMSE of the results and of the composites, and the one as a share of the other."""
    after, before = (float(np.mean(each)) for each in (prediction.predictions, prediction.label_ids))
    return {"fmse": after, "composite_fmse": before, "fmse_ratio": after / before if before else math.nan}


def _start(settings: AictTrainSettings) -> AICT:
    network = AICT(settings.network)
    if settings.start is None:
        return network
    saved = AICT.from_pretrained(None if settings.start == "bundled" else settings.start)
    asked = settings.network
    if replace(saved.config, low_resolution=asked.low_resolution, dropout=asked.dropout) != asked:
        raise UserError(
            f"{settings.start} has the layout {saved.config}, network asks for {settings.network}"
        )
    network.load_state_dict(saved.state_dict())
    return network


def _arguments(settings: AictTrainSettings, items: int) -> TrainingArguments:
    optim, validation = settings.optim, settings.validation
    batch_size = 1 if settings.photos else optim.batch_size  # what is made comes in batches
    per_step = batch_size * optim.accumulation * PartialState().num_processes
    steps = settings.max_steps or math.ceil(items / per_step * optim.epochs)
    every = max(1, min(steps, round(items / per_step / validation.per_epoch)))
    return arguments(
        settings,
        batch_size=batch_size,
        every=every,
        best="fmse",
        higher_better=False,
        per_device_eval_batch_size=optim.batch_size,
        logging_steps=max(1, every // 10),
    )
