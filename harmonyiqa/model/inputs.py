"""From pictures to what the model reads: tiles and token ids, one example at a time, then a batch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers import GotOcr2ImageProcessorPil, PreTrainedTokenizerBase
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import get_optimal_tiled_canvas

from harmonyiqa.errors import UserError
from harmonyiqa.prompts import IMAGE, IMAGES_IN, Prompt

IMAGE_TOKEN = "<IMG_CONTEXT>"
IGNORED = -100  # label of a position that carries no loss
_MODES: tuple[Literal["nr", "fr"], ...] = ("nr", "fr")


@dataclass(frozen=True)
class Example:
    """One question, ready to be batched.

    Attributes:
        mode: "nr" (one image) or "fr" (reference, then image).
        question: token ids up to the answer, image tokens expanded.
        pixel_values: tiles, (T, 3, S, S) float32, the reference's before the image's.
        reference_tiles: how many of them are the reference's; 0 without one.
    """

    mode: Literal["nr", "fr"]
    question: list[int]
    pixel_values: torch.Tensor
    reference_tiles: int = 0


@dataclass(frozen=True)
class Batch:
    """Examples padded on the left, so that the score slot of every row is the last column.

    Attributes:
        input_ids: (N, L) int64, question and answer up to the score.
        attention_mask: (N, L) int64, 0 on padding.
        pixel_values: all rows' tiles in order, (sum of T, 3, S, S) float32.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    pixel_values: torch.Tensor

    def to(self, device: torch.device | str) -> Self:
        """The same batch on another device."""
        return replace(
            self,
            input_ids=self.input_ids.to(device, non_blocking=True),
            attention_mask=self.attention_mask.to(device, non_blocking=True),
            pixel_values=self.pixel_values.to(device, non_blocking=True),
        )


class Inputs:
    """Builds examples and batches. Holds no weights, so that worker processes can have a copy.

    Args:
        tokenizer: the language model's.
        image_processor: cuts an image into tiles and normalises them.
        prompt: the text around the images.
        tokens_per_tile: image tokens that one tile becomes after pixel shuffle.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        image_processor: GotOcr2ImageProcessorPil,
        prompt: Prompt,
        tokens_per_tile: int,
    ) -> None:
        self.tokenizer = tokenizer
        self.image_processor = image_processor
        self.prompt = prompt
        self.tokens_per_tile = tokens_per_tile
        self.image_token_id: int = tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
        self.end_id: int = tokenizer.convert_tokens_to_ids(prompt.end)
        unknown = tokenizer.unk_token_id
        for token, id_ in ((IMAGE_TOKEN, self.image_token_id), (prompt.end, self.end_id)):
            if id_ is None or id_ == unknown:
                raise UserError(
                    f"the tokenizer has no token {token!r}: it is not an InternVL tokenizer for this prompt"
                )
        grey = np.broadcast_to(np.arange(256, dtype=np.uint8), (3, 1, 256))
        scaled = image_processor.rescale(grey, image_processor.rescale_factor)
        self._levels: NDArray[np.float32] = image_processor.normalize(
            scaled, image_processor.image_mean, image_processor.image_std
        ).reshape(3, 256)
        self._questions = {mode: self._tokenise_question(mode) for mode in _MODES}
        self.answer: list[int] = self._tokenise_answer()

    def _tokenise_question(self, mode: Literal["nr", "fr"]) -> list[int]:
        # one image token an image here; prepare() repeats it. The tokenizer adds BOS if its model wants one.
        text = self.prompt.question(mode).replace(IMAGE, f"<img>{IMAGE_TOKEN}</img>")
        return self.tokenizer(text).input_ids

    def _tokenise_answer(self) -> list[int]:
        text = self.prompt.question("nr").replace(IMAGE, f"<img>{IMAGE_TOKEN}</img>")
        whole: list[int] = self.tokenizer(text + self.prompt.answer).input_ids
        question = self._questions["nr"]
        if whole[: len(question)] != question:
            raise UserError(f"prompt {self.prompt.name}: this tokenizer merges the question with the answer")
        return whole[len(question) :]

    def prepare(self, image: Image.Image, reference: Image.Image | None = None) -> Example:
        """Cut into tiles, normalise, and write the question.

        Args:
            image: mode RGB.
            reference: mode RGB; with it the question is the full-reference one.
        """
        return self.ask(self.cut(image), None if reference is None else self.cut(reference))

    def cut(self, picture: Image.Image) -> torch.Tensor:
        """Tiles of an RGB picture, normalised: (T, 3, S, S) float32.

        Bit-equal to the image processor, which converts every picture several times on the way: this resizes and then
        looks each of the 256 levels up.
        """
        processor = self.image_processor
        side = processor.size["height"]
        columns, rows = self._grid(*picture.size)
        whole = picture.resize((columns * side, rows * side), processor.resample)
        boxes = [
            (x, y, x + side, y + side)
            for y in range(0, rows * side, side)
            for x in range(0, columns * side, side)
        ]
        tiles = [np.asarray(whole.crop(box)) for box in boxes]
        if len(tiles) > 1:
            tiles.append(np.asarray(picture.resize((side, side), processor.resample)))
        cut = np.empty((len(tiles), 3, side, side), np.float32)
        for channel, levels in enumerate(self._levels):
            for index, tile in enumerate(tiles):
                np.take(levels, tile[..., channel], out=cut[index, channel], mode="clip")  # else buffered
        return torch.from_numpy(cut)

    @property
    def most_tiles(self) -> int:
        """Tiles of an image at most, the thumbnail not counted."""
        return self.image_processor.max_patches if self.image_processor.crop_to_patches else 1

    def _grid(self, width: int, height: int) -> tuple[int, int]:
        """Columns and rows of tiles; a thumbnail is added where there is more than one."""
        if self.most_tiles == 1:
            return 1, 1
        processor = self.image_processor
        side = processor.size["height"]
        return get_optimal_tiled_canvas(
            (height, width), (side, side), processor.min_patches, processor.max_patches
        )

    def count_tiles(self, width: int, height: int) -> int:
        """How many tiles `cut` makes of a picture of this size in pixels."""
        columns, rows = self._grid(width, height)
        return columns * rows + (columns * rows > 1)

    def ask(self, tiles: torch.Tensor, reference_tiles: torch.Tensor | None = None) -> Example:
        """Write the question about an image that is cut already, as is its reference if it has one."""
        parts = [tiles] if reference_tiles is None else [reference_tiles, tiles]
        mode: Literal["nr", "fr"] = "nr" if reference_tiles is None else "fr"
        counts = iter([len(part) * self.tokens_per_tile for part in parts])
        question: list[int] = []
        for token in self._questions[mode]:
            question += [token] * next(counts) if token == self.image_token_id else [token]
        return Example(mode, question, torch.cat(parts), sum(map(len, parts[:-1])))

    def text_tokens(self, mode: Literal["nr", "fr"]) -> int:
        """Tokens of a question up to the score, those of images left out."""
        return len(self._questions[mode]) - IMAGES_IN[mode] + len(self.answer)

    def collate(self, examples: Sequence[Example]) -> Batch:
        """Pad to one length on the left. Modes may be mixed, at the price of padding."""
        ids, mask = self._pad([e.question + self.answer for e in examples])
        return Batch(ids, mask, torch.cat([e.pixel_values for e in examples]))

    def collate_sentences(self, examples: Sequence[Example], mos: Sequence[float]) -> dict[str, torch.Tensor]:
        """A stage-1 training batch: question, answer and score; labels (N, L) on the answer's tokens only."""
        rows, labels = [], []
        for example, score in zip(examples, mos, strict=True):
            score_ids = self.tokenizer(self.prompt.score_text(score), add_special_tokens=False).input_ids
            answer = [*self.answer, *score_ids, self.end_id]
            rows.append(example.question + answer)
            labels.append([IGNORED] * len(example.question) + answer)
        ids, mask = self._pad(rows)
        padded, _ = self._pad(labels, value=IGNORED)
        pixels = torch.cat([e.pixel_values for e in examples])
        return {"input_ids": ids, "attention_mask": mask, "pixel_values": pixels, "labels": padded}

    def collate_scores(self, examples: Sequence[Example], mos: Sequence[float]) -> dict[str, torch.Tensor]:
        """A stage-2 training batch: labels (N,) are the MOS in float32 (bf16 would turn 63.40 into 63.5)."""
        batch = self.collate(examples)
        return {**vars(batch), "labels": torch.tensor(mos, dtype=torch.float32)}

    def _pad(self, rows: list[list[int]], value: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        width = max(map(len, rows))
        # padding is masked, so any id will do where the tokenizer names none
        filler = value if value is not None else (self.tokenizer.pad_token_id or 0)
        ids = torch.tensor([[filler] * (width - len(r)) + r for r in rows])
        mask = torch.tensor([[0] * (width - len(r)) + [1] * len(r) for r in rows])
        return ids, mask
