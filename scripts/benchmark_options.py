"""What would make the bundled model faster on a CPU, and what does it do to the scores? Prints JSON.

python scripts/benchmark_options.py                                  # every option
python scripts/benchmark_options.py --options bfloat16,int8 --clock cpu

Each takes turns with what is shipped, in float32, in every round; a ratio above 1 is a gain.
docs/performance.md has the figures, and why what gains here is not shipped all the same.
"""

import json
import platform
import time
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Literal

import torch
from jsonargparse import auto_cli
from torch import nn

from harmonyiqa import HarmonyIQA
from harmonyiqa.images import find_images, open_rgb
from harmonyiqa.scoring.forward import Forward


def _bfloat16(model: HarmonyIQA) -> Forward:
    model.backbone.to(torch.bfloat16)  # the head stays float32
    return Forward(model)


def _compile(model: HarmonyIQA, dynamic: bool | None = None) -> Forward:
    """For calls of any number of images; with dynamic=False for each number anew, with True it fails in the stem."""
    forward = Forward(model)
    layers: Any = forward._language_model.layers
    for part in (forward._internvl.vision_tower, *layers):
        part.compile(dynamic=dynamic)
    return forward


def _int8(model: HarmonyIQA) -> Forward:
    torch.ao.quantization.quantize_dynamic(model.backbone, {nn.Linear}, torch.qint8, inplace=True)
    return Forward(model)


def _channels_last(model: HarmonyIQA) -> Forward:
    """The stem's weights laid out as a CPU's convolutions read them; a checkpoint cannot be written from these."""
    model.backbone.model.vision_tower.embeddings.stem.to(memory_format=torch.channels_last)
    return Forward(model)


OPTIONS: dict[str, Callable[[HarmonyIQA], Forward]] = {
    "bfloat16": _bfloat16,
    "int8": _int8,
    "channels_last": _channels_last,
    "compile": _compile,
    "compile_each_size": partial(_compile, dynamic=False),
}


def benchmark(
    model: str | None = None,
    images: str = "examples/images",
    options: str = ",".join(OPTIONS),
    threads: int = 2,
    repeats: int = 5,
    clock: Literal["wall", "cpu"] = "wall",
) -> dict[str, Any]:
    """Score images as shipped and with each option.

    Args:
        model: A model folder or hub id; default: the bundled model.
        images: A folder of images; they are one model call.
        options: Which to try, by comma.
        threads: CPU threads.
        repeats: Rounds, of which the median counts.
        clock: "wall", or "cpu" for processor time.

    Returns:
        Of each option: how many times as fast as what is shipped, how far scores move, seconds to get ready.
    """
    torch.set_num_threads(threads)
    now = time.perf_counter if clock == "wall" else time.process_time
    plain = HarmonyIQA.from_pretrained(model)
    paths = find_images([images])
    examples = [plain.prepare(open_rgb(path)) for path in paths]
    forward = Forward(plain)
    expected = forward.score(examples)
    found = {}
    for name in options.split(","):
        start = now()
        other = OPTIONS[name](deepcopy(plain))
        other.score(examples[1:])  # calls of a run differ in size
        scores = other.score(examples)
        ready = now() - start
        ratios = []
        for _ in range(repeats):
            seconds = []
            for way in (forward, other):
                start = now()
                way.score(examples)
                seconds.append(now() - start)
            ratios.append(seconds[0] / seconds[1])
        change = (scores - expected).abs()
        found[name] = {
            "times_as_fast": round(median(ratios), 2),
            "largest_change_of_a_score": float(f"{change.max():.2g}"),
            "mean_change_of_a_score": float(f"{change.mean():.2g}"),
            "seconds_to_get_ready": round(ready, 1),
        }
    return {
        "options": found,
        "model": plain.name,
        "images": len(paths),
        "folder": Path(images).name,
        "threads": threads,
        "clock": clock,
        "machine": platform.machine(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
    }


if __name__ == "__main__":
    print(json.dumps(auto_cli(benchmark), indent=2))
