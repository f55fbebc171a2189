"""The model call: scores of prepared examples, with nothing computed that is not read and nothing computed twice.

- The language model has no `lm_head`, and its last layer goes on with the score slot alone.
- The text before the first image is computed once a model; an example's own part follows its keys and values.
- A reference is computed once, with the text up to the image, for all images that are compared with it. The prompt has
  the reference first, so that nothing in front of an image depends on it; positions are those of the whole question.
- Vision features of an image that comes again are kept, within bounds.

Scores equal `HarmonyIQA.predict` on each example by itself but for rounding. By default a call's scores are a function
of its examples, to the last bit: what is kept from one call to the next was computed alone, never in a batch whose size
would show.
"""

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from cachetools import LRUCache

from harmonyiqa.model.inputs import Example
from harmonyiqa.model.prefix import KeysAndValues, begin, can_reuse, finish, slot_only

if TYPE_CHECKING:
    from harmonyiqa import HarmonyIQA

DEFAULT_REFERENCE_BYTES = 512 * 2**20


class Forward:
    """Scores examples with a model whose weights stay as they are.

    Args:
        model: on its device; it needs a score head.
        reuse: share what examples have in common; False computes every question from its first token.
        reference_bytes: memory on the device for keys and values of references that stood in a call by themselves.
        image_bytes: memory for vision features of images. 0: an image is looked at once a call. Above that a score may
            differ in its last bits by what was scored before.
    """

    def __init__(
        self,
        model: "HarmonyIQA",
        *,
        reuse: bool = True,
        reference_bytes: int = DEFAULT_REFERENCE_BYTES,
        image_bytes: int = 0,
    ) -> None:
        self._model = model
        self._internvl: Any = model.backbone.model
        self._language_model = slot_only(self._internvl.language_model)
        self._reuse = reuse
        self._reference_bytes = reference_bytes
        self._image_bytes = image_bytes
        self.clear()

    def clear(self) -> None:
        """Forget everything that is kept: after a change of weights, or to give memory back."""
        self._static: dict[tuple[int, ...], KeysAndValues] = {}  # one a mode
        self._features: LRUCache[Hashable, torch.Tensor] = LRUCache(self._image_bytes, _bytes)
        self._begun: LRUCache[Hashable, KeysAndValues] = LRUCache(self._reference_bytes, _bytes)

    @torch.inference_mode()
    def score(
        self,
        examples: Sequence[Example],
        references: Sequence[Hashable | None] | None = None,
        images: Sequence[Hashable | None] | None = None,
    ) -> torch.Tensor:
        """Scores of examples: (N,) float32 on the MOS scale, on the model's device.

        Examples of one mode and of equal tile counts share a call of the model, so nothing is padded; others may stand
        among them.

        Args:
            examples: of the model's own `Inputs`.
            references: what each reference is known by, such as its path: those with equal names have equal pixels.
                None: it is not shared.
            images: likewise for the images themselves.

        Raises:
            UserError: the model has no score head.
        """
        alike: dict[Hashable, list[int]] = {}
        for index, example in enumerate(examples):
            alike.setdefault((example.reference_tiles, tuple(example.question)), []).append(index)
        scores = torch.empty(len(examples), device=self._model.device)
        for indexes in alike.values():
            state = self._slot_states(
                [examples[i] for i in indexes],
                _names(references, indexes),
                _names(images, indexes),
            )
            scores[indexes] = self._model.read_scores(state)
        return scores

    def _slot_states(
        self, examples: list[Example], references: list[Hashable], images: list[Hashable]
    ) -> torch.Tensor:
        """(N, width) of examples that differ in pixels only."""
        inputs = self._model.inputs
        ids = [*examples[0].question, *inputs.answer]
        places = [place for place, token in enumerate(ids) if token == inputs.image_token_id]
        split = examples[0].reference_tiles
        if not (self._reuse and can_reuse(self._internvl.config.text_config, len(ids))):
            features = self._look([e.pixel_values for e in examples])
            return finish(self._language_model, self._embed(ids, features))
        first, own = places[0], places[split * inputs.tokens_per_tile]
        before, rows = self._begin_static(ids[:first]), None
        if split:
            known = dict(zip(references, (e.pixel_values[:split] for e in examples), strict=True))
            before = self._begin_references(before, ids[first:own], known)
            order = {name: row for row, name in enumerate(known)}
            rows = [order[name] for name in references] if len(order) > 1 else None
        features = self._see([e.pixel_values[split:] for e in examples], images)
        return finish(self._language_model, self._embed(ids[own:], features), before, rows)

    def _begin_static(self, ids: list[int]) -> KeysAndValues:
        key = tuple(ids)
        if key not in self._static:
            self._static[key] = begin(self._language_model, self._embed(ids))
        return self._static[key]

    def _begin_references(
        self, before: KeysAndValues, ids: list[int], tiles: dict[Hashable, torch.Tensor]
    ) -> KeysAndValues:
        """Keys and values of the static text, each reference and the text up to the image: one row a reference."""
        key = (next(iter(tiles)), len(ids))
        if len(tiles) == 1 and key in self._begun:
            return self._begun[key]
        begun = begin(self._language_model, self._embed(ids, self._look(list(tiles.values()))), before)
        if len(tiles) == 1 and not isinstance(key[0], _Nameless) and _bytes(begun) <= self._reference_bytes:
            self._begun[key] = begun
        return begun

    def _see(self, tiles: list[torch.Tensor], names: list[Hashable]) -> torch.Tensor:
        """Image tokens of each picture as the language model takes them, (N, tokens, width); equal names once."""
        seen = {name: self._features[name] for name in names if name in self._features}
        new = {name: part for name, part in zip(names, tiles, strict=True) if name not in seen}
        if new:
            for name, features in zip(new, self._look(list(new.values())), strict=True):
                seen[name] = features
                if not isinstance(name, _Nameless) and features.nbytes <= self._image_bytes:
                    self._features[name] = features.clone()  # a view would keep its whole batch alive
        return torch.stack([seen[name] for name in names])

    def _look(self, tiles: list[torch.Tensor]) -> torch.Tensor:
        """Image tokens (N, tokens, width) of pictures of equal tile counts."""
        # joined on the device: what `cat` makes of pinned memory is not pinned
        pixels = torch.cat([part.to(self._model.device, non_blocking=True) for part in tiles])
        features = self._internvl.get_image_features(pixels, return_dict=True).pooler_output
        return features.reshape(len(tiles), -1, features.shape[-1])

    def _embed(self, ids: list[int], features: torch.Tensor | None = None) -> torch.Tensor:
        """Token embeddings (N, L, width), features (N, tokens, width) in the place of image tokens."""
        device = self._model.device
        embedded = self._internvl.get_input_embeddings()(torch.tensor([ids], device=device))
        if features is None:
            return embedded
        places = [place for place, token in enumerate(ids) if token == self._model.inputs.image_token_id]
        embedded = embedded.repeat(len(features), 1, 1)
        embedded[:, places] = features.to(embedded.dtype)
        return embedded


class _Nameless:
    """The name of what cannot come again."""


def _names(names: Sequence[Hashable | None] | None, indexes: list[int]) -> list[Hashable]:
    given = [None] * len(indexes) if names is None else [names[i] for i in indexes]
    return [_Nameless() if name is None else name for name in given]


def _bytes(kept: torch.Tensor | KeysAndValues) -> int:
    if isinstance(kept, torch.Tensor):
        return kept.nbytes
    return sum(keys.nbytes + values.nbytes for keys, values in kept)
