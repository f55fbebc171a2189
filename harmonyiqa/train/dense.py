"""Stage 0, for models that begin from random weights: learn *where* an image was altered before *how much* it matters.

A synthetic composite tells for every patch how far it was shifted, which teaches far more an image than its one score.
A linear layer on the LLM's image tokens predicts it, together with the score; afterwards that layer is thrown away.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import nn
from torch.nn import functional as F

from harmonyiqa.data.manifest import Manifest
from harmonyiqa.errors import UserError
from harmonyiqa.images import open_mask
from harmonyiqa.model.harmonyiqa import HarmonyIQA
from harmonyiqa.model.inputs import Inputs
from harmonyiqa.train.data import Collator, Item, ScoreDataset

_UNIT = 15.0  # a shift of 15 CIEDE2000 is one unit of the target
_SPREAD = 0.1  # variance of the target over the synthesized sets, so that both losses begin near one


@dataclass(frozen=True)
class DenseItem(Item):
    """A question with its score and its map.

    Attributes:
        shift: (tokens, 4) float32, for the four patches of an image token: share altered x CIEDE2000 / 15.
    """

    shift: torch.Tensor


class DenseScorer(HarmonyIQA):
    """A `HarmonyIQA` with the temporary layer; saved, it is a plain one."""

    shift_head: nn.Linear

    @classmethod
    def around(cls, model: HarmonyIQA) -> Self:
        """The same weights, and a new layer."""
        dense = cls(model.backbone, model.inputs, model.settings, model.name, model.adapters)
        dense.score_head = model.score_head
        dense.shift_head = nn.Linear(model.backbone.config.text_config.hidden_size, 4)
        return dense

    def forward(  # type: ignore[override]  # one argument more
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        pixel_values: torch.Tensor,
        labels: torch.Tensor,
        shifts: torch.Tensor,
        num_items_in_batch: torch.Tensor | float | None = None,
    ) -> dict[str, torch.Tensor]:
        """Loss of the score (stage 2's) plus that of the map.

        Args:
            input_ids: (N, L).
            attention_mask: (N, L).
            pixel_values: (tiles, 3, S, S), one tile an image.
            labels: (N,) MOS.
            shifts: (N, tokens, 4).
            num_items_in_batch: images in the whole step.
        """
        hidden = self._hidden(input_ids, attention_mask, pixel_values)
        # an image stands last in its question: of a row's image tokens, the last `tokens` are its own
        is_image = input_ids == self.inputs.image_token_id
        from_the_right = is_image.flip(1).cumsum(1).flip(1)
        own = is_image & (from_the_right <= shifts.shape[1])
        found = self.shift_head(hidden[own].float()).view_as(shifts)
        items = len(labels) if num_items_in_batch is None else num_items_in_batch
        map_loss = F.mse_loss(found, shifts, reduction="none").mean((1, 2)).sum() / _SPREAD / items
        score = self.score_loss(hidden, labels, num_items_in_batch)
        return {"loss": score["loss"] + map_loss, "scores": score["scores"]}


class DenseDataset(ScoreDataset):
    """Items with maps, from the mask and the column `severity` of a synthesized manifest.

    Raises:
        UserError: a row has no mask or no severity, or an image takes more than one tile.
    """

    def __init__(self, manifest: Manifest, split: str, inputs: Inputs, grid: int, **options: object) -> None:
        super().__init__(manifest, split, inputs, **options)  # type: ignore[arg-type]
        self.grid = grid
        if inputs.image_processor.crop_to_patches:
            raise UserError("stage 0 needs max_tiles 1: its map belongs to one tile")
        for row, _ in self.questions:
            if row.mask is None or row.extra.get("severity") is None:
                raise UserError(
                    f"{manifest.path}: {row.image} needs a mask and a severity; see data synthesize"
                )

    def __getitem__(self, index: int) -> DenseItem:
        row, mode = self.questions[index]
        pictures, mirrored = self.open(row, mode)
        assert row.mos is not None  # checked at the start
        assert row.mask is not None
        share = torch.from_numpy(open_mask(self.manifest.resolve(row.mask), (self.grid, self.grid)))
        share = share.flip(1) if mirrored else share
        half = self.grid // 2  # pixel shuffle makes one token of 2 x 2 patches
        tokens = share.view(half, 2, half, 2).transpose(1, 2).reshape(half * half, 4)
        return DenseItem(
            self.inputs.prepare(*pictures), row.mos, tokens * float(row.extra["severity"] or 0) / _UNIT
        )


class DenseCollator(Collator):
    """Score batches with maps."""

    def __call__(self, items: Sequence[Item]) -> dict[str, torch.Tensor]:
        """One batch, as `DenseScorer.forward` wants it."""
        maps = [item.shift for item in items if isinstance(item, DenseItem)]
        return {**super().__call__(items), "shifts": torch.stack(maps)}
