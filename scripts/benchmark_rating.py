"""Does a rating study hold 21 raters at once, and a server that is killed? Prints JSON.

python scripts/benchmark_rating.py                           # 21 raters, 1,350 images each, ten kills
python scripts/benchmark_rating.py --raters 3 --images 30 --kills 1
"""

import http.client
import json
import os
import platform
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import fastapi
import numpy as np
import uvicorn
from jsonargparse import auto_cli
from PIL import Image

import harmonyiqa
from harmonyiqa.data.manifest import Row, write_manifest
from harmonyiqa.data.tables import read_table
from harmonyiqa.rate.secret_links import form_token
from harmonyiqa.rate.settings import StudySettings
from harmonyiqa.rate.study import INVITATIONS, create_study

SCREEN = {
    **{"screen_width": 1920, "screen_height": 1080, "window_width": 1920, "window_height": 1080},
    **{"pixel_ratio": 1.0, "colour_depth": 24, "gamut": "srgb", "touch": False},
    **{"dark_steps": 8, "light_steps": 8},
}
PORT = 8399


class Server:
    """`harmonyiqa rate serve` as a process that can be killed and started again."""

    def __init__(self, study: Path) -> None:
        words = ["rate", "serve", str(study), "--port", str(PORT)]
        self._command = [sys.executable, "-m", "harmonyiqa.cli", *words]
        self.start()

    def start(self) -> None:
        """Start it and wait until it listens."""
        self._process = subprocess.Popen(self._command, stderr=subprocess.PIPE, text=True)
        assert self._process.stderr is not None
        if not re.search("serving", self._process.stderr.readline()):
            raise RuntimeError("the server did not start")
        threading.Thread(target=self._process.stderr.read, daemon=True).start()  # or its log would block it

    def kill(self) -> None:
        """As a power cut would: no chance to clean up."""
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait()


class Rater(threading.Thread):
    """Votes on everything as fast as answers come; after a lost connection, sends the same vote again."""

    def __init__(self, number: int, link: str, study: str, images: int, pause: float) -> None:
        super().__init__(daemon=True)
        self._secret = link.rpartition("/")[2]
        self._headers = {
            "Cookie": f"rater_{study}={self._secret}",
            "X-Form-Token": form_token(self._secret),
            "Content-Type": "application/json",
        }
        self._number, self._images, self._pause = number, images, pause
        self._connection: http.client.HTTPConnection | None = None
        self.milliseconds: list[float] = []
        self.resent = 0
        self.acknowledged: dict[int, int] = {}

    def run(self) -> None:
        """Consent, one session, every vote."""
        random = np.random.default_rng(self._number)
        self._post("/api/consent", {})
        self._post("/api/session", SCREEN)
        for position in range(1, self._images + 1):
            value = int(random.integers(1, 6))
            vote = {"position": position, "revision": 0, "value": value, "milliseconds": 1000}
            receipt = self._post("/api/vote", vote, timed=True)
            if receipt["saved"] != value:
                raise RuntimeError(f"rater {self._number}: voted {value}, {receipt['saved']} was saved")
            self.acknowledged[position] = value
            time.sleep(self._pause)

    def _post(self, path: str, body: dict[str, Any], timed: bool = False) -> dict[str, Any]:
        content = json.dumps(body)
        while True:
            try:
                if self._connection is None:
                    self._connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=60)
                start = time.perf_counter()
                self._connection.request("POST", path, content, self._headers)
                answer = self._connection.getresponse()
                received = answer.read()
            except (OSError, http.client.HTTPException):
                self._connection = None
                self.resent += 1
                time.sleep(0.2)
                continue
            if answer.status == 429:
                time.sleep(1)
                continue
            if answer.status != 200:
                raise RuntimeError(f"rater {self._number}: {answer.status} {received!r}")
            if timed:
                self.milliseconds.append(1000 * (time.perf_counter() - start))
            return dict(json.loads(received))


def benchmark(raters: int = 21, images: int = 1350, kills: int = 10, think_ms: float = 0) -> dict[str, Any]:
    """Let scripted raters vote all at once, kill the server meanwhile, and count what is in the database.

    Args:
        raters: How many vote at once.
        images: How many each of them rates.
        kills: How often the server is killed with SIGKILL, evenly over the votes.
        think_ms: Milliseconds a rater waits between an answer and the next vote; 0 is far above any human.

    Returns:
        Votes sent, acknowledged and stored, lost and doubled ones, latencies, and what it ran on.
    """
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        store = create_study(
            _write_manifest(Path(folder), images),
            Path(folder) / "study",
            StudySettings(address=f"http://127.0.0.1:{PORT}", session_minutes=10_000),
            mode="rating",
            raters=raters,
            sessions=1,
            training=None,
            golden=None,
            repeats=0,
            pairs=None,
            seed=0,
        )
        study, name = store.folder, store.facts.study
        store.close()
        links = [str(row["link"]) for row in read_table(study / INVITATIONS)]
        people = [Rater(number, link, name, images, think_ms / 1000) for number, link in enumerate(links)]
        server = Server(study)
        start = time.perf_counter()
        for person in people:
            person.start()

        for kill in range(1, kills + 1):
            _wait(people, kill * raters * images // (kills + 1))
            server.kill()
            server.start()
        _wait(people, raters * images)
        seconds = time.perf_counter() - start
        server.kill()
        stored = _stored(study)
    acknowledged = {(i, p): v for i, person in enumerate(people) for p, v in person.acknowledged.items()}
    times = np.array([each for person in people for each in person.milliseconds])
    return {
        "raters": raters,
        "votes": raters * images,
        "acknowledged": len(acknowledged),
        "stored": len(stored),
        "lost": sum(key not in stored for key in acknowledged),
        "changed": sum(stored.get(key, [value]) != [value] for key, value in acknowledged.items()),
        "doubled": sum(len(values) > 1 for values in stored.values()),
        "kills": kills,
        "sent_again": sum(person.resent for person in people),
        **{f"p{q}_ms": round(float(np.percentile(times, q)), 1) for q in (50, 95, 99)},
        "votes_per_second": round(len(acknowledged) / seconds, 1),
        "think_ms": think_ms,
        "load_average_before": round(load, 2),
        "niceness": os.nice(0),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {
            "harmonyiqa": harmonyiqa.__version__,
            "python": platform.python_version(),
            "sqlite": sqlite3.sqlite_version,
            "fastapi": fastapi.__version__,
            "uvicorn": uvicorn.__version__,
        },
    }


def _write_manifest(folder: Path, images: int) -> Path:
    """Many names of one tiny image: votes are measured, not downloads."""
    Image.new("RGB", (8, 8), "grey").save(folder / "image.png")
    for index in range(images):
        (folder / f"{index}.png").symlink_to("image.png")
    write_manifest(
        [Row(f"{index}.png", content=str(index)) for index in range(images)], folder / "manifest.csv"
    )
    return folder / "manifest.csv"


def _wait(people: list[Rater], votes: int) -> None:
    """Until so many votes are acknowledged."""
    while sum(len(person.acknowledged) for person in people) < votes:
        if not any(person.is_alive() for person in people):
            raise RuntimeError("a rater stopped before the end")
        time.sleep(0.05)


def _stored(study: Path) -> dict[tuple[int, int], list[int]]:
    """(rater from 0, position) -> every vote in the database."""
    connection = sqlite3.connect(study / "study.sqlite")
    found: dict[tuple[int, int], list[int]] = {}
    for rater, position, value in connection.execute("SELECT rater, position, value FROM vote"):
        found.setdefault((rater - 1, position), []).append(value)
    connection.close()
    return found


if __name__ == "__main__":
    print(json.dumps(auto_cli(benchmark), indent=2))
