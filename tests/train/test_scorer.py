"""Both stages, end to end on flat images whose MOS is their lightness."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from harmonyiqa import HarmonyIQA
from harmonyiqa.config import (
    DataSettings,
    OptimSettings,
    PhotoSettings,
    StartSettings,
    TrainableSettings,
    TrainSettings,
    ValidationSettings,
)
from harmonyiqa.data.manifest import read_manifest
from harmonyiqa.data.split_files import read_split, split_of, trained_on_warning
from harmonyiqa.errors import UserError
from harmonyiqa.images import open_rgb
from harmonyiqa.train.scorer import train_scorer
from harmonyiqa.train.trainer import last_checkpoint

ROOT = Path(__file__).parents[2]


def _settings(manifest: Path, model: Path, out: Path, stage: int, **changes) -> TrainSettings:
    optim = OptimSettings(
        learning_rate=3e-3, epochs=6, batch_size=8, precision="fp32", gradient_checkpointing=False, warmup=0.1
    )
    values = {
        "stage": stage,
        "out": str(out),
        "data": DataSettings(str(manifest), mode="nr", workers=0),
        "start": StartSettings(str(model), max_tiles=1),
        "trainable": TrainableSettings("full", "full"),
        "optim": optim,
        "validation": ValidationSettings(patience=0),
    }
    return TrainSettings(**{**values, **changes})


@pytest.fixture(scope="module")
def stage_1(grey_manifest, tiny_checkpoint, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "one"
    optim = OptimSettings(1e-2, epochs=25, batch_size=8, precision="fp32", gradient_checkpointing=False)
    train_scorer(_settings(grey_manifest, tiny_checkpoint, out, 1, optim=optim))
    return out


@pytest.fixture(scope="module")
def stage_2(grey_manifest, stage_1, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "two"
    optim = OptimSettings(3e-3, epochs=20, batch_size=8, precision="fp32", gradient_checkpointing=False)
    train_scorer(_settings(grey_manifest, stage_1 / "model", out, 2, optim=optim))
    return out


def test_stage_1_learns_to_write_the_sentence(stage_1) -> None:
    history = [json.loads(line) for line in (stage_1 / "history.jsonl").read_text().splitlines()]
    losses = [h["loss"] for h in history if "loss" in h]
    assert losses[-1] < 0.5 * losses[0]
    assert [h for h in history if "eval_unscored" in h][-1]["eval_unscored"] == 0


def test_stage_2_learns_lightness(stage_2, grey_manifest) -> None:
    model = HarmonyIQA.from_pretrained(stage_2 / "model")
    dark, middle, light = (model.score(open_rgb(grey_manifest.parent / f"{i}.png")) for i in (0, 12, 24))
    levels = [(i * 53) % 256 for i in (0, 12, 24)]
    order = [score for _, score in sorted(zip(levels, (dark, middle, light), strict=True))]
    assert order == sorted(order)
    assert json.loads((stage_2 / "metrics.json").read_text())["best_val_srcc"] > 0.9


@pytest.mark.parametrize("keep", ["best", "last"])
def test_the_best_weights_are_kept_or_the_last(grey_manifest, stage_1, tmp_path, monkeypatch, keep) -> None:
    falling = iter([0.9, 0.8, 0.7, 0.6])
    monkeypatch.setattr("harmonyiqa.train.scorer.validation_metrics", lambda _: {"srcc": next(falling)})
    optim = OptimSettings(3e-3, epochs=1, batch_size=8, precision="fp32", gradient_checkpointing=False)
    validation = ValidationSettings(per_epoch=2, patience=0, keep=keep)
    train_scorer(
        _settings(grey_manifest, stage_1 / "model", tmp_path / "run", 2, optim=optim, validation=validation)
    )
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert metrics["best_step"] < metrics["steps"]
    step = metrics["best_step"] if keep == "best" else metrics["steps"]
    kept = load_file(tmp_path / f"run/checkpoint-{step}/trained.safetensors")
    parameters = dict(HarmonyIQA.from_pretrained(tmp_path / "run/model").named_parameters())
    assert all(torch.equal(parameters[name], tensor) for name, tensor in kept.items())


def test_the_run_folder_says_how_it_was_made(stage_2) -> None:
    assert {"settings.yaml", "environment.json", "history.jsonl", "metrics.json", "model", "tensorboard"} <= {
        p.name for p in stage_2.iterdir()
    }
    environment = json.loads((stage_2 / "environment.json").read_text())
    installed = environment["packages"]["torch"].split("+")[0]  # the metadata may lack the build's suffix
    assert installed == torch.__version__.split("+")[0]
    assert len(environment["manifest_sha256"]) == 64
    settings = HarmonyIQA.from_pretrained(stage_2 / "model").settings
    assert settings.mos_kind == "synthetic"
    assert 40 < settings.mos_mean < 60


def test_a_model_judged_on_its_training_images_says_so(stage_2, grey_manifest) -> None:
    manifest = read_manifest(grey_manifest)
    split = split_of(manifest.rows, "manifest")
    assert read_split(stage_2 / "split.json") == split
    warning = trained_on_warning(stage_2 / "model", manifest.rows)
    assert warning is not None
    assert "was trained on 40 of these 48 images" in warning
    assert trained_on_warning(stage_2 / "model", manifest.split("test").rows) is None


def test_a_second_run_into_the_same_folder_is_refused(stage_1, grey_manifest, tiny_checkpoint) -> None:
    settings = _settings(grey_manifest, tiny_checkpoint, stage_1, 1)
    with pytest.raises(UserError, match="holds a run already"):
        train_scorer(settings)
    with pytest.raises(UserError, match=r"other settings \(optim\)"):
        train_scorer(settings, resume=True)


def test_checkpoints_hold_the_trained_tensors_only(bundled, grey_manifest, tmp_path) -> None:
    settings = _settings(
        grey_manifest, Path("bundled"), tmp_path / "r", 2, trainable=TrainableSettings(), max_steps=2
    )
    model = train_scorer(settings)
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert set(load_file(tmp_path / "r/checkpoint-2/trained.safetensors")) == trained
    assert not any("embed_tokens" in n for n in trained)
    adapters = load_file(tmp_path / "r/model/adapter_model.safetensors")
    b = {n: t for n, t in adapters.items() if "lora_B" in n}
    assert b
    assert all(t.abs().max() > 0 for t in b.values())


def test_resume_goes_on_where_a_run_was_cut(grey_manifest, tiny_scorer_folder, tmp_path) -> None:
    whole = train_scorer(_settings(grey_manifest, tiny_scorer_folder, tmp_path / "whole", 2))
    settings = _settings(grey_manifest, tiny_scorer_folder, tmp_path / "cut", 2)
    train_scorer(settings)
    # as if killed in the middle of writing the last checkpoint
    (tmp_path / "cut/checkpoint-24/complete").unlink()
    earlier = last_checkpoint(tmp_path / "cut")
    assert earlier is not None
    assert earlier.name != "checkpoint-24"
    resumed = train_scorer(settings, resume=True)
    for (name, p), q in zip(whole.named_parameters(), resumed.parameters(), strict=True):
        assert torch.equal(p, q), name


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_learning_from_photos_leaves_a_scorer_and_can_be_resumed(
    stage, small_pack, grey_manifest, tiny_checkpoint, tmp_path
) -> None:
    photos = PhotoSettings(str(small_pack), images=32, size=48, reference_every=2)
    settings = _settings(grey_manifest, tiny_checkpoint, tmp_path / "r", stage, photos=photos)
    settings.optim.epochs = 1
    whole = train_scorer(settings)
    saved = HarmonyIQA.from_pretrained(tmp_path / "r/model")
    assert saved.settings.map_cells == photos.map_cells
    assert saved.settings.mos_std == pytest.approx(whole.settings.mos_std)
    steps = sorted(int(p.name.split("-")[1]) for p in (tmp_path / "r").glob("checkpoint-*"))
    assert steps[-1] == 32 // settings.optim.batch_size
    (tmp_path / f"r/checkpoint-{steps[-1]}/complete").unlink()
    resumed = train_scorer(settings, resume=True)
    for (name, p), q in zip(whole.named_parameters(), resumed.parameters(), strict=True):
        assert torch.equal(p, q), name


def test_stage_0_needs_photos(tmp_path) -> None:
    with pytest.raises(UserError, match="stage 0 learns from"):
        _settings(tmp_path, tmp_path, tmp_path, 0)


@pytest.mark.parametrize("stage", [1, 2])
def test_four_accumulated_singles_are_one_batch_of_four(
    grey_manifest, tiny_checkpoint, tiny_scorer_folder, tmp_path, stage
) -> None:
    results = []
    for batch_size, accumulation in ((4, 1), (1, 4)):
        optim = OptimSettings(
            1e-3,
            batch_size=batch_size,
            accumulation=accumulation,
            precision="fp32",
            gradient_checkpointing=False,
        )
        settings = _settings(
            grey_manifest,
            tiny_checkpoint if stage == 1 else tiny_scorer_folder,
            tmp_path / f"{batch_size}",
            stage,
            optim=optim,
            max_steps=2,
            data=DataSettings(str(grey_manifest), mode="nr", flip=False, workers=0),
        )
        train_scorer(settings)
        lines = (tmp_path / f"{batch_size}/history.jsonl").read_text().splitlines()
        results.append([json.loads(line) for line in lines if "grad_norm" in line])
    for one, other in zip(*results, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)
        assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mode": "fr", "drop": "reference"}, "has no reference"),
        ({"drop": "mos"}, "has no mos"),
        ({"drop": "split"}, "split 'train'"),
    ],
)
def test_data_that_does_not_fit_is_refused(grey_manifest, tiny_checkpoint, tmp_path, change, message) -> None:
    from dataclasses import replace

    from harmonyiqa.data.manifest import read_manifest, relocated, write_manifest

    rows = [
        replace(r, **{change["drop"]: None})
        for r in relocated(read_manifest(grey_manifest), tmp_path / "m.csv")
    ]
    write_manifest(rows, tmp_path / "m.csv")
    data = DataSettings(str(tmp_path / "m.csv"), mode=change.get("mode", "nr"), workers=0)
    with pytest.raises(UserError, match=message):
        train_scorer(_settings(tmp_path / "m.csv", tiny_checkpoint, tmp_path / "r", 1, data=data))


@pytest.mark.slow
def test_two_processes_train_a_step(grey_manifest, tiny_scorer_folder, tmp_path) -> None:
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"),
        *("scripts/train_stage2.py", "--config", "configs/tiny_stage2.yaml", "--max_steps", "2"),
        *(
            "--data.manifest",
            str(grey_manifest),
            "--start.model",
            str(tiny_scorer_folder),
            "--data.workers",
            "0",
        ),
        *("--start.head", "null"),  # the bundled model's has another width
        *("--out", str(tmp_path / "two"), "--optim.batch_size", "4"),
    ]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads((tmp_path / "two/metrics.json").read_text())["steps"] == 2
    assert isinstance(
        HarmonyIQA.from_pretrained(tmp_path / "two/model").score(open_rgb(grey_manifest.parent / "1.png")),
        float,
    )
