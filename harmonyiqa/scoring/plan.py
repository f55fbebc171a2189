"""Which images share a call of the model: those of equal tile counts, side by side by reference, up to so many tokens.

A plan is made for one window of the input, from file headers, and depends on nothing else: the same window and budget
give the same calls, whoever asks and however often. A header that misleads costs speed, never a score.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from PIL import Image

from harmonyiqa.errors import UserError
from harmonyiqa.images import DEFAULT_MAX_PIXELS
from harmonyiqa.model.inputs import Example, Inputs
from harmonyiqa.scoring.locations import Location, size_of

if TYPE_CHECKING:
    from harmonyiqa import HarmonyIQA
    from harmonyiqa.scoring.forward import Forward

CPU_TOKENS = 2048  # fourteen images of the bundled model
MOST_TOKENS = 32768
_MEMORY_SHARE = 0.6  # of what is free: references' keys and values, and the allocator's gaps, come on top
Row = TypeVar("Row")
Result = TypeVar("Result")
Outcome = float | str  # a score, or why there is none


@dataclass(frozen=True, slots=True)
class Shape:
    """What an image costs.

    Attributes:
        tiles: of the image.
        reference_tiles: of its reference; 0 without one.
        reference: what the reference is known by, or None.
    """

    tiles: int
    reference_tiles: int = 0
    reference: Hashable | None = None


def shapes(
    inputs: Inputs,
    pairs: Sequence[tuple[Location, Location | None]],
    *,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> list[Shape]:
    """Shapes of images and their references, from the headers of their files.

    One that cannot be read counts as one tile: whoever decodes it will say what is wrong.

    Args:
        inputs: the model's.
        pairs: image and reference, or None; references are known by where they lie.
        max_pixels: the most pixels that will be decoded.
    """
    counted: dict[Location, int] = {}

    def tiles(location: Location) -> int:
        if location not in counted:
            try:
                size = (1, 1) if inputs.most_tiles == 1 else size_of(location, max_pixels=max_pixels)
            except UserError:
                size = 1, 1
            counted[location] = inputs.count_tiles(*size)
        return counted[location]

    return [
        Shape(tiles(image)) if reference is None else Shape(tiles(image), tiles(reference), reference)
        for image, reference in pairs
    ]


def shape_of(example: Example, reference: Hashable | None = None) -> Shape:
    """The shape of an image that is prepared already, its reference known by this name."""
    return Shape(len(example.pixel_values) - example.reference_tiles, example.reference_tiles, reference)


def tokens(inputs: Inputs, call: Sequence[Shape]) -> int:
    """Tokens of a call: each image's own, and those of each reference once."""
    own = sum(
        inputs.text_tokens("fr" if shape.reference_tiles else "nr") + shape.tiles * inputs.tokens_per_tile
        for shape in call
    )
    known = {shape.reference: shape.reference_tiles for shape in call if shape.reference is not None}
    nameless = sum(shape.reference_tiles for shape in call if shape.reference is None)
    return own + (sum(known.values()) + nameless) * inputs.tokens_per_tile


def plan(inputs: Inputs, window: Sequence[Shape], budget: int) -> list[list[int]]:
    """Cut a window into calls.

    Args:
        inputs: the model's.
        window: a bounded stretch of what is to be scored.
        budget: tokens a call; a single image may exceed it.

    Returns:
        Indexes of the window, each once. Within a call all have equal tile counts; a reference's images stand together
        and in one call, unless they alone exceed the budget.
    """
    alike: dict[tuple[int, int], dict[Hashable, list[int]]] = {}
    for index, shape in enumerate(window):
        name = index if shape.reference is None else (shape.reference,)  # an index stands for itself
        alike.setdefault((shape.tiles, shape.reference_tiles), {}).setdefault(name, []).append(index)
    calls = []
    for by_reference in alike.values():
        call: list[int] = []
        spent = 0
        for together in by_reference.values():
            cost = tokens(inputs, [window[i] for i in together])
            if call and spent + cost > budget:
                calls.append(call)
                call, spent = [], 0
            if cost <= budget:
                call, spent = call + together, spent + cost
                continue
            shared = window[together[0]].reference_tiles * inputs.tokens_per_tile
            own = (cost - shared) // len(together)
            size = max(1, (budget - shared) // own)
            calls += [together[start : start + size] for start in range(0, len(together), size)]
        if call:
            calls.append(call)
    return calls


class TokenBudget:
    """Tokens a call; halved where memory does not suffice.

    Args:
        tokens: to begin with.
        release: gives back memory that is held in reserve, before a call is tried again.
    """

    def __init__(self, tokens: int, release: Callable[[], None] = lambda: None) -> None:
        self.tokens = tokens
        self._release = release

    def run(
        self, rows: Sequence[Row], cost: int, score: Callable[[Sequence[Row]], Sequence[Result]]
    ) -> list[Result | str]:
        """Score the rows of a call in one piece, or in several if they do not fit.

        Args:
            rows: what `score` takes.
            cost: their tokens.
            score: results of rows, such as outcomes; it may run out of memory.

        Returns:
            As many results as rows, in their order; an error only for a row that does not fit by itself.
        """
        if len(rows) == 1 or cost <= self.tokens:
            try:
                return list(score(rows))
            except (RuntimeError, MemoryError) as error:
                if not _out_of_memory(error):
                    raise
                what = str(error).strip().splitlines()[0] if str(error).strip() else "MemoryError"
            # not inside `except`, where the traceback would hold on to the tensors of the failed call
            self._release()
            clear_device_cache()
            if len(rows) == 1:
                return [f"not enough memory for this image alone ({cost:,} tokens): {what}"]
            self.tokens = max(1, min(self.tokens, cost) // 2)
        middle = len(rows) // 2
        first = cost * middle // len(rows)
        return self.run(rows[:middle], first, score) + self.run(rows[middle:], cost - first, score)


def find_budget(forward: "Forward", model: "HarmonyIQA") -> int:
    """Tokens a call that suit a device: a constant on a CPU, else what fits into free memory, `MOST_TOKENS` at most.

    A power of two, so that runs on one kind of device agree.

    Args:
        forward: what will score; it is run on two small calls, and forgets them.
        model: its model.
    """
    if model.device.type == "cpu":
        return CPU_TOKENS
    memory = torch.get_device_module(model.device)
    side = model.inputs.image_processor.size["height"]
    example = model.prepare(Image.new("RGB", (side, side)))
    length = len(example.question) + len(model.inputs.answer)
    peaks = []
    for rows in (1, 2, 8):  # the first fills what stays: the text's keys, the libraries' workspaces
        memory.reset_peak_memory_stats(model.device)
        before = memory.memory_allocated(model.device)
        forward.score([example] * rows).tolist()
        peaks.append(memory.max_memory_allocated(model.device) - before)
    forward.clear()
    clear_device_cache()
    free, _ = memory.mem_get_info(model.device)
    return fitting_tokens((peaks[2] - peaks[1]) / (6 * length), free)


def fitting_tokens(bytes_per_token: float, free: int) -> int:
    """The largest power of two whose tokens fit into the share of `free` bytes that a call may take."""
    most = min(MOST_TOKENS, int(_MEMORY_SHARE * free / max(bytes_per_token, 1)))
    return 1 << max(0, most.bit_length() - 1)


def _out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or should_reduce_batch_size(error)
