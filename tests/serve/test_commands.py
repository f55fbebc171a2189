"""The command as a user types it; the service as a process, under load and while it is stopped."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from harmonyiqa import HarmonyIQA, cli
from tests.serve.conftest import BROKEN, engine_says, multipart, picture

CLIENTS = 64
PATIENCE = 600  # seconds: the machine may be busy


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--host", "0.0.0.0"], "host 0.0.0.0 can be reached from other machines: set HARMONYIQA_TOKEN"),
        (["--token", ""], "the token must be printable ASCII"),
        (["--token", "two words"], "the token must be printable ASCII"),
        (["--queue", "0"], "queue 0 must be above 0"),
        (["--wait", "-1"], "wait -1.0 must not be below 0"),
        (["--timeout", "0"], "timeout 0.0 must be above 0, and finite"),
        (["--max_upload", ".inf"], "max_upload inf must be above 0, and finite"),
        (["--model", "nowhere/at-all"], "nowhere/at-all"),
        (["--colour", "red"], "colour"),
    ],
)
def test_wrong_usage_is_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["serve", "--port", "0", *words]) == 2
    assert said in capsys.readouterr().err


def test_a_port_in_use_is_known_before_a_model_is_loaded(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert cli.main(["serve", "--model", "nowhere", "--port", port]) == 2
    assert f"cannot listen on 127.0.0.1, port {port}" in capsys.readouterr().err


@pytest.mark.parametrize(("words", "extra"), [(["serve"], "serve"), (["rate", "serve"], "rate")])
def test_a_missing_extra_is_named(
    words: list[str], extra: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, f"harmonyiqa.{extra}.server", raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert cli.main([*words, "study"] if extra == "rate" else words) == 2
    said = f"{' '.join(words)} needs uvicorn: pip install 'harmonyiqa[{extra}]'"
    assert said in capsys.readouterr().err


class Process:
    """`harmonyiqa serve` as a process of its own."""

    def __init__(self, model: Path, *options: str) -> None:
        words = ["serve", "--model", str(model), "--port", "0", *options]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "harmonyiqa.cli", *words], stderr=subprocess.PIPE, text=True
        )
        assert self.process.stderr is not None
        first = self.process.stderr.readline()  # nothing is said before it, whatever the processor
        found = re.search(r"http://127\.0\.0\.1:(\d+)", first)
        if not found:
            self.process.kill()  # or what it says would have no end
        assert found, first + self.process.stderr.read()
        self.port = int(found[1])

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        connection = self.connect()
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.M))

    def end(self) -> str:
        """What it said until it ended."""
        _, said = self.process.communicate(timeout=PATIENCE)
        return said


def _run(model: Path) -> Iterator[Process]:
    started = Process(model)
    yield started
    started.process.kill()
    started.process.communicate()


@pytest.fixture(scope="module")
def process(tiny_scorer_folder: Path) -> Iterator[Process]:
    """For two tests, since it takes seconds to start; the second ends it."""
    yield from _run(tiny_scorer_folder)


@pytest.fixture
def another(tiny_scorer_folder: Path) -> Iterator[Process]:
    """For one test."""
    yield from _run(tiny_scorer_folder)


class Client(threading.Thread):
    """Sends requests over one connection, one after the other, and remembers what came back."""

    def __init__(self, port: int, requests: list[tuple[bytes, dict[str, str]]]) -> None:
        super().__init__(daemon=True)
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        self._requests = requests
        self.answers: list[tuple[int, dict]] = []
        self.lost: OSError | http.client.HTTPException | None = None

    def run(self) -> None:
        for body, headers in self._requests:
            try:
                self._connection.request("POST", "/score", body, headers)
                answer = self._connection.getresponse()
                self.answers.append((answer.status, json.loads(answer.read())))
            except (OSError, http.client.HTTPException) as error:
                self.lost = error
                return


@pytest.mark.slow
def test_64_clients_are_answered_right_and_memory_stays_flat(process: Process, scorer: HarmonyIQA) -> None:
    images = [picture(seed) for seed in range(16)]
    good: list[dict[str, bytes]] = [{"image": image} for image in images]
    good += [{"image": image, "reference": images[seed % 3]} for seed, image in enumerate(images)]
    bad: list[tuple[bytes, dict[str, str]]] = [multipart({"image": data}) for data in BROKEN.values()]
    bad += [multipart({"reference": images[0]}), (b"{}", {"Content-Type": "application/json"})]
    bad += [(b"--x", {"Content-Type": "multipart/form-data; boundary=x"})]
    wanted = [engine_says(scorer, **files) for files in good]
    resident = []
    for _ in range(3):
        plans = []
        for number in range(CLIENTS):
            places = [number * 5 + place for place in range(5)]
            plans.append(
                [bad[p // 10 % len(bad)] if p % 10 == 9 else multipart(good[p % len(good)]) for p in places]
            )
        clients = [Client(process.port, requests) for requests in plans]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        for number, client in enumerate(clients):
            assert client.lost is None
            for place, (status, answer) in enumerate(client.answers, number * 5):
                if place % 10 == 9:
                    assert 400 <= status < 500
                    assert answer["detail"]
                else:
                    assert (status, answer["score"]) == (
                        200,
                        pytest.approx(wanted[place % len(good)], abs=1e-5),
                    )
            assert len(client.answers) == 5
        resident.append(process.metric("process_resident_memory_bytes") / 2**20)
    assert resident[-1] - resident[0] < 30, resident  # MiB, over 640 requests
    assert process.metric("harmonyiqa_call_images_sum") > 2 * process.metric("harmonyiqa_call_images_count")


@pytest.mark.slow
def test_a_service_that_is_told_to_stop_answers_what_it_accepted(
    another: Process, scorer: HarmonyIQA
) -> None:
    image = picture(3, size=(900, 700))
    wanted = engine_says(scorer, image)
    clients = [Client(another.port, [multipart({"image": image})] * 1000) for _ in range(16)]
    for client in clients:
        client.start()
    while sum(len(client.answers) for client in clients) < 32:
        time.sleep(0.01)
    another.process.send_signal(signal.SIGTERM)
    said = another.end()
    for client in clients:
        client.join()
    assert another.process.returncode == 0
    answers = Counter(status for client in clients for status, _ in client.answers)
    scores = [answer["score"] for client in clients for status, answer in client.answers if status == 200]
    assert scores == pytest.approx([wanted] * len(scores), abs=1e-5)
    assert set(answers) <= {200, 503}
    accepted = re.search(r"stopped: (\d+) requests accepted", said)
    assert accepted, said
    assert int(accepted[1]) == answers[200]  # nobody who was let in lost the connection


@pytest.mark.slow
def test_a_second_signal_ends_at_once(process: Process) -> None:
    body, headers = multipart({"image": picture(0)})
    half = process.connect()
    half.putrequest("POST", "/score")
    for name, value in {**headers, "Content-Length": str(len(body))}.items():
        half.putheader(name, value)
    half.endheaders(body[:50])  # it stays in the house until the rest comes
    while process.metric("harmonyiqa_in_house") < 1:
        time.sleep(0.01)
    process.process.send_signal(signal.SIGTERM)
    newcomer = process.connect()
    status = 200
    while status == 200:
        newcomer.request("GET", "/health")
        answer = newcomer.getresponse()
        status, health = answer.status, json.loads(answer.read())
    assert (status, health["status"]) == (503, "draining")
    newcomer.request("POST", "/score", body, headers)
    refused = newcomer.getresponse()
    assert (refused.status, refused.headers["Retry-After"]) == (503, "1")
    os.kill(process.process.pid, signal.SIGTERM)
    process.end()
    assert process.process.returncode == -signal.SIGTERM
