"""The two stages of the scorer (paper, section III-B): the same loop, another loss."""

import logging
import math
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from accelerate import PartialState
from transformers import TrainingArguments, set_seed

from harmonyiqa.config import TrainSettings
from harmonyiqa.data.manifest import Manifest, read_manifest
from harmonyiqa.errors import UserError
from harmonyiqa.model.harmonyiqa import HarmonyIQA
from harmonyiqa.model.lora import set_trainable
from harmonyiqa.model.storage import start
from harmonyiqa.train.composites import CompositeDataset, composites, one_batch
from harmonyiqa.train.data import Collator, ScoreDataset
from harmonyiqa.train.runs import arguments, callbacks, finish, open_run, record_split, run
from harmonyiqa.train.trainer import (
    ScorerTrainer,
    last_checkpoint,
    put_trained_tensors,
    trained_tensors,
    validation_metrics,
)

log = logging.getLogger(__name__)


def train_scorer(settings: TrainSettings, *, resume: bool = False) -> HarmonyIQA:
    """Train one stage and leave the best model by validation SRCC, or the last (`validation.keep`), in `<out>/model`.

    Args:
        settings: the run.
        resume: go on from the newest whole checkpoint in `settings.out`.

    Raises:
        UserError: the data or the start model do not fit the settings.
    """
    _check_memory_settings(settings)
    manifest = read_manifest(settings.data.manifest)
    folder = Path(settings.out)
    # without `cpu` the processes of torchrun do not meet on a machine without a GPU
    if PartialState(cpu=not torch.cuda.is_available()).is_main_process:
        open_run(settings, resume=resume)
    set_seed(settings.seed)
    model = _first(settings)
    train, val = _datasets(settings, manifest, model)
    spread = train.mos.std().item()
    if not spread > 0:
        raise UserError(f"{manifest.path}: every training row has the same mos; there is nothing to learn")
    model.settings = replace(
        model.settings, mos_mean=train.mos.mean().item(), mos_std=spread, mos_kind=_mos_kind(manifest)
    )
    if settings.optim.gradient_checkpointing:
        # the reentrant kind silently gives the vision adapters no gradient
        model.backbone.gradient_checkpointing_enable({"use_reentrant": False})
    if PartialState().is_main_process:
        record_split(manifest, folder)
        _report_size(model, train, val)

    checkpoint = last_checkpoint(folder) if resume else None
    trainer = ScorerTrainer(
        muon=settings.optim.optimizer == "muon",
        model=model,
        args=_arguments(settings, len(train)),
        train_dataset=train,
        eval_dataset=val,
        data_collator=Collator(model.inputs, sentences=settings.stage == 1)
        if settings.photos is None
        else one_batch,
        compute_metrics=validation_metrics,
        callbacks=callbacks(folder, settings.validation.patience, checkpoint),
    )
    seconds = run(trainer, checkpoint)
    model = _whole(trainer, model, settings)
    if trainer.is_world_process_zero():
        finish(trainer, model, folder, seconds)
    trainer.accelerator.wait_for_everyone()
    return model


def _first(settings: TrainSettings) -> HarmonyIQA:
    """The model that a run begins with: its heads in place, and what learns marked."""
    stage: Literal[1, 2] = 1 if settings.stage == 1 else 2  # stage 0 trains a score head too
    model = start(settings.start, settings.trainable, stage)
    if settings.photos is None:
        model.drop_map_head()
    elif model.settings.map_cells != settings.photos.map_cells:
        model.add_map_head(settings.photos.map_cells)
    set_trainable(model, settings.trainable, stage)
    return model


def _whole(trainer: ScorerTrainer, model: HarmonyIQA, settings: TrainSettings) -> HarmonyIQA:
    """The trained model in one piece: where FSDP or ZeRO-3 has sharded it, the start model with what was trained."""
    if not (trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled):
        return model
    tensors = trained_tensors(model)
    if not trainer.is_world_process_zero():
        return model
    plain = _first(settings)
    plain.settings = model.settings
    put_trained_tensors(plain, tensors)
    return plain if settings.start.quantize != "none" else plain.to(trainer.args.device)


def _check_memory_settings(settings: TrainSettings) -> None:
    """Settings that do not go together, before anything is loaded."""
    if settings.start.dtype == "bfloat16" and settings.optim.precision != "bf16":
        raise UserError(
            f"start.dtype bfloat16 computes in bfloat16: set optim.precision to bf16, not {settings.optim.precision}"
        )


def _datasets(
    settings: TrainSettings, manifest: Manifest, model: HarmonyIQA
) -> tuple[ScoreDataset | CompositeDataset, ScoreDataset]:
    data = settings.data
    if settings.photos is not None:
        train: ScoreDataset | CompositeDataset = composites(
            settings.photos,
            Path(settings.out),
            model.inputs,
            tile=model.settings.tile_size,
            batch_size=settings.optim.batch_size,
            seed=settings.seed,
            stage=settings.stage,
        )
    else:
        train = ScoreDataset(manifest, "train", model.inputs, data.mode, flip=data.flip, seed=settings.seed)
    val = ScoreDataset(manifest, "val", model.inputs, data.mode, limit=settings.validation.max_images)
    return train, val


def _arguments(settings: TrainSettings, items: int) -> TrainingArguments:
    optim, validation = settings.optim, settings.validation
    batch_size = optim.batch_size if settings.photos is None else 1  # an item is a batch already
    per_step = batch_size * optim.accumulation * PartialState().num_processes
    # of one epoch, or of the run if that is shorter
    steps = math.ceil(items / per_step * min(1.0, optim.epochs))
    every = max(1, min(steps, settings.max_steps or steps) // validation.per_epoch)
    return arguments(
        settings,
        batch_size=batch_size,
        every=every,
        best="srcc",
        higher_better=True,
        keep_last=validation.keep == "last",
        per_device_eval_batch_size=validation.batch_size,
        train_sampling_strategy="random" if settings.photos is None else "sequential",  # drawn when made
        lr_scheduler_type="cosine",
        warmup_steps=optim.warmup,  # below 1 it is a share of all steps
        weight_decay=optim.weight_decay,
        **({"optim": optim.optimizer} if "8bit" in optim.optimizer else {}),
        fp16=optim.precision == "fp16",
        restore_callback_states_from_checkpoint=True,  # the patience of the early stop
        # a tenth of `every`, or less: a divisor, so that no mean of the loss spans a checkpoint
        logging_steps=next(n for n in range(max(1, every // 10), 0, -1) if every % n == 0),
        label_names=["labels"],
    )


def _mos_kind(manifest: Manifest) -> str:
    kinds = {row.mos_kind for row in manifest.rows if row.mos_kind}
    return "+".join(sorted(kinds)) or "human"


def _report_size(model: HarmonyIQA, train: ScoreDataset | CompositeDataset, val: ScoreDataset) -> None:
    total = sum(p.numel() for p in model.parameters())
    learns = sum(p.numel() for p in model.parameters() if p.requires_grad)
    what = "batches" if isinstance(train, CompositeDataset) else "questions"
    log.info(
        "%s of %s parameters learn; %s training %s and %s validation questions",
        f"{learns:,}",
        f"{total:,}",
        len(train),
        what,
        len(val),
    )
