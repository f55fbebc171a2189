"""Learning to see before learning to speak: a small model's vision tower is trained by itself.

Heads on its tokens say whether a composite was altered, where, and which way. They are thrown away, and the tower goes
on as the eyes of the whole model: gradients that come through an untrained LLM would teach it far less an image
(docs/bundled_model.md).
"""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from accelerate import PartialState
from torch import nn
from torch.nn import functional as F
from torch.utils.data import Dataset
from transformers import EvalPrediction, TrainingArguments, set_seed

from harmonyiqa.color import srgb_to_lab
from harmonyiqa.config import TowerTrainSettings
from harmonyiqa.errors import UserError
from harmonyiqa.metrics import auc
from harmonyiqa.model.backbone import IMAGENET_MEAN, IMAGENET_STD, load_backbone
from harmonyiqa.model.tower import StemVisionModel
from harmonyiqa.synthesize.batch import BatchMaker
from harmonyiqa.train.composites import composite_maker, one_batch
from harmonyiqa.train.runs import arguments, callbacks, open_run, record_metrics, run
from harmonyiqa.train.trainer import WholeCheckpoints, last_checkpoint

CLEAR = 12.0  # CIEDE2000 from which a region is altered beyond doubt
_FAINT = 1.0  # below it an image counts as untouched
_TURN = 10.0  # CIELAB units; a change so far is one unit of what the tower says of its direction


def train_tower(settings: TowerTrainSettings, *, resume: bool = False) -> None:
    """Train the vision tower and leave the start model with it in `<out>/model`.

    Args:
        settings: the run.
        resume: go on from the newest whole checkpoint in `settings.out`.

    Raises:
        UserError: the start model has no stem, there are no photos, or the run folder is taken.
    """
    folder = Path(settings.out)
    # without `cpu` the processes of torchrun do not meet on a machine without a GPU
    if PartialState(cpu=not torch.cuda.is_available()).is_main_process:
        open_run(settings, resume=resume)
    set_seed(settings.seed)
    backbone = load_backbone(settings.start.model, max_tiles=1, dtype=torch.float32)
    judge = TowerJudge.of(backbone.model, settings.start.model)
    judge.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs forget it
    tile = settings.tile or backbone.model.config.vision_config.image_size[0]
    size, seed = settings.optim.batch_size, settings.seed
    learnt = composite_maker(settings.photos, folder, "train", tile=tile, seed=seed)
    shown = composite_maker(settings.photos, folder, "val", tile=tile, seed=seed)
    # regions of the photo itself alone: there is a truth for each
    shown.recipe = replace(shown.recipe, untouched=0.4, paste=0, decoy=0, blobs=0, paired=False)
    steps = math.ceil(settings.photos.images / (size * PartialState().num_processes))
    checkpoint = last_checkpoint(folder) if resume else None
    trainer = WholeCheckpoints(
        muon=settings.optim.optimizer == "muon",
        model=judge,
        args=_arguments(settings, steps),
        train_dataset=Pictures(learnt, settings.photos.images // size, size),
        eval_dataset=Pictures(shown, math.ceil(settings.validation.max_images / size), size),
        data_collator=one_batch,
        compute_metrics=separation,
        callbacks=callbacks(folder, settings.validation.patience, checkpoint),
    )
    seconds = run(trainer, checkpoint)
    if trainer.is_world_process_zero():
        backbone.model.save_pretrained(folder / "model")
        backbone.tokenizer.save_pretrained(folder / "model")
        record_metrics(trainer, folder, seconds)
    trainer.accelerator.wait_for_everyone()


class TowerJudge(nn.Module):
    """A vision tower with three heads: whether an image was altered, where, and which way.

    Args:
        tower: with a stem; its side in tokens follows the images'.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, tower: StemVisionModel) -> None:
        super().__init__()
        self.tower = tower
        width = tower.config.hidden_size
        self.norm = nn.LayerNorm(width)
        self.parts = nn.Linear(width, 2)  # of each token: how much it counts, and whether it was altered
        self.ways = nn.Linear(width, 3)  # of each token: by how much, in CIELAB
        self.whole = nn.Linear(2 * width, 1)
        for name, values in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    @classmethod
    def of(cls, model: Any, name: str) -> Self:
        """New heads on the tower of an InternVL model, which stays its own.

        Raises:
            UserError: the tower has no stem; `name` says which model.
        """
        tower = model.model.vision_tower
        if not isinstance(tower, StemVisionModel):
            raise UserError(f"{name} has no convolutional stem that could be trained by itself")
        return cls(tower)

    def look(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """What the heads say of images (N, 3, T, T) in 0..1.

        Returns:
            Logits (N,), altered or not; logits (N, G, G), altered here or not; (N, 3, G, G), the change in `_TURN`.
        """
        tokens = self.norm(self.tower((images - self.mean) / self.std).last_hidden_state[:, 1:])
        counts, where = self.parts(tokens).unbind(2)
        seen = (counts.softmax(1)[:, :, None] * tokens).sum(1)
        altered = self.whole(torch.cat([seen, tokens.mean(1)], 1)).squeeze(1)
        grid = (math.isqrt(tokens.shape[1]),) * 2
        return altered, where.unflatten(1, grid), self.ways(tokens).mT.unflatten(2, grid)

    def forward(
        self, images: torch.Tensor, severity: torch.Tensor, alpha: torch.Tensor, fitting: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Cross-entropy of whether and where, and a robust error of the way.

        Args:
            images: (N, 3, T, T) in 0..1.
            severity: (N,) mean CIEDE2000 over the region.
            alpha: (N, 1, T, T), the region.
            fitting: (N, 3, T, T), the images without the change.

        Returns:
            `loss`, and `altered` (N,), logits.
        """
        altered, where, ways = self.look(images)
        side = where.shape[1]
        truth = (severity / CLEAR).clamp(max=1)
        where_truth = F.adaptive_avg_pool2d(alpha, side).squeeze(1) * truth[:, None, None]
        ways_truth = (_cells(images, side) - _cells(fitting, side)) / _TURN
        losses = (
            F.binary_cross_entropy_with_logits(altered, truth),
            F.binary_cross_entropy_with_logits(where, where_truth, weight=1 + 3 * where_truth),
            F.smooth_l1_loss(ways, ways_truth),
        )
        return {"loss": torch.stack(losses).sum(), "altered": altered}


def _cells(images: torch.Tensor, side: int) -> torch.Tensor:
    """CIELAB of the mean colour of each cell: (N, 3, T, T) in 0..1 -> (N, 3, side, side)."""
    return srgb_to_lab(F.adaptive_avg_pool2d(images, side).movedim(1, 3)).movedim(3, 1)


class Pictures(Dataset[dict[str, torch.Tensor]]):
    """Batches of composites, each without its photo; number i is the same whenever and wherever it is made.

    Args:
        maker: makes them.
        batches: how many there are.
        size: images in each.
    """

    def __init__(self, maker: BatchMaker, batches: int, size: int) -> None:
        self.maker, self.batches, self.size = maker, batches, size

    def __len__(self) -> int:
        return self.batches

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """One batch as `TowerJudge.forward` wants it."""
        made = self.maker.batch(index, self.size)
        return {
            "images": made.image,
            "severity": made.severity,
            "alpha": made.alpha,
            "fitting": made.fitting,
        }


def separation(prediction: EvalPrediction) -> dict[str, float]:
    """How well logits (N,) tell untouched images from altered ones, by severity (N,): areas under the ROC curve."""
    score, severity = -np.asarray(prediction.predictions), np.asarray(prediction.label_ids)
    untouched = score[severity < _FAINT]
    return {
        f"auc_{name}": auc(untouched, score[(severity >= low) & (severity < high)])
        for name, low, high in (("medium", 6.0, CLEAR), ("strong", CLEAR, math.inf))
    }


def _arguments(settings: TowerTrainSettings, steps: int) -> TrainingArguments:
    optim, validation = settings.optim, settings.validation
    every = max(1, min(steps, settings.max_steps or steps) // validation.per_epoch)
    return arguments(
        settings,
        batch_size=1,  # an item is a batch already
        every=every,
        best="auc_strong",
        higher_better=True,
        per_device_eval_batch_size=1,
        lr_scheduler_type="cosine",
        warmup_steps=optim.warmup,  # below 1 it is a share of all steps
        weight_decay=optim.weight_decay,
        logging_steps=next(n for n in range(max(1, every // 10), 0, -1) if every % n == 0),
        label_names=["severity"],
    )
