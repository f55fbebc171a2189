"""Learning from photos: *where* an image was altered beside *how much* it matters (stage 0; the others if asked).

A synthetic composite tells for every part of it how far it was shifted, which teaches far more an image than its one
score. The model's map head learns to draw it.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from accelerate import PartialState
from PIL import Image
from torch.nn import functional as F
from torch.utils.data import Dataset

from harmonyiqa.config import PhotoSettings
from harmonyiqa.errors import UserError
from harmonyiqa.model.inputs import Example, Inputs
from harmonyiqa.synthesize.bank import PhotoBank, build_bank
from harmonyiqa.synthesize.batch import BatchMaker
from harmonyiqa.synthesize.recipe import Recipe, twin_rows
from harmonyiqa.synthesize.severity import WORST_DELTA_E, mos_of
from harmonyiqa.synthesize.transforms import PARAMETRIC, TRANSFER


class CompositeDataset(Dataset[dict[str, torch.Tensor]]):
    """Batches of composites, made when they are asked for; number i is the same whenever and wherever it is made.

    A batch asks one kind of question: every `every`-th shows the reference first, the others one image. The batches of
    one step, one a process, ask the same kind and so take equally long.

    Args:
        maker: makes them.
        inputs: the model's.
        batches: how many there are.
        batch_size: images in each.
        every: 1 asks full-reference questions only, 2 every second time.
        grid: cells along a side of the map.
        stage: labels are the scores, in stage 1 the sentences; in stage 0 sentences stand beside the scores.
        together: batches that make one step: the processes, which take them in order.
        ranked: the two images of a scene are compared too, where the batch is paired and there are scores.

    Raises:
        UserError: an image takes more than one tile.
    """

    def __init__(
        self,
        maker: BatchMaker,
        inputs: Inputs,
        batches: int,
        batch_size: int,
        every: int,
        grid: int,
        stage: Literal[0, 1, 2],
        together: int = 1,
        ranked: bool = False,
    ) -> None:
        if inputs.image_processor.crop_to_patches:
            raise UserError("learning from photos needs max_tiles 1: a map belongs to one tile")
        self.maker = maker
        self.batches, self.batch_size, self.grid = batches, batch_size, grid
        self.every, self.together, self.ranked = every, together, ranked
        blank = Image.new("RGB", (maker.size, maker.size))
        self.examples = inputs.prepare(blank), inputs.prepare(blank, blank)
        self.inputs, self.stage = inputs, stage
        processor = inputs.image_processor
        self.mean, self.std = (
            torch.tensor(values).view(3, 1, 1) for values in (processor.image_mean, processor.image_std)
        )
        self.mos = torch.tensor([mos_of(float(s)) for s in maker.severities(4096)])

    def __len__(self) -> int:
        return self.batches

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """One batch as `HarmonyIQA.forward` wants it."""
        full = index // self.together % self.every == self.every - 1
        # beside its photo even a fitting object is another one, and no longer a question of colour; and a change of the
        # whole can be told from the region's, however far it goes
        own = self.maker.recipe
        recipe = replace(own, paste=0.1, matched=0, paired=False, reach=1.0) if full else own
        made = self.maker.batch(index, self.batch_size, recipe)
        pictures = torch.stack([made.reference, made.image] if full else [made.image], 1)
        pixels = (pictures - self.mean.to(pictures.device)) / self.std.to(pictures.device)
        mos = [mos_of(severity) for severity in made.severity.tolist()]
        share = F.adaptive_avg_pool2d(made.alpha, self.grid).squeeze(1)
        batch = self._labelled([replace(self.examples[full], pixel_values=own) for own in pixels], mos)
        if self.ranked and recipe.paired and self.stage != 1:
            batch["pairs"] = _apart(torch.tensor(mos))
        return {**batch, "shifts": share * made.severity.clamp(max=WORST_DELTA_E)[:, None, None]}

    def _labelled(self, examples: list[Example], mos: list[float]) -> dict[str, torch.Tensor]:
        if self.stage == 2:
            return self.inputs.collate_scores(examples, mos)
        batch = self.inputs.collate_sentences(examples, mos)
        if self.stage == 1:
            return batch
        return {**batch, "sentences": batch["labels"], "labels": torch.tensor(mos)}


def _apart(mos: torch.Tensor) -> torch.Tensor:
    """(P, 2): rows of one scene in a paired batch, the better one first, where the scores (N,) are clearly apart."""
    pairs = twin_rows(len(mos))
    return pairs[mos[pairs[:, 0]] - mos[pairs[:, 1]] > _CLEARLY]


_CLEARLY = 1.0  # point of MOS


def composites(
    settings: PhotoSettings,
    cache: Path,
    inputs: Inputs,
    *,
    tile: int,
    batch_size: int,
    seed: int,
    stage: Literal[0, 1, 2],
) -> CompositeDataset:
    """The training data that `photos` asks for.

    Args:
        settings: which photos and how many composites.
        cache: the folder where photos are kept ready.
        inputs: the model's.
        tile: side of the model's tile in pixels.
        batch_size: composites a batch.
        seed: seeds what is drawn.
        stage: for which stage of training.
    """
    maker = composite_maker(settings, cache, "train", tile=tile, seed=seed)
    every, batches = settings.reference_every, settings.images // batch_size
    grid = math.isqrt(inputs.tokens_per_tile) * settings.map_cells
    together = PartialState().num_processes
    return CompositeDataset(maker, inputs, batches, batch_size, every, grid, stage, together, settings.ranked)


def composite_maker(settings: PhotoSettings, cache: Path, split: str, *, tile: int, seed: int) -> BatchMaker:
    """What makes the composites that `photos` asks for, from the photos of a split.

    Args:
        settings: which photos and which composites.
        cache: the folder where photos are kept ready; they are put there if they are not.
        split: train, val or test.
        tile: side of the composites in pixels.
        seed: seeds what is drawn.

    Raises:
        UserError: a family or a collection is held out that is not there, or all are.
    """
    state = PartialState()
    path = cache / f"photos_{split}.safetensors"
    with state.main_process_first():
        if not path.exists():
            build_bank(settings.folder, split, settings.size).save(path)
    bank = PhotoBank.load(path)
    _check_held_out("held_out_sources", settings.held_out_sources, bank.names)
    bank = bank.without(settings.held_out_sources).to(state.device)
    luts = None
    if settings.luts is not None:
        with np.load(settings.luts) as file:
            tables = torch.from_numpy(file["tables"]).float()
        luts = tables.permute(0, 4, 1, 2, 3).contiguous().to(state.device)
    known = [*PARAMETRIC, *TRANSFER, *(["lut"] if luts is not None else [])]
    _check_held_out("held_out", settings.held_out, known)
    recipe = Recipe(
        paste=settings.pastes,
        decoy=settings.decoys,
        reach=settings.reach,
        families=tuple(name for name in known if name not in settings.held_out),
        between=(settings.mildest, WORST_DELTA_E) if settings.mildest else None,
        blobs=settings.blobs,
        source_exponent=settings.source_exponent,
        paired=settings.paired,
        worn=settings.worn,
    )
    return BatchMaker(bank, tile, recipe, luts, seed)


def _check_held_out(setting: str, names: Sequence[str], known: Sequence[str]) -> None:
    if unknown := sorted(set(names) - set(known)):
        raise UserError(f"photos.{setting} names {unknown[0]!r}; there are {', '.join(known)}")
    if set(names) == set(known):
        raise UserError(f"photos.{setting} leaves nothing to learn from")


def one_batch(items: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Collator for items that are batches already."""
    (batch,) = items
    return batch
