"""How fast is the lookup at full size, and how much memory does it take? Prints JSON.

    python scripts/benchmark_lookup.py                            # 2048 and 4096 pixels a side, two threads
    python scripts/benchmark_lookup.py --sizes '[1024]' --network true

`reference` is `grid_sample` over the whole image, as the release does it; `default` and `fast` are
`harmonize_pixels` without and with numba. Memory is what a fresh process grows by at its peak, the image not counted.
"""

import json
import multiprocessing
import os
import platform
import resource
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import torch
from jsonargparse import auto_cli
from numpy.typing import NDArray

from harmonyiqa.config import AictSettings
from harmonyiqa.harmonize import lut
from harmonyiqa.harmonize.network import AICT, low_resolution

WAYS = ("reference", "default", "fast")


def benchmark(
    sizes: tuple[int, ...] = (2048, 4096),
    foreground: float = 0.25,
    repeats: int = 5,
    threads: int = 2,
    network: bool = False,
) -> dict[str, Any]:
    """Time the ways of looking up, each size and way in a process of its own.

    Args:
        sizes: Sides of the square image in pixels.
        foreground: Share of the image inside the mask, an ellipse.
        repeats: Runs, of which the median counts; one more warms up.
        threads: CPU threads.
        network: Time the parameter network too, and count its operations.

    Returns:
        For each size and way: milliseconds, milliseconds of processor time (all threads; what to look at where the
        machine is busy), MiB, and how many times less than the reference.
    """
    context = multiprocessing.get_context("spawn")
    results: dict[str, Any] = {}
    for size in sizes:
        found = {}
        for way in WAYS:
            with context.Pool(1) as pool:
                found[way] = pool.apply(_measure, (way, size, foreground, repeats, threads))
        reference = found["reference"]
        results[str(size)] = {
            way: {
                **{name: round(value, 1) for name, value in each.items()},
                "times_faster": round(reference["ms"] / each["ms"], 1),
                "times_less_cpu": round(reference["cpu_ms"] / each["cpu_ms"], 1),
            }
            for way, each in found.items()
        }
    return {
        "sizes": results,
        **({"network": _network(repeats, threads)} if network else {}),
        "settings": {"foreground": foreground, "repeats": repeats, "threads": threads},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }


def _measure(way: str, size: int, foreground: float, repeats: int, threads: int) -> dict[str, float]:
    torch.set_num_threads(threads)
    if way == "fast":
        import numba

        numba.set_num_threads(threads)
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (size, size, 3), dtype=np.uint8)
    mask = _ellipse(size, foreground)
    torch.manual_seed(0)
    tables = [
        lut.interval_table(torch.randn(1, 3, 8, 256, 256)),
        torch.rand(1, 3, 8, 256, 256),
    ]
    if way == "reference":
        image = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
        alpha = torch.from_numpy(mask)[None, None].float() / 255
        run: Callable[[], Any] = lambda: lut.harmonize(tables, image, alpha)  # noqa: E731
    else:
        small, small_mask = pixels[:64, :64], np.full((64, 64), 255, np.uint8)
        lut.harmonize_pixels(tables, small, small_mask, fast=way == "fast")  # libraries load, numba compiles
        run = lambda: lut.harmonize_pixels(tables, pixels, mask, fast=way == "fast")  # noqa: E731
    with torch.inference_mode():
        before = _peak_mib()
        milliseconds, cpu = _milliseconds(run, repeats)
    return {"ms": milliseconds, "cpu_ms": cpu, "mib": _peak_mib() - before}


def _ellipse(size: int, share: float) -> NDArray[np.uint8]:
    """Row by row: a temporary of the whole image would hide what the lookup takes."""
    radius = (share / np.pi) ** 0.5 * size
    place = np.arange(size) - (size - 1) / 2
    mask = np.zeros((size, size), np.uint8)
    for row, y in zip(mask, place, strict=True):
        row[(place / 1.25) ** 2 + (y * 1.25) ** 2 < radius**2] = 255
    return mask


def _network(repeats: int, threads: int) -> dict[str, Any]:
    """The parameter network alone; it costs the same at every size of the photo."""
    from torch.utils.flop_counter import FlopCounterMode

    torch.set_num_threads(threads)
    model = AICT(AictSettings()).eval()
    side = model.config.low_resolution
    image = low_resolution(np.zeros((side, side, 3), np.uint8), side)
    mask = low_resolution(np.ones((side, side), np.float32), side)
    with torch.inference_mode():
        before = _peak_mib()
        milliseconds, cpu = _milliseconds(lambda: model.tables(image, mask), repeats)
        mib = _peak_mib() - before
    # the counter sees attention only where it is written out, which training mode does
    with (
        FlopCounterMode(display=False) as counter,
        torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
    ):
        model.train().tables(image, mask)
    tokens, layers = (side // 4) ** 2, 9
    attention = layers * 2 * tokens**2 * 256  # two products of tokens x tokens x 256
    # queries, keys and values are made by a function, which counters of modules do not see
    projections = layers * tokens * 3 * 256**2
    gmac = counter.get_total_flops() / 2e9
    return {
        "ms": round(milliseconds),
        "cpu_ms": round(cpu),
        "mib": round(mib),
        "gmac": round(gmac, 1),
        "gmac_of_modules": round(gmac - (attention + projections) / 1e9, 1),  # the way of the paper's 14.35
    }


def _milliseconds(run: Callable[[], Any], repeats: int) -> tuple[float, float]:
    """Medians of wall and processor time, after one run to warm up."""
    run()
    wall, cpu = [], []
    for _ in range(repeats):
        start, used = time.perf_counter(), time.process_time()
        run()
        wall.append(1000 * (time.perf_counter() - start))
        cpu.append(1000 * (time.process_time() - used))
    return median(wall), median(cpu)


def _peak_mib() -> float:
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


if __name__ == "__main__":
    print(json.dumps(auto_cli(benchmark), indent=2))
