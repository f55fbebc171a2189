"""How long do ratings take to become MOS? Prints JSON.

python scripts/benchmark_mos.py                                   # the size of HarmonyIQAD: 21 raters, 1,350 images
python scripts/benchmark_mos.py --raters 400 --images 50000 --each 40   # two million votes
"""

import json
import os
import platform
import sys
import tempfile
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.csv
from jsonargparse import auto_cli

from harmonyiqa.data.mos.command import mos


def benchmark(raters: int = 21, images: int = 1350, each: int = 0, seed: int = 0) -> dict[str, Any]:
    """Write a made-up study to a CSV and run `harmonyiqa mos` on it, in this process.

    Args:
        raters: How many raters.
        images: How many images.
        each: Votes an image, by raters drawn at random; 0: every rater.
        seed: Seed of the study.

    Returns:
        Seconds by the clock and by the processor, reading and writing included, loading of libraries not.
    """
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(sys.stderr):
        _run(Path(folder), raters=3, images=5, each=3, seed=seed)  # loads the libraries
        clock, processor = _run(Path(folder), raters, images, each or raters, seed)
    return {
        "votes": images * (each or raters),
        "seconds": round(clock, 2),
        "processor_seconds": round(processor, 2),
        "settings": {"raters": raters, "images": images, "each": each, "seed": seed},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


def _run(folder: Path, raters: int, images: int, each: int, seed: int) -> tuple[float, float]:
    """Seconds by the clock and by the processor of one study."""
    rng = np.random.default_rng(seed)
    chosen = np.argsort(rng.random((images, raters)), axis=1)[:, :each]
    quality = rng.uniform(1, 5, (images, 1))
    votes = quality + rng.normal(0, 0.3, raters)[chosen] + rng.normal(0, 0.8, (images, each))
    table = pyarrow.table(
        {
            "rater": [f"rater{i}" for i in chosen.ravel()],
            "image": [f"images/model{i % 9}_{i // 9}.jpg" for i in range(images) for _ in range(each)],
            "rating": np.clip(np.round(votes), 1, 5).astype(np.int64).ravel(),
        }
    )
    pyarrow.csv.write_csv(table, folder / "ratings.csv")
    clock, processor = time.perf_counter(), time.process_time()
    mos(str(folder / "ratings.csv"), str(folder / "mos.csv"), raters=str(folder / "raters.csv"))
    return time.perf_counter() - clock, time.process_time() - processor


if __name__ == "__main__":
    print(json.dumps(auto_cli(benchmark), indent=2))
