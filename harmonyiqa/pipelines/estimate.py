"""``harmonyiqa estimate``: will a run fit, and what takes the memory?"""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from harmonyiqa.config import TrainSettings
from harmonyiqa.errors import UserError

if TYPE_CHECKING:
    from harmonyiqa.model.estimate import Estimate

GPUS = (16, 24, 40, 48, 80)  # GB, as they are sold


def estimate(settings: TrainSettings, gpu: float | None = None, out_json: str | None = None) -> None:
    """Parameters, tokens an image and peak memory by part of a training run, without loading a weight.

    Args:
        settings: The run.
        gpu: Memory of the GPU in GB (10^9 bytes). Default: the usual sizes.
        out_json: Write every number here too.

    Raises:
        UserError: if `gpu` is not positive, or the start model's sizes are not to be had.
    """
    if gpu is not None and gpu <= 0:
        raise UserError(f"gpu {gpu} must be positive: its memory in GB")
    from harmonyiqa.files import atomic_path
    from harmonyiqa.model.estimate import estimate as plan

    found = plan(settings)
    if out_json is not None:
        with atomic_path(out_json) as part:
            part.write_text(json.dumps(asdict(found), indent=2) + "\n", encoding="utf-8")
    print(_text(found, settings, (gpu,) if gpu else GPUS))


def _text(found: "Estimate", settings: TrainSettings, gpus: tuple[float, ...]) -> str:
    lines = [
        f"{found.architecture}, stage {settings.stage}",
        f"parameters            {found.parameters:>15,}",
        f"  that learn          {found.trainable:>15,}",
        f"tokens an image       {found.image_tokens:>15,}  (at most, {settings.start.max_tiles} tiles"
        f"{' and thumbnail' if settings.start.max_tiles > 1 else ''})",
        f"tokens a question     {found.question_tokens:>15,}  (at most, text allowed for)",
    ]
    for title, parts, peak in (
        (f"training, batches of {settings.optim.batch_size}", found.training, found.training_peak),
        ("scoring, one image", found.scoring, found.scoring_peak),
    ):
        lines += ["", f"{title:<32}{'GB':>8}"]
        lines += [f"  {name:<30}{size / 1e9:>8.3f}" for name, size in parts.items()]
        lines += [f"  {'peak':<30}{peak / 1e9:>8.3f}"]
        fits = [f"{size:g} GB {'yes' if peak <= size * 1e9 else 'NO'}" for size in gpus]
        lines += [f"  fits on one GPU of            {', '.join(fits)}"]
    return "\n".join(lines)
