"""The commands as a user types them; the server as a process, killed and used again."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from harmonyiqa import cli
from harmonyiqa.rate.secret_links import form_token
from harmonyiqa.rate.store import Store
from tests.rate.conftest import SCREEN, secret_of

VOTES_BETWEEN_KILLS = 4


def test_create_export_and_backup(scenes, tmp_path, capsys) -> None:
    study = str(tmp_path / "study")
    assert cli.main(["rate", "create", str(scenes), study, "--raters", "2", "--labels", "no, so-so,yes"]) == 0
    assert "2 raters, 24 images each" in capsys.readouterr().out
    assert cli.main(["rate", "export", study, "--out", str(tmp_path / "r.csv")]) == 0
    assert cli.main(["rate", "backup", study, str(tmp_path / "copy")]) == 0
    store = Store(tmp_path / "copy")
    assert (store.facts.points, store.facts.portion) == (3, 3)  # 24 images in nine sessions
    store.close()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["create", "nowhere.csv", "study"], "nowhere.csv does not exist"),
        (["create", "MANIFEST", "study", "--mode", "stars"], "stars"),
        (["create", "MANIFEST", "study", "--minutes", "0"], "session_minutes 0"),
        (["create", "MANIFEST", "study", "--labels", "good"], "labels has 1 entries"),
        (["create", "MANIFEST"], "study"),
        (["serve", "nowhere"], "nowhere is no study"),
        (["backup", "nowhere", "copy"], "nowhere is no study"),
        (["export", "nowhere"], "nowhere is no study"),
    ],
)
def test_wrong_usage_is_one_line(words, said, scenes, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["rate", *(str(scenes) if word == "MANIFEST" else word for word in words)]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "study").exists()


def test_a_port_in_use_is_named(make_study, capsys) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert cli.main(["rate", "serve", str(make_study().folder), "--port", port]) == 2
    assert f"cannot listen on 127.0.0.1, port {port}" in capsys.readouterr().err


class Server:
    """`harmonyiqa rate serve` as a process of its own."""

    def __init__(self, study: Path) -> None:
        words = ["rate", "serve", str(study), "--port", "0"]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "harmonyiqa.cli", *words], stderr=subprocess.PIPE, text=True
        )
        first = self._process.stderr.readline()
        self.port = int(re.search(r"http://127\.0\.0\.1:(\d+)", first)[1])

    def end(self, sign: int) -> str:
        os.kill(self._process.pid, sign)
        _, said = self._process.communicate(timeout=60)
        return said

    def post(self, path: str, body: object, cookie: str, secret: str) -> dict:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {"Cookie": f"{cookie}={secret}", "X-Form-Token": form_token(secret)}
        headers["Content-Type"] = "application/json"
        connection.request("POST", path, json.dumps(body), headers)
        answer = connection.getresponse()
        content = json.loads(answer.read())
        connection.close()
        assert answer.status == 200, content
        return content


@pytest.mark.slow
def test_no_acknowledged_vote_is_lost_when_the_server_is_killed(make_study) -> None:
    store = make_study()
    secret, cookie = secret_of(store), f"rater_{store.facts.study}"
    acknowledged = {}
    for round_ in range(3):
        server = Server(store.folder)
        if round_ == 0:
            server.post("/api/consent", {}, cookie, secret)
            server.post("/api/session", SCREEN, cookie, secret)
        for _ in range(VOTES_BETWEEN_KILLS):
            position = len(acknowledged) + 1
            vote = {"position": position, "revision": 0, "value": 1 + position % 5, "milliseconds": 900}
            acknowledged[position] = server.post("/api/vote", vote, cookie, secret)["saved"]
        server.end(signal.SIGKILL)
    rows = store.rows("SELECT position, value FROM vote ORDER BY position")
    assert dict(map(tuple, rows)) == acknowledged
    assert len(rows) == 3 * VOTES_BETWEEN_KILLS


@pytest.mark.slow
def test_the_server_listens_on_this_machine_only_and_stops_when_told(make_study) -> None:
    store = make_study()
    server = Server(store.folder)
    own = next((a[4][0] for a in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)), "127.0.0.1")
    if not own.startswith("127."):
        with pytest.raises(OSError, match="refused"):
            socket.create_connection((own, server.port), timeout=5)
    secret = secret_of(store)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("GET", f"/join/{secret}")
    assert connection.getresponse().status == 303
    said = server.end(signal.SIGINT)
    assert secret not in said
    assert not list(store.folder.glob("*.part"))
