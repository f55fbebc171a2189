"""A run that is killed at any step and resumed ends in the same bits as one that was not."""

import json
import logging
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from harmonyiqa.config import DataSettings, TrainSettings
from harmonyiqa.data.manifest import read_manifest
from harmonyiqa.train.data import ScoreDataset
from harmonyiqa.train.runs import History, write_json
from harmonyiqa.train.trainer import COMPLETE, _digests, last_checkpoint

SCRIPT = Path(__file__).with_name("kill_and_resume.py")
STEPS = random.Random(20).sample(range(1, 12), 3)


def _run(jobs: list[dict[str, Any]], folder: Path) -> None:
    (folder / "jobs.json").write_text(json.dumps(jobs))
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(folder / "jobs.json")],
        cwd=SCRIPT.parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(SCRIPT.parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def _result(out: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any], list[dict[str, Any]]]:
    """Weights, metrics and history of a finished run; times left out."""

    def timeless(values: dict[str, Any]) -> dict[str, Any]:
        return {k: v for k, v in values.items() if not any(t in k for t in ("second", "runtime", "time"))}

    weights: dict[str, torch.Tensor] = {}
    for file in sorted((out / "model").glob("*.safetensors")):
        weights |= load_file(file)
    metrics = timeless(json.loads((out / "metrics.json").read_text()))
    metrics["best_validation"] = timeless(metrics["best_validation"])
    history = [timeless(json.loads(line)) for line in (out / "history.jsonl").read_text().splitlines()]
    return weights, metrics, [line for line in history if "train_loss" not in line]


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_killed_run_resumes_to_the_same_bits(
    tiny_scorer_folder, grey_manifest, tmp_path, processes
) -> None:
    first = {
        "out": str(tmp_path / "whole"),
        "model": str(tiny_scorer_folder),
        "manifest": str(grey_manifest),
        "processes": processes,
        "kill": None,
        "step": 0,
        "resume": False,
    }
    kills = [(step, "step") for step in STEPS] + [(8, "saving")]
    if processes == 2:
        kills = kills[:1]
    jobs = [first]
    for step, kill in kills:
        killed = {**first, "out": str(tmp_path / f"{step}-{kill}"), "step": step, "kill": kill}
        jobs += [killed, {**killed, "kill": None, "resume": True}]
    _run(jobs, tmp_path)
    weights, metrics, history = _result(tmp_path / "whole")
    for step, kill in kills:
        again = _result(tmp_path / f"{step}-{kill}")
        for name, tensor in weights.items():
            assert torch.equal(tensor, again[0][name]), (step, kill, name)
        assert again[1] == metrics, (step, kill)
        assert again[2] == history, (step, kill)


@pytest.fixture
def checkpoints(tmp_path) -> Path:
    for step in (2, 4):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "trained.safetensors").write_bytes(bytes(range(step)))
        write_json(folder / COMPLETE, _digests(folder))
    return tmp_path


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda f: (f / COMPLETE).unlink(), "cut off"),
        (lambda f: (f / COMPLETE).write_text("{"), "complete is damaged"),
        (lambda f: (f / "trained.safetensors").write_bytes(b"\0"), "trained.safetensors is not what"),
        (lambda f: (f / "trained.safetensors").unlink(), "trained.safetensors is not what"),
    ],
)
def test_a_half_written_checkpoint_is_skipped_with_a_line(checkpoints, caplog, damage, said) -> None:
    found = last_checkpoint(checkpoints)
    assert found is not None
    assert found.name == "checkpoint-4"
    damage(checkpoints / "checkpoint-4")
    with caplog.at_level(logging.WARNING):
        found = last_checkpoint(checkpoints)
    assert found is not None
    assert found.name == "checkpoint-2"
    assert said in caplog.text
    shutil.rmtree(checkpoints / "checkpoint-2")
    assert last_checkpoint(checkpoints) is None


def test_which_images_are_mirrored_depends_on_seed_epoch_and_image_alone(scorer, grey_manifest) -> None:
    def mirrored(seed: int, epoch: int, order: list[int]) -> dict[int, bool]:
        data = ScoreDataset(read_manifest(grey_manifest), "train", scorer.inputs, "nr", flip=True, seed=seed)
        data.set_epoch(epoch)
        return {i: data.open(*data.questions[i])[1] for i in order}

    forward, backward = list(range(32)), list(reversed(range(32)))
    first = mirrored(0, 0, forward)
    assert first == mirrored(0, 0, backward)
    assert first != mirrored(0, 1, forward)
    assert first != mirrored(1, 0, forward)
    assert 8 < sum(first.values()) < 24


def test_the_history_goes_on_where_the_checkpoint_was(tmp_path) -> None:
    lines = [json.dumps({"step": step, "loss": 1.0}) + "\n" for step in (1, 2, 3)]
    (tmp_path / "history.jsonl").write_text("".join(lines) + '{"step": 4, "lo')
    History(tmp_path, from_step=2)
    assert (tmp_path / "history.jsonl").read_text() == "".join(lines[:2])


def test_the_mean_of_the_loss_never_spans_a_checkpoint(tmp_path) -> None:
    from harmonyiqa.train.scorer import _arguments

    for items in (7, 100, 1000, 12345):
        settings = TrainSettings(2, str(tmp_path / "r"), DataSettings("m.csv"))
        arguments = _arguments(settings, items)
        assert arguments.eval_steps % arguments.logging_steps == 0
        assert arguments.eval_steps == arguments.save_steps
