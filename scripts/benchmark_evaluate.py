"""How long does `harmonyiqa evaluate` take on many predictions, and how much memory? Prints JSON.

python scripts/benchmark_evaluate.py                 # 100,000 rows, 1,000 resamples
"""

import contextlib
import io
import json
import os
import platform
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from jsonargparse import auto_cli

from harmonyiqa.data.manifest import Row, write_manifest
from harmonyiqa.data.predictions import Prediction, write_predictions
from harmonyiqa.pipelines.evaluate import evaluate


def benchmark(rows: int = 100_000, methods: int = 9, bootstrap: int = 1000) -> dict[str, Any]:
    """Evaluate made-up predictions against made-up MOS, with null predictors, groups, contents and methods.

    Args:
        rows: Rows to evaluate; as many again are there to train the null predictors.
        methods: Images of one content, each by another method.
        bootstrap: Resamples behind each interval.

    Returns:
        Wall and processor seconds of the whole command, peak memory, and what it ran on.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write(folder, rows, methods)
        wall, processor = time.perf_counter(), time.process_time()
        with contextlib.redirect_stdout(io.StringIO()):
            evaluate(str(folder / "manifest.csv"), str(folder / "predictions.csv"), bootstrap=bootstrap)
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return {
        "wall_seconds": round(wall, 1),
        "processor_seconds": round(processor, 1),
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit // 2**20,
        "settings": {"rows": rows, "methods": methods, "bootstrap": bootstrap},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "load": round(os.getloadavg()[0], 1),
    }


def _write(folder: Path, rows: int, methods: int) -> None:
    random = np.random.default_rng(0)
    table = [
        Row(
            f"{index}.jpg",
            mos=float(mos),
            method=f"m{index % methods}",
            group="NGIHA" if index % methods < 5 else "GIHA",
            content=str(index // methods),
            split="train" if index < rows else "test",
        )
        for index, mos in enumerate(random.normal(50, 12, 2 * rows).clip(0, 100))
    ]
    write_manifest(table, folder / "manifest.csv")
    noise = random.normal(0, 10, rows).tolist()
    write_predictions(
        [
            Prediction(row.image, None, (row.mos or 0) + error, "made-up")
            for row, error in zip(table[rows:], noise, strict=True)
        ],
        folder / "predictions.csv",
    )


if __name__ == "__main__":
    print(json.dumps(auto_cli(benchmark), indent=2))
