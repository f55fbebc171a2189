"""How much of the engine's speed is left over HTTP, and how long does a client wait? Prints JSON.

python scripts/benchmark_serve.py                         # the bundled model, 512 px JPEGs; 1, 8 and 64 clients
python scripts/benchmark_serve.py --clients '[1,64]' --images 96 --threads 1 --repeats 1

Engine and service take turns in every round, on the same files, and a ratio is the median over rounds. On a busy
machine take the ratio of processor time: it leaves out who had to wait, and what the clients themselves compute.
"""

import http.client
import json
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median
from typing import Any

import fastapi
import numpy as np
import torch
import uvicorn
from jsonargparse import auto_cli
from PIL import Image

import harmonyiqa
from harmonyiqa import HarmonyIQA
from harmonyiqa.scoring.engine import predict
from harmonyiqa.scoring.items import items_from_paths

_BOUNDARY = "0a1b2c3d4e5f"


class Server:
    """`harmonyiqa serve` as a process."""

    def __init__(self, model: str | None, threads: int, options: list[str]) -> None:
        words = ["serve", "--port", "0", *options, *([] if model is None else ["--model", model])]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "harmonyiqa.cli", *words],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        )
        assert self._process.stderr is not None
        said = []
        for line in self._process.stderr:  # a library may warn first
            if found := re.search(r"http://127\.0\.0\.1:(\d+)", line):
                self.port = int(found[1])
                return
            said.append(line)
        raise RuntimeError(f"the service did not start: {''.join(said)}")

    def metric(self, name: str) -> float:
        """A metric's value."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        found = re.search(rf"^{name} (\S+)$", text, re.M)
        if found is None:
            raise RuntimeError(f"the service has no metric {name} on this system")
        return float(found[1])

    def stop(self) -> None:
        """As a service manager would."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait()


class Client(threading.Thread):
    """Posts its images one after the other."""

    def __init__(self, port: int, bodies: list[tuple[int, bytes]]) -> None:
        super().__init__(daemon=True)
        self._connection = http.client.HTTPConnection("127.0.0.1", port)
        self._bodies = bodies
        self.seconds: list[float] = []
        self.scores: dict[int, float] = {}

    def run(self) -> None:
        """Every image once."""
        headers = {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"}
        for index, body in self._bodies:
            begun = time.perf_counter()
            self._connection.request("POST", "/score", body, headers)
            answer = self._connection.getresponse()
            said = answer.read()
            self.seconds.append(time.perf_counter() - begun)
            if answer.status != 200:
                raise RuntimeError(f"{answer.status} {said!r}")
            self.scores[index] = json.loads(said)["score"]


def benchmark(
    model: str | None = None,
    clients: list[int] = [1, 8, 64],  # noqa: B006  # jsonargparse shows it
    images: int = 192,
    size: int = 512,
    threads: int = 2,
    repeats: int = 3,
    wait: float = 5,
) -> dict[str, Any]:
    """Score a folder of made-up JPEGs with the engine, and then over HTTP.

    Args:
        model: A model folder or a hub id. Default: the bundled model.
        clients: How many ask at a time, each over one connection.
        images: How many images a round, in all.
        size: Their side in pixels.
        threads: CPU threads of the model, in both.
        repeats: Rounds, of which the median counts.
        wait: As in `harmonyiqa serve`.

    Returns:
        Images a second, also as a share of the engine's; percentiles of a request's milliseconds; the largest
        difference of a score; and what it ran on.
    """
    torch.set_num_threads(threads)
    load = os.getloadavg()[0]
    scorer = HarmonyIQA.from_pretrained(model)
    with tempfile.TemporaryDirectory() as folder:
        _write_images(Path(folder), images, size)
        items = items_from_paths([folder])
        files = [Path(item.image).read_bytes() for item in items]
        server = Server(model, threads, ["--wait", str(wait)])
        engine: list[tuple[float, float]] = []
        rounds: dict[int, list[dict[str, Any]]] = {count: [] for count in clients}
        try:
            predict(scorer, items[:32])  # both have been used before
            _ask(server, 8, files[:32])
            for _ in range(repeats):
                begun, spent = time.perf_counter(), time.process_time()
                rows = predict(scorer, items)
                engine.append((time.perf_counter() - begun, time.process_time() - spent))
                expected = [row.score for row in rows]
                for count in clients:
                    rounds[count].append(_ask(server, count, files, expected))
        finally:
            server.stop()
    return {
        "engine": {
            "images_per_second": round(median(images / wall for wall, _ in engine), 1),
            "processor_ms_an_image": round(median(1000 * spent / images for _, spent in engine), 2),
        },
        "service": {str(count): _summary(found, engine, images) for count, found in rounds.items()},
        "images": images,
        "size": size,
        "threads": threads,
        "wait_ms": wait,
        "repeats": repeats,
        "load_average_before": round(load, 2),
        "niceness": os.nice(0),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {
            "harmonyiqa": harmonyiqa.__version__,
            "torch": torch.__version__,
            "fastapi": fastapi.__version__,
            "uvicorn": uvicorn.__version__,
        },
    }


def _ask(
    server: Server, count: int, files: list[bytes], expected: list[float | None] | None = None
) -> dict[str, Any]:
    """Let so many clients post all files once."""
    head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="image"\r\n\r\n'.encode()
    bodies = [(i, head + data + f"\r\n--{_BOUNDARY}--\r\n".encode()) for i, data in enumerate(files)]
    people = [Client(server.port, bodies[number::count]) for number in range(count)]
    spent, calls = server.metric("process_cpu_seconds_total"), server.metric("harmonyiqa_call_images_count")
    begun = time.perf_counter()
    for person in people:
        person.start()
    for person in people:
        person.join()
    wall = time.perf_counter() - begun
    scores = {index: score for person in people for index, score in person.scores.items()}
    if len(scores) < len(files):
        raise RuntimeError(f"{len(files) - len(scores)} images were not scored")
    known = [score for score in expected or [] if score is not None]
    return {
        "wall": wall,
        "processor": server.metric("process_cpu_seconds_total") - spent,
        "calls": server.metric("harmonyiqa_call_images_count") - calls,
        "seconds": [each for person in people for each in person.seconds],
        "difference": max((abs(scores[i] - score) for i, score in enumerate(known)), default=0.0),
    }


def _summary(found: list[dict[str, Any]], engine: list[tuple[float, float]], images: int) -> dict[str, Any]:
    times = 1000 * np.array([each for one in found for each in one["seconds"]])
    pairs = list(zip(found, engine, strict=True))
    return {
        "images_per_second": round(median(images / one["wall"] for one in found), 1),
        "share_of_engine": round(median(wall / one["wall"] for one, (wall, _) in pairs), 3),
        "processor_ms_an_image": round(median(1000 * one["processor"] / images for one in found), 2),
        "share_of_engine_by_processor_time": round(
            median(cpu / one["processor"] for one, (_, cpu) in pairs), 3
        ),
        "images_a_call": round(median(images / one["calls"] for one in found), 1),
        **{f"p{q}_ms": round(float(np.percentile(times, q)), 1) for q in (50, 95, 99)},
        "largest_difference": max(one["difference"] for one in found),
    }


def _write_images(folder: Path, count: int, size: int) -> None:
    """Smooth colour with a little grain: about the bytes a pixel of a photo."""
    random = np.random.default_rng(0)
    for index in range(count):
        coarse = Image.fromarray(random.integers(0, 256, (size // 16, size // 16, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC), dtype=np.float32)
        grainy = smooth + random.normal(0, 4, (size, size, 1))
        Image.fromarray(np.clip(grainy, 0, 255).astype(np.uint8)).save(folder / f"{index:05}.jpg", quality=92)


if __name__ == "__main__":
    print(json.dumps(auto_cli(benchmark), indent=2))
