"""The scorer: InternVL, LoRA adapters, a score head, and the plain way to score an image."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from peft import PeftModel
from PIL import Image
from torch import nn
from torch.nn import functional as F
from transformers import InternVLForConditionalGeneration

from harmonyiqa.config import ModelSettings
from harmonyiqa.errors import UserError
from harmonyiqa.images import open_rgb
from harmonyiqa.model.head import MAP_UNIT, MapHead, ScoreHead
from harmonyiqa.model.inputs import IGNORED, Batch, Example, Inputs

Picture = str | Path | Image.Image | np.ndarray | torch.Tensor
_MAP_SPREAD = 0.1  # variance of the map over composites, so that its loss and the score's begin near one
_SENTENCE_TOKENS = 24  # a whole score sentence and a little more


class HarmonyIQA(nn.Module):
    """Scores how harmonious a composite image looks to people, from 0 to 100; higher is better.

    Paper, section III: InternViT, projector, LLM; the last hidden state of the token just before the score goes to a
    two-layer head. With a reference (the untouched photo) the score is full-reference, else no-reference.

    >>> model = HarmonyIQA.from_pretrained()             # the bundled model; or a folder, or a hub id
    >>> model.score("photo.jpg")                         # doctest: +SKIP
    63.4

    Args:
        backbone: a native InternVL model, adapters already inside if it has any.
        inputs: builds what it reads.
        settings: prompt, MOS scale and so on; saved with the model.
        name: what predictions call this model.
        adapters: peft's wrapper around `backbone`, if it has adapters.
    """

    lower_better: ClassVar[bool] = False
    score_range: ClassVar[tuple[float, float]] = (0.0, 100.0)
    accepts_loss_kwargs: ClassVar[bool] = True  # Trainer: forward divides by num_items_in_batch itself

    def __init__(
        self,
        backbone: InternVLForConditionalGeneration,
        inputs: Inputs,
        settings: ModelSettings,
        name: str,
        adapters: PeftModel | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.inputs = inputs
        self.settings = settings
        self.name = name
        # a tuple hides the wrapper from nn.Module, or every weight would be registered twice
        self._adapters = (adapters,)
        self.score_head: ScoreHead | None = None
        self.card: str | None = None  # README.md of the folder that it was loaded from
        if settings.has_score_head:
            self.add_score_head()
        self.map_head: MapHead | None = None
        if settings.map_cells:
            self.add_map_head(settings.map_cells)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path | None = None,
        *,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
    ) -> "HarmonyIQA":
        """Load a scorer.

        Args:
            name_or_path: None for the bundled model (no network), a folder, or a hub id.
            device: default: CPU.
            dtype: default: float32 on the CPU, the stored type elsewhere. The head is always float32.
            revision: hub branch, tag or commit.
            local_files_only: never ask the hub.

        Raises:
            UserError: nothing is there, or a file is missing or damaged.
        """
        from harmonyiqa.model.storage import load

        return load(
            name_or_path, device=device, dtype=dtype, revision=revision, local_files_only=local_files_only
        )

    def save_pretrained(self, folder: str | Path, *, merge: bool = False) -> None:
        """Write weights (safetensors), settings, prompt and tokenizer; see `harmonyiqa.model.storage`.

        Args:
            folder: where; what stood there is replaced.
            merge: add the adapters to the weights, so that the folder needs no base (layout `full`).
        """
        from harmonyiqa.model.storage import save

        save(self, folder, merge=merge)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        license: str,
        private: bool = True,
        merge: bool = False,
        revision: str | None = None,
    ) -> str:
        """Publish the model with its card; see `harmonyiqa.model.publish`.

        Args:
            repo_id: owner/name; made if it is not there.
            license: of the model, by its hub name (`apache-2.0`, `cc-by-nc-4.0`); the card names it.
            private: whether a repository that is made is private.
            merge: as in `save_pretrained`.
            revision: branch to write to.

        Returns:
            The address of what was written.

        Raises:
            UserError: the model has no complete card.
        """
        from harmonyiqa.model.publish import push

        return push(self, repo_id, license=license, private=private, merge=merge, revision=revision)

    @property
    def adapters(self) -> PeftModel | None:
        """peft's wrapper around the backbone, or None without adapters."""
        return self._adapters[0]

    @property
    def _no_split_modules(self) -> list[str]:
        """The layers that FSDP keeps in one piece, by class: accelerate looks here."""
        towers = self.backbone.model.vision_tower.encoder.layer, self.backbone.model.language_model.layers
        return [type(layers[0]).__name__ for layers in towers]

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.backbone.device

    def add_score_head(self) -> None:
        """Give the model a score head with random weights (start of stage 2)."""
        self.score_head = ScoreHead(self.backbone.config.text_config.hidden_size).to(self.device)

    def require_score_head(self) -> ScoreHead:
        """The score head.

        Raises:
            UserError: there is none.
        """
        if self.score_head is None:
            raise UserError(
                f"{self.name} has no score head: it was trained in stage 1 only; ask for its text score"
            )
        return self.score_head

    def add_map_head(self, cells: int) -> None:
        """Give the model a map head with random weights (training on photos)."""
        self.map_head = MapHead(self.backbone.config.text_config.hidden_size, cells).to(self.device)
        self.settings = replace(self.settings, map_cells=cells)

    def require_map_head(self) -> MapHead:
        """The map head.

        Raises:
            UserError: there is none.
        """
        if self.map_head is None:
            raise UserError(f"{self.name} has no map of what was altered: it was not trained on photos")
        return self.map_head

    def drop_map_head(self) -> None:
        """Forget it: training without a map would leave it behind."""
        self.map_head = None
        self.settings = replace(self.settings, map_cells=0)

    # --- scoring -------------------------------------------------------------------------------------------------

    def prepare(self, image: Image.Image, reference: Image.Image | None = None) -> Example:
        """CPU work for one image; see `Inputs.prepare`."""
        return self.inputs.prepare(image, reference)

    def collate(self, examples: Sequence[Example]) -> Batch:
        """Batch examples; see `Inputs.collate`."""
        return self.inputs.collate(examples)

    @torch.inference_mode()
    def predict(self, batch: Batch) -> torch.Tensor:
        """Scores of a batch by the head: (N,) float32 on the MOS scale, one forward, no `lm_head`.

        Raises:
            UserError: the model has no score head (only stage 1 was trained): use `predict_text`.
        """
        self.require_score_head()
        batch = batch.to(self.device)
        return self.read_scores(
            self._hidden(batch.input_ids, batch.attention_mask, batch.pixel_values)[:, -1]
        )

    def read_scores(self, slot: torch.Tensor) -> torch.Tensor:
        """Scores (N,) on the MOS scale from last hidden states at the score slot (N, width).

        Raises:
            UserError: as `predict`.
        """
        return self._to_mos(self.require_score_head()(slot))

    @torch.inference_mode()
    def predict_map(self, batch: Batch) -> torch.Tensor:
        """Where each image of a batch looks altered, and how far: (N, G, G) float32 CIEDE2000, 0 or more.

        Raises:
            UserError: the model has no map head.
        """
        head = self.require_map_head()
        batch = batch.to(self.device)
        hidden = self._hidden(batch.input_ids, batch.attention_mask, batch.pixel_values)
        return (self._map(head, hidden, batch.input_ids) * MAP_UNIT).clamp_min(0)

    @torch.inference_mode()
    def predict_text(self, batch: Batch) -> list[str]:
        """Greedily generated score sentences of a batch, for `Prompt.read_score`."""
        batch = batch.to(self.device)
        answer = len(self.inputs.answer)
        ids = self.backbone.generate(
            input_ids=batch.input_ids[:, :-answer],
            attention_mask=batch.attention_mask[:, :-answer],
            pixel_values=batch.pixel_values,
            max_new_tokens=_SENTENCE_TOKENS,
            do_sample=False,
            eos_token_id=self.inputs.end_id,
            pad_token_id=self.inputs.end_id,
        )
        new = ids[:, batch.input_ids.shape[1] - answer :]
        return [s.strip() for s in self.inputs.tokenizer.batch_decode(new, skip_special_tokens=True)]

    def predict_or_nan(self, batch: Batch) -> torch.Tensor:
        """Scores of a batch, (N,) float32: by the head, without one by the sentence, NaN where that holds none."""
        if self.score_head is not None:
            return self.predict(batch)
        read = map(self.inputs.prompt.parse_score, self.predict_text(batch))
        return torch.tensor([math.nan if s is None else s for s in read], device=self.device)

    def score(
        self, images: Picture | Sequence[Picture], reference: Picture | Sequence[Picture] | None = None
    ) -> float | list[float]:
        """Score one image or several.

        Args:
            images: a path, PIL image, array (H, W[, 3|4]) or tensor (3, H, W) in 0..1; or a list of these; or a tensor
                (N, 3, H, W).
            reference: the untouched photo of each, in the same form; one reference serves all images.

        Returns:
            The MOS estimate, a float for one image and a list for several. A model without a score head (stage 1)
            generates its sentence.

        Raises:
            UserError: an image cannot be read, the lengths differ, or a sentence holds no score.
        """
        several, pictures = _as_list(images)
        references: list[Any] = [None] * len(pictures)
        if reference is not None:
            _, references = _as_list(reference)
            references = references * len(pictures) if len(references) == 1 else references
            if len(references) != len(pictures):
                raise UserError(
                    f"{len(pictures)} images but {len(references)} references: give one, or one for each"
                )
        scores = []
        for picture, other in zip(pictures, references, strict=True):
            example = self.prepare(_open(picture), None if other is None else _open(other))
            scores.append(self._score_batch(self.collate([example]))[0])
        return scores if several else scores[0]

    def _score_batch(self, batch: Batch) -> list[float]:
        if self.score_head is not None:
            return self.predict(batch).tolist()
        return [self.inputs.prompt.read_score(sentence) for sentence in self.predict_text(batch)]

    # --- training ------------------------------------------------------------------------------------------------

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        pixel_values: torch.Tensor,
        labels: torch.Tensor,
        num_items_in_batch: torch.Tensor | float | None = None,
        shifts: torch.Tensor | None = None,
        sentences: torch.Tensor | None = None,
        pairs: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """Training loss of the model's stage.

        Args:
            input_ids: (N, L).
            attention_mask: (N, L).
            pixel_values: (tiles, 3, S, S).
            labels: stage 1: (N, L) token ids, -100 where there is no loss; stages 0 and 2: (N,) MOS.
            num_items_in_batch: labels in the whole step, over all accumulated batches and processes.
            shifts: (N, G, G) in CIEDE2000, what the map head shall draw; its loss is added to the score's.
            sentences: stage 0: (N, L) token ids as the labels of stage 1, learned beside the score.
            pairs: stages 0 and 2: (P, 2) rows of one scene each, the first of which should score higher; their
                loss is added to the score's (RankNet, Burges et al., ICML 2005).

        Returns:
            `loss`; in stages 0 and 2 also `scores` (N,), on the MOS scale.
        """
        hidden = self._hidden(input_ids, attention_mask, pixel_values)
        map_loss: torch.Tensor | float = 0.0
        if shifts is not None and self.map_head is not None:
            found = self._map(self.map_head, hidden, input_ids)
            map_loss = F.mse_loss(found, shifts / MAP_UNIT) / _MAP_SPREAD
        if self.score_head is None:
            total, here = self._sentence_loss(hidden, labels)
            return {
                "loss": (total + here * map_loss)
                / (here if num_items_in_batch is None else num_items_in_batch)
            }
        slot, sentence_loss = hidden[:, -1], hidden.new_zeros(())
        if sentences is not None:
            total, here = self._sentence_loss(hidden, sentences)
            sentence_loss = total / here
            begin = (sentences != IGNORED).int().argmax(1)
            slot = hidden[torch.arange(len(hidden)), begin + len(self.inputs.answer) - 1]
        output = self.score_head(slot)
        goal = (labels.float() - self.settings.mos_mean) / self.settings.mos_std
        pair_loss: torch.Tensor | float = 0.0
        if pairs is not None and len(pairs):
            higher, lower = output[pairs].unbind(1)
            pair_loss = F.softplus(lower - higher).mean()
        beside = map_loss + sentence_loss + pair_loss
        total = F.mse_loss(output, goal, reduction="sum") + len(goal) * beside
        items = len(goal) if num_items_in_batch is None else num_items_in_batch
        return {"loss": total / items, "scores": self._to_mos(output)}

    def _sentence_loss(self, hidden: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Summed cross-entropy of the labelled tokens, and how many there are; logits at these positions only."""
        target = labels[:, 1:]
        kept = target != IGNORED
        logits = self.backbone.lm_head(hidden[:, :-1][kept])
        return F.cross_entropy(logits.float(), target[kept], reduction="sum"), kept.sum()

    def _map(self, head: MapHead, hidden: torch.Tensor, input_ids: torch.Tensor) -> torch.Tensor:
        """(N, G, G) in `MAP_UNIT`. An image stands last in its question: a row's last image tokens are its own."""
        is_image = input_ids == self.inputs.image_token_id
        from_the_right = is_image.flip(1).cumsum(1).flip(1)
        own = is_image & (from_the_right <= self.inputs.tokens_per_tile)
        return head(hidden[own].unflatten(0, (len(hidden), -1)))

    def _hidden(self, ids: torch.Tensor, mask: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
        """(N, L, width): the LLM's last hidden states, without `lm_head`."""
        return self.backbone.model(
            input_ids=ids, attention_mask=mask, pixel_values=pixels, use_cache=False
        ).last_hidden_state

    def _to_mos(self, normalised: torch.Tensor) -> torch.Tensor:
        return normalised.float() * self.settings.mos_std + self.settings.mos_mean


def _as_list(pictures: Any) -> tuple[bool, list[Any]]:
    """Whether several were given, and the list of them."""
    if isinstance(pictures, torch.Tensor):
        return (True, list(pictures)) if pictures.ndim == 4 else (False, [pictures])
    if isinstance(pictures, list | tuple):
        return True, list(pictures)
    return False, [pictures]


def _open(picture: Picture) -> Image.Image:
    if isinstance(picture, torch.Tensor):
        if picture.ndim != 3 or picture.shape[0] != 3:
            raise UserError(
                f"a tensor of shape {tuple(picture.shape)} is not an image: give (3, H, W) in 0..1"
            )
        picture = picture.detach().cpu().float().permute(1, 2, 0).numpy()
    return open_rgb(picture)
