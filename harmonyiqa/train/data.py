"""Manifest rows as training examples."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from PIL import Image, ImageOps
from torch.utils.data import Dataset

from harmonyiqa.config import Mode
from harmonyiqa.data.manifest import Manifest, Row, evenly
from harmonyiqa.errors import UserError
from harmonyiqa.images import open_rgb
from harmonyiqa.model.inputs import Example, Inputs


@dataclass(frozen=True)
class Item:
    """One question with its answer."""

    example: Example
    mos: float


class ScoreDataset(Dataset[Item]):
    """The rows of one split, each as a no-reference question, a full-reference one, or both.

    Args:
        manifest: rows with a MOS.
        split: which of its splits.
        inputs: the model's.
        mode: "nr", "fr" or "both" (twice as many items).
        flip: mirror half of the images, the reference with its image; which ones depends on seed, epoch and image
            alone, so that a resumed run goes on with the same.
        limit: take only this many rows, spread evenly; 0 takes all.
        seed: of the flips.

    Raises:
        UserError: the split is empty, a row has no MOS, or no reference in a mode that needs one.
    """

    def __init__(
        self,
        manifest: Manifest,
        split: str,
        inputs: Inputs,
        mode: Mode,
        *,
        flip: bool = False,
        limit: int = 0,
        seed: int = 0,
    ) -> None:
        rows = manifest.split(split).rows
        for row in rows:
            if row.mos is None:
                raise UserError(f"{manifest.path}: {row.image} (split {split}) has no mos to learn from")
            if row.reference is None and mode != "nr":
                raise UserError(f"{manifest.path}: {row.image} has no reference, which mode {mode!r} needs")
        rows = evenly(rows, limit)
        modes: tuple[Literal["nr", "fr"], ...] = ("nr", "fr") if mode == "both" else (mode,)
        self.questions: list[tuple[Row, Literal["nr", "fr"]]] = [(row, m) for row in rows for m in modes]
        self.mos = torch.tensor([row.mos for row in rows], dtype=torch.float32)
        self.manifest = manifest
        self.inputs = inputs
        self.flip = flip
        self.seed = seed
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # worker processes see it change

    def set_epoch(self, epoch: int) -> None:
        """Called by the data loader before each pass."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.questions)

    def __getitem__(self, index: int) -> Item:
        row, mode = self.questions[index]
        pictures, _ = self.open(row, mode)
        assert row.mos is not None  # checked at the start
        return Item(self.inputs.prepare(*pictures), row.mos)

    def open(self, row: Row, mode: Literal["nr", "fr"]) -> tuple[list[Image.Image], bool]:
        """The image, then its reference if there is one; and whether they were mirrored."""
        names = [row.image] if mode == "nr" else [row.image, row.reference]
        pictures = [open_rgb(self.manifest.resolve(name)) for name in names if name is not None]
        draw = random.Random(f"{self.seed} {int(self._epoch)} {row.image} {row.reference} {mode}").random()
        mirrored = self.flip and draw < 0.5
        return ([ImageOps.mirror(picture) for picture in pictures] if mirrored else pictures), mirrored


class Collator:
    """Items to a batch: sentences to learn in stage 1, scores in stage 2 and for every validation.

    Args:
        inputs: the model's.
        sentences: whether the labels are score sentences.
    """

    def __init__(self, inputs: Inputs, *, sentences: bool) -> None:
        self.inputs = inputs
        self.sentences = sentences

    def __call__(self, items: Sequence[Item]) -> dict[str, torch.Tensor]:
        """One batch, as `HarmonyIQA.forward` wants it."""
        collate = self.inputs.collate_sentences if self.sentences else self.inputs.collate_scores
        return collate([item.example for item in items], [item.mos for item in items])
