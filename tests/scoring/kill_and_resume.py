"""Runs of `harmonyiqa score` that are killed and started again, for `test_resume.py`.

python tests/scoring/kill_and_resume.py FOLDER MODEL --kills 20 --seed 7

Prints JSON: how many kills there were, how many of them left rows to go on from, how many results came out, and the
seed. Ends with an error if a result differs from that of a run that nobody killed. Every run is a fork of this process,
so that the libraries are loaded once.
"""

import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from jsonargparse import auto_cli

from harmonyiqa.model import storage
from harmonyiqa.pipelines.score import score
from harmonyiqa.scoring import resume
from harmonyiqa.scoring.journal import Index, Journal


def die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _before_a_file_has_its_name() -> None:
    Path.replace = die  # type: ignore[method-assign]


def _before_the_file() -> None:
    resume.write_predictions = die


def _after_the_file() -> None:
    Journal.remove = die  # type: ignore[method-assign]


def _while_the_journal_goes() -> None:
    unlink = Path.unlink

    def once(path: Path, missing_ok: bool = False) -> None:
        unlink(path, missing_ok)
        if path.suffix == ".rows":
            die()

    Path.unlink = once  # type: ignore[method-assign]


def _inside_a_row() -> None:
    append, made = Journal.append, []

    def half(journal: Journal, rows: object) -> None:
        append(journal, rows)  # type: ignore[arg-type]
        made.append(rows)
        if len(made) == 3 and journal._file is not None:
            journal._file.truncate(journal._file.tell() - 9)
            die()

    Journal.append = half  # type: ignore[method-assign]


POINTS: tuple[Callable[[], None], ...] = (
    _before_a_file_has_its_name,  # the journal's settings
    _inside_a_row,
    _before_the_file,
    _before_a_file_has_its_name,  # the result
    _after_the_file,
    _while_the_journal_goes,
)


def kill_and_resume(
    folder: str, model: str, kills: int = 20, seed: int = 0, batch_size: int = 2, threads: int = 2
) -> None:
    """Kill runs at random moments, and once at each of `POINTS`.

    Args:
        folder: Images to score.
        model: A model folder.
        kills: How many at random moments.
        seed: Of the moments.
        batch_size: Images a model call.
        threads: Calls of the model side by side.
    """
    random.seed(seed)
    loaded = storage.load(model)
    storage.load = lambda *_, **__: loaded  # type: ignore[assignment]
    resume._HELD_SECONDS = 0.0  # each call's rows on their own: more moments to be killed in
    torch.set_num_threads(1)  # or a forked process would wait for threads that it does not have
    with tempfile.TemporaryDirectory() as work:
        whole, out = Path(work, "whole.csv"), Path(work, "out.csv")

        def run(path: Path, prepare: Callable[[], None] | None = None) -> int:
            pid = os.fork()
            if pid:
                return pid
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            torch.set_num_threads(threads)
            if prepare is not None:
                prepare()
            try:
                os._exit(score([folder], model=model, out=str(path), batch_size=batch_size))
            except BaseException as error:
                print(error, file=sys.stderr)
                os._exit(3)

        def ended(pid: int) -> bool:
            """Whether a run came to its end; one that failed otherwise than by a kill is an error."""
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            if status not in (0, 1, -signal.SIGKILL):
                raise SystemExit(f"a run ended with {status}")
            return status >= 0

        def compare() -> None:
            if out.read_bytes() != whole.read_bytes():
                raise SystemExit(f"seed {seed}: another result than that of a run that nobody killed")
            if left := {path.name for path in Path(work).iterdir()} - {out.name, whole.name}:
                raise SystemExit(f"seed {seed}: left behind: {left}")
            out.unlink()

        start = time.monotonic()
        ended(run(whole))
        seconds = time.monotonic() - start
        done = {"kills": 0, "with_rows": 0, "results": 0, "seed": seed}

        def count_kill() -> None:
            done["kills"] += 1
            done["with_rows"] += Index(Path(f"{out}.journal")).count > 0

        def finish() -> None:
            if not ended(run(out)):
                raise SystemExit("a run was killed, but not by us")
            done["results"] += 1
            compare()

        while done["kills"] < kills:
            pid = run(out)
            time.sleep(random.uniform(0, 0.7 * seconds))
            os.kill(pid, signal.SIGKILL)
            if ended(pid):
                done["results"] += 1
                compare()
            else:
                count_kill()
        finish()
        for point in POINTS:
            if ended(run(out, point)):
                raise SystemExit(f"{point.__name__} did not happen")
            count_kill()
        finish()
    print(json.dumps(done))


if __name__ == "__main__":
    auto_cli(kill_and_resume)
