"""How many images a second does scoring manage? Prints JSON.

python scripts/benchmark_scoring.py                      # the bundled model, 512 px JPEGs, two threads
python scripts/benchmark_scoring.py --model FOLDER --images 64 --workers 1
"""

import json
import os
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import PIL
import torch
import transformers
from jsonargparse import auto_cli
from PIL import Image

import harmonyiqa
from harmonyiqa import HarmonyIQA
from harmonyiqa.images import open_rgb
from harmonyiqa.scoring.engine import predict
from harmonyiqa.scoring.items import items_from_paths


def benchmark(
    model: str | None = None,
    images: int = 192,
    size: int = 512,
    batch_size: int = 16,
    workers: int = 0,
    threads: int = 2,
    repeats: int = 3,
) -> dict[str, Any]:
    """Score a folder of made-up JPEGs on the CPU and time each part by itself.

    Args:
        model: A model folder or hub id; default: the bundled model.
        images: How many images.
        size: Their side in pixels.
        batch_size: Images a model call.
        workers: Processes that decode images; 0 decodes between the model calls.
        threads: CPU threads of the model.
        repeats: Runs, of which the median counts.

    Returns:
        Images per second from files to scores, milliseconds an image of each part, and what it ran on.
    """
    torch.set_num_threads(threads)
    scorer = HarmonyIQA.from_pretrained(model)
    with tempfile.TemporaryDirectory() as folder:
        _write_images(Path(folder), images, size)
        items = items_from_paths([folder])
        some = [item.image_path for item in items[:batch_size]]
        pictures = [open_rgb(path) for path in some]
        examples = [scorer.prepare(picture) for picture in pictures]
        batch = scorer.collate(examples)
        parts = {
            "decode": lambda: [open_rgb(path) for path in some],
            "prepare": lambda: [scorer.prepare(picture) for picture in pictures],
            "forward": lambda: scorer.predict(batch),
        }
        milliseconds = {
            f"{name}_ms": 1000 * _seconds(run, repeats) / len(some) for name, run in parts.items()
        }
        whole = _seconds(lambda: predict(scorer, items, batch_size=batch_size, workers=workers), repeats)
    return {
        "images_per_second": round(images / whole, 1),
        **{name: round(value, 2) for name, value in milliseconds.items()},
        "matmul_gflops": round(_matmul_gflops(repeats)),
        "peak_rss_mib": _peak_rss_mib(),
        "model": scorer.name,
        "parameters": sum(p.numel() for p in scorer.parameters()),
        "settings": {
            "images": images,
            "size": size,
            "batch_size": batch_size,
            "workers": workers,
            "threads": threads,
        },
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {
            "harmonyiqa": harmonyiqa.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "pillow": PIL.__version__,
        },
    }


def _write_images(folder: Path, count: int, size: int) -> None:
    """Smooth colour with a little grain: about the bytes a pixel of a photo."""
    random = np.random.default_rng(0)
    for index in range(count):
        coarse = Image.fromarray(random.integers(0, 256, (size // 16, size // 16, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC), dtype=np.float32)
        grain = random.normal(0, 4, (size, size, 1))
        image = Image.fromarray(np.clip(smooth + grain, 0, 255).astype(np.uint8))
        image.save(folder / f"{index:05}.jpg", quality=92)


def _seconds(run: Callable[[], Any], repeats: int) -> float:
    """Median wall time, after one run to warm up."""
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return median(times)


def _matmul_gflops(repeats: int, size: int = 1024) -> float:
    """What the machine could do: float32 matrix products."""
    matrix = torch.randn(size, size)
    return 2 * size**3 / _seconds(lambda: matrix @ matrix, 10 * repeats) / 1e9


def _peak_rss_mib() -> int:
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit // 2**20


if __name__ == "__main__":
    print(json.dumps(auto_cli(benchmark), indent=2))
