"""Does memory stay flat over many images, and what do journal and merge cost? Prints JSON.

python scripts/benchmark_streaming.py                    # 100,000 names of a few small images, a tiny random model
python scripts/benchmark_streaming.py --images 5000 --report false
"""

import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
from jsonargparse import auto_cli
from PIL import Image

from harmonyiqa.config import StartSettings, TrainableSettings
from harmonyiqa.model.storage import start
from harmonyiqa.model.tiny import make_tiny_model
from harmonyiqa.pipelines.score import score
from harmonyiqa.scoring import resume
from harmonyiqa.scoring.engine import Scored
from harmonyiqa.scoring.journal import Journal

_FOLDERS = 100


def benchmark(
    images: int = 100_000, first: int = 5_000, different: int = 50, batch_size: int = 16, report: bool = True
) -> dict[str, Any]:
    """Score many names of a few images into a file, and watch memory and time on the way.

    Args:
        images: How many names.
        first: Memory is compared from this image on.
        different: Files that bear the names, as hard links.
        batch_size: Images a model call.
        report: Write the page too.

    Returns:
        Resident memory in MiB after `first` images, after the last and at the end; the share of journal and merge
        in the processor time of the whole run; the size of the output.
    """
    with tempfile.TemporaryDirectory() as work:
        folder, model, out = Path(work, "images"), Path(work, "tiny"), Path(work, "scores.csv")
        _write_images(folder, images, different)
        make_tiny_model(model)
        settings = StartSettings(str(model), max_tiles=1)
        start(settings, TrainableSettings("full", "full"), stage=2).save_pretrained(model.with_name("scorer"))
        seconds: dict[str, float] = {}
        memory: dict[str, float] = {}
        plain_stream = resume.stream

        def watched(*given: Any, **named: Any) -> Iterator[list[Scored]]:
            count = 0
            for batch in plain_stream(*given, **named):
                yield batch
                count += len(batch)
                if "first" not in memory and count >= first:
                    memory["first"] = _resident_mib()
            memory["last"] = _resident_mib()

        resume.stream = watched
        Journal.append = _timed(Journal.append, "journal", seconds)  # type: ignore[method-assign]
        resume._merge = _timed(resume._merge, "merge", seconds)
        begun = time.process_time()
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
            page = str(Path(work, "page.html")) if report else None
            score(
                [str(folder)],
                model=str(model.with_name("scorer")),
                out=str(out),
                report=page,
                batch_size=batch_size,
                workers=0,
            )
        whole = time.process_time() - begun
        memory["end"] = _resident_mib()
        return {
            "images": images,
            "resident_mib": {name: round(value, 1) for name, value in memory.items()},
            "growth_mib": round(memory["last"] - memory["first"], 1),
            "cpu_seconds": round(whole, 1),
            "journal_percent": round(100 * seconds["journal"] / whole, 2),
            "merge_percent": round(100 * seconds["merge"] / whole, 2),
            "output_mib": round(out.stat().st_size / 2**20, 1),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        }


def _write_images(folder: Path, count: int, different: int) -> None:
    random = np.random.default_rng(0)
    sources = []
    for number in range(different):
        path = folder / f"source{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(random.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(path)
        sources.append(path)
    for number in range(count - different):
        path = folder / f"{number % _FOLDERS:03}" / f"{number:07}.jpg"
        if number < _FOLDERS:
            path.parent.mkdir()
        path.hardlink_to(sources[number % different])


def _timed(function: Callable[..., Any], name: str, seconds: dict[str, float]) -> Callable[..., Any]:
    def run(*given: Any, **named: Any) -> Any:
        begun = time.thread_time()  # other threads score meanwhile
        try:
            return function(*given, **named)
        finally:
            seconds[name] = seconds.get(name, 0.0) + time.thread_time() - begun

    return run


def _resident_mib() -> float:
    """Of this process, now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    print(json.dumps(auto_cli(benchmark), indent=2))
