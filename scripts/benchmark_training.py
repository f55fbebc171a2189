"""What a training step costs at full size, and how far half precision and 4 bits move a score. Prints JSON.

    python scripts/benchmark_training.py steps                  # InternVL2-8B's sizes, random weights, a GPU
    python scripts/benchmark_training.py precision
    python scripts/benchmark_training.py steps --model InternVL3-1B --batch_size 4

Nothing is downloaded: a checkpoint of the published sizes with random weights is written once (InternVL2-8B: 16 GB),
and loaded by the code that training uses. A step is forward, backward and AdamW on one batch, again and again.
"""

import gc
import json
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, Literal

import numpy as np
import torch
from jsonargparse import auto_cli
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForImageTextToText

from harmonyiqa import HarmonyIQA
from harmonyiqa.config import DataSettings, OptimSettings, StartSettings, TrainableSettings, TrainSettings
from harmonyiqa.errors import UserError
from harmonyiqa.model.architectures import known_architecture
from harmonyiqa.model.backbone import tokens_per_tile
from harmonyiqa.model.estimate import estimate
from harmonyiqa.model.inputs import IMAGE_TOKEN, Example
from harmonyiqa.model.lora import set_trainable
from harmonyiqa.model.probes import autocast, batch_difference
from harmonyiqa.model.storage import start
from harmonyiqa.model.tiny import make_tokenizer
from harmonyiqa.pipelines.score import pick_device
from harmonyiqa.prompts import load_prompt

Mode = Literal["nr", "fr"]
MOS_STD = 13.11  # HarmonyIQAD's, so that a random head's scores spread as a trained one's


def steps(
    model: str = "InternVL2-8B",
    folder: str = "work/random",
    batch_size: int = 1,
    max_tiles: int = 6,
    mode: Mode = "nr",
    repeats: int = 5,
) -> dict[str, Any]:
    """Stage 1 and 2, LoRA and QLoRA, with and without gradient checkpointing.

    Args:
        model: A published model's name, or the folder of a checkpoint.
        folder: Where random checkpoints are kept.
        batch_size: Images a step.
        max_tiles: Tiles an image; the images are as large as gives so many.
        mode: One image, or reference and image.
        repeats: Steps timed, after two more; the median counts.

    Returns:
        For each variant samples a second, peak memory beside what `harmonyiqa estimate` plans, and the share of the
        products of large bfloat16 matrices that this device manages.
    """
    device = pick_device(None)
    checkpoint = random_checkpoint(model, Path(folder), device)
    peak = matmul_flops(device)
    found = []
    for settings in _variants(checkpoint, batch_size, max_tiles, mode):
        planned = estimate(settings)
        measured = _freed(lambda: _measure(settings, device, repeats))  # noqa: B023  # called at once
        if "flops" in measured:
            measured["share_of_peak"] = measured.pop("flops") / measured["seconds_a_step"] / peak
        if "peak_bytes" in measured:
            # the estimate allows for what PyTorch does not count: the context, the libraries' workspace
            measured["estimated_bytes"] = planned.training_peak - planned.training["workspace"]
        found.append(
            {
                "stage": settings.stage,
                "quantize": settings.start.quantize,
                "gradient_checkpointing": settings.optim.gradient_checkpointing,
                **measured,
            }
        )
    return {
        "steps": found,
        "matmul_tflops": peak / 1e12,
        **_where(device, model, batch_size, max_tiles, mode),
    }


def precision(
    model: str = "InternVL2-8B", folder: str = "work/random", images: int = 4, max_tiles: int = 6
) -> dict[str, Any]:
    """The same images in float32, bfloat16 and on 4-bit weights: alone, in one batch, and padded by longer ones.

    Args:
        model: A published model's name, or the folder of a checkpoint.
        folder: Where random checkpoints are kept.
        images: How many.
        max_tiles: Tiles an image.

    Returns:
        The largest moves of a score in points of MOS: against float32, and against the image alone.
    """
    device = pick_device(None)
    checkpoint = random_checkpoint(model, Path(folder), device)
    kinds = {
        "float32": StartSettings(str(checkpoint), max_tiles=max_tiles),
        "bfloat16": StartSettings(str(checkpoint), max_tiles=max_tiles, dtype="bfloat16"),
        "nf4": StartSettings(str(checkpoint), max_tiles=max_tiles, dtype="bfloat16", quantize="nf4"),
    }
    scores: dict[str, torch.Tensor] = {}
    moves: dict[str, dict[str, float]] = {}
    for name, settings in kinds.items():
        scores[name], moves[name] = _freed(lambda: _scores(settings, device, images))  # noqa: B023  # at once
        moves[name]["against_float32"] = (scores[name] - scores["float32"]).abs().max().item()
    return {
        "moves": moves,
        "spread": scores["float32"].std().item(),
        **_where(device, model, images, max_tiles, "nr and fr"),
    }


def random_checkpoint(model: str, folder: Path, device: torch.device) -> Path:
    """A native checkpoint of a published model's sizes with random bfloat16 weights, written once.

    Args:
        model: the name; the folder of a checkpoint is given back as it is.
        folder: where such checkpoints are kept.
        device: draws the weights.

    Raises:
        UserError: the name's sizes are not known.
    """
    if Path(model).is_dir():
        return Path(model)
    known = known_architecture(model)
    if known is None:
        raise UserError(f"model {model!r}: no folder, and its sizes are not known by name")
    name, config = known
    made = folder / name
    if not (made / "tokenizer.json").exists():  # written last
        tokenizer = make_tokenizer(load_prompt("harmony_v1"))
        config.image_token_id = tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
        config.image_seq_length = tokens_per_tile(config)
        torch.manual_seed(0)
        with device:
            AutoModelForImageTextToText.from_config(config, dtype=torch.bfloat16).save_pretrained(made)
        tokenizer.save_pretrained(made)
    return made


def _variants(checkpoint: Path, batch_size: int, max_tiles: int, mode: Mode) -> Iterator[TrainSettings]:
    base = TrainSettings(
        1,
        "unused",
        DataSettings("unused", mode),
        StartSettings(str(checkpoint), max_tiles=max_tiles, dtype="bfloat16", attention="auto"),
        optim=OptimSettings(batch_size=batch_size),
    )
    for stage in (1, 2):
        for quantize in ("none", "nf4"):
            for recompute in (True, False):
                yield replace(
                    base,
                    stage=stage,
                    start=replace(base.start, quantize=quantize),
                    optim=replace(base.optim, gradient_checkpointing=recompute),
                )


def _model(settings: StartSettings, device: torch.device) -> HarmonyIQA:
    torch.manual_seed(0)  # adapters and head
    model = start(settings, TrainableSettings(), 2)
    return model if settings.quantize != "none" else model.to(device)


def _measure(settings: TrainSettings, device: torch.device, repeats: int) -> dict[str, Any]:
    """Seconds, bytes and operations of a step."""
    torch.manual_seed(0)
    model = start(settings.start, settings.trainable, 1 if settings.stage == 1 else 2)
    if settings.start.quantize == "none":
        model.to(device)
    set_trainable(model, settings.trainable, settings.stage)
    if settings.optim.gradient_checkpointing:
        model.backbone.gradient_checkpointing_enable({"use_reentrant": False})
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    collate = model.inputs.collate_sentences if settings.stage == 1 else model.inputs.collate_scores
    size = settings.optim.batch_size
    examples = _examples(model, size, settings.start.max_tiles, full=settings.data.mode == "fr")
    batch = {k: v.to(device) for k, v in collate(examples, [50.0] * size).items()}

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16):
            loss = model(**batch)["loss"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    try:
        step()  # makes the optimiser's state
        with FlopCounterMode(display=False) as counter:
            step()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        seconds = timed(step, device, repeats)
    except torch.OutOfMemoryError as error:
        return {"error": str(error).splitlines()[0]}
    found = {
        "samples_a_second": size / seconds,
        "seconds_a_step": seconds,
        "flops": counter.get_total_flops(),
    }
    return found | ({"peak_bytes": torch.cuda.max_memory_allocated()} if device.type == "cuda" else {})


@torch.inference_mode()
def _scores(
    settings: StartSettings, device: torch.device, images: int
) -> tuple[torch.Tensor, dict[str, float]]:
    """Scores of images alone, and how far company and padding move them."""
    model = _model(settings, device).eval()
    model.settings.mos_std = MOS_STD
    alike = _examples(model, images, settings.max_tiles, full=False)
    longer = _examples(model, images, settings.max_tiles, full=True)
    with autocast(model):
        alone = torch.cat([model.predict(model.collate([example])) for example in alike]).cpu()
    return alone, {
        "batch": batch_difference(model, alike),
        "padding": batch_difference(model, [*alike, longer[0]]),
    }


def _examples(model: HarmonyIQA, count: int, max_tiles: int, *, full: bool) -> list[Example]:
    """Images of noise that take all tiles: a row of them side by side."""
    side = model.settings.tile_size
    random = np.random.default_rng(0)
    pictures = [
        Image.fromarray(random.integers(0, 256, (side, side * max_tiles, 3), dtype=np.uint8))
        for _ in range(count)
    ]
    return [model.prepare(picture, picture if full else None) for picture in pictures]


def matmul_flops(device: torch.device, size: int = 8192) -> float:
    """Operations a second in products of large bfloat16 matrices: what the device could do."""
    size = size if device.type == "cuda" else 1024
    matrix = torch.randn(size, size, device=device, dtype=torch.bfloat16)
    return 2 * size**3 / timed(lambda: matrix @ matrix, device, 20)


def timed(run: Callable[[], Any], device: torch.device, repeats: int) -> float:
    """Median seconds, after one run to warm up."""
    times = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return median(times[1:])


def _freed(run: Callable[[], Any]) -> Any:
    """Run something, and leave the device's memory as it was."""
    try:
        return run()
    finally:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _where(device: torch.device, model: str, batch_size: int, max_tiles: int, mode: str) -> dict[str, Any]:
    name = torch.cuda.get_device_name() if device.type == "cuda" else platform.machine()
    packages = ("torch", "transformers", "peft", "bitsandbytes")
    return {
        "model": model,
        "batch_size": batch_size,
        "max_tiles": max_tiles,
        "mode": mode,
        "device": name,
        "versions": {package: version(package) for package in packages},
    }


if __name__ == "__main__":
    print(json.dumps(auto_cli([steps, precision]), indent=2))
