"""Probes that every trained model should pass: each is a line, passed or failed, with its figure and its rule.

They catch what users of such models report: one same score for every image, adapters that are all zero, scores that do
not follow the colour of the foreground. A probe takes figures or a `score_fn`, never a model.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image

ScoreFn = Callable[[Sequence[Image.Image]], Sequence[float]]  # NaN where an image got no score
LEVELS = (0, 1, 2, 3, 4)
LEAST_SPREAD = 0.1  # of the labels' standard deviation
FLOAT32_BOUND, HALF_BOUND = 1e-3, 1.0  # MOS
_GAIN = 0.15  # of red up and blue down, a level of the colour shift


@dataclass(frozen=True)
class Probe:
    """One line.

    Attributes:
        name: what was asked.
        passed: None where it does not apply.
        figure: what was found.
        rule: what it should be.
    """

    name: str
    passed: bool | None
    figure: str
    rule: str

    def line(self) -> str:
        """`PASS  name: figure (rule)`."""
        word = {True: "PASS", False: "FAIL", None: "n/a "}[self.passed]
        return f"{word}  {self.name}: {self.figure} ({self.rule})"


def adapters(idle: int, total: int) -> Probe:
    """LoRA's B begins at zero: one that is still zero was never trained."""
    rule = "no B is all zero"
    if total == 0:
        return Probe("adapters", None, "the model has none", rule)
    return Probe("adapters", idle == 0, f"{idle} of {total} add nothing", rule)


def gradient(silent: Sequence[str], total: int) -> Probe:
    """Every trainable tensor has to be reached."""
    first = f", first {silent[0]}" if silent else ""
    figure = f"{len(silent)} of {total} trainable tensors get none{first}"
    return Probe("gradient", not silent, figure, "every trainable tensor gets some")


def plain_images(score: ScoreFn, photos: Sequence[Image.Image]) -> Probe:
    """Black, white and noise are told apart, and from photos."""
    size = photos[0].size
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    plain = [Image.new("RGB", size, "black"), Image.new("RGB", size, "white"), Image.fromarray(noise)]
    found = [*score(plain), float(np.mean(score(photos)))]
    names = ("black", "white", "noise", "photos")
    figure = ", ".join(f"{name} {value:.2f}" for name, value in zip(names, found, strict=True))
    apart = min(abs(a - b) for i, a in enumerate(found) for b in found[:i])
    passed = bool(all(map(math.isfinite, found)) and apart >= 0.01)
    return Probe("black, white, noise, photos", passed, figure, "all differ by 0.01 or more")


def spread(scores: Sequence[float], mos: Sequence[float]) -> Probe:
    """One same score for every image has no spread."""
    found, wanted = float(np.std(scores)), float(np.std(mos))
    figure = f"standard deviation {found:.2f} of {len(scores)} predictions, {wanted:.2f} of their labels"
    rule = f"at least {LEAST_SPREAD:g} of the labels'"
    return Probe("spread", bool(found >= LEAST_SPREAD * wanted > 0), figure, rule)


def colour_shift(
    score: ScoreFn, photos: Sequence[Image.Image], masks: Sequence[NDArray[np.float32] | None]
) -> Probe:
    """The score of a photo falls, on average, as its foreground is shifted further in colour.

    Args:
        score: scores images in the order of `photos`.
        photos: untouched photos.
        masks: (H, W) in 0..1 of the size of its photo, the foreground; None takes a disc in the middle.
    """
    means = [
        float(np.mean(score([shifted(p, m, level) for p, m in zip(photos, masks, strict=True)])))
        for level in LEVELS
    ]
    passed = all(later < earlier for earlier, later in pairwise(means))
    figure = (
        f"{' > '.join(f'{mean:.2f}' for mean in means) if passed else ', '.join(f'{m:.2f}' for m in means)}"
    )
    return Probe("colour shift", passed, f"{figure}, mean of {len(photos)} photos", "falls with every level")


def shifted(photo: Image.Image, mask: NDArray[np.float32] | None, level: int) -> Image.Image:
    """A photo whose foreground is warmer: red up and blue down by 15% a level."""
    pixels = np.asarray(photo, dtype=np.float32)
    if mask is None:
        height, width = pixels.shape[:2]
        y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
        mask = (x**2 + y**2 < 0.25).astype(np.float32)
    gains = np.array([1 + _GAIN * level, 1, 1 - _GAIN * level], dtype=np.float32)
    mixed = pixels * (1 - mask[..., None]) + pixels * gains * mask[..., None]
    return Image.fromarray(np.clip(np.round(mixed), 0, 255).astype(np.uint8))


def merging(difference: float | None, *, half: bool) -> Probe:
    """Adapters beside the weights or added to them: the same scores."""
    return _bounded("merged adapters", difference, half)


def batching(difference: float | None, *, half: bool) -> Probe:
    """Batch size and padding do not move a score."""
    return _bounded("batch and padding", difference, half)


def _bounded(name: str, difference: float | None, half: bool) -> Probe:
    bound = HALF_BOUND if half else FLOAT32_BOUND
    rule = f"at most {bound:g} in {'half' if half else 'float32'} precision"
    if difference is None:
        return Probe(name, None, "does not apply to this model", rule)
    return Probe(name, difference <= bound, f"a score moves by {difference:.2g} MOS at most", rule)
