"""A vision tower learns by itself, and the checkpoint around it stays what it was."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Literal

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import EvalPrediction

from harmonyiqa import cli
from harmonyiqa.config import (
    OptimSettings,
    PhotoSettings,
    StartSettings,
    TowerTrainSettings,
    ValidationSettings,
)
from harmonyiqa.data.manifest import Row, write_manifest
from harmonyiqa.errors import UserError
from harmonyiqa.model.backbone import load_backbone
from harmonyiqa.model.tiny import make_tiny_model
from harmonyiqa.model.tower import StemVisionConfig, StemVisionModel
from harmonyiqa.train.tower import TowerJudge, separation, train_tower

SMALL = ((3, 1, 1, 8, 1), (3, 2, 2, 12, 2), (5, 2, 2, 16, 1))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("first") / "model", stem=True)


@pytest.fixture
def settings(checkpoint: Path, split_pack: Callable[[str, str], Path], tmp_path: Path) -> TowerTrainSettings:
    return TowerTrainSettings(
        stage="tower",
        out=str(tmp_path / "run"),
        start=StartSettings(str(checkpoint)),
        photos=PhotoSettings(str(split_pack("pets[04]", "val")), images=24, size=48, mildest=6, decoys=0),
        optim=OptimSettings(
            epochs=1, batch_size=4, learning_rate=1e-3, precision="fp32", gradient_checkpointing=False
        ),
        validation=ValidationSettings(per_epoch=2, patience=0, max_images=40),
    )


def _weights(folder: Path | str) -> dict[str, torch.Tensor]:
    return load_backbone(folder, max_tiles=1, dtype=torch.float32).model.state_dict()


def test_only_the_tower_learns_and_the_best_one_is_kept(settings: TowerTrainSettings) -> None:
    train_tower(settings)
    out = Path(settings.out)
    before, after = _weights(settings.start.model), _weights(out / "model")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if ".vision_tower." in name}
    history = [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]
    validated = [line for line in history if "eval_auc_strong" in line]
    assert [line["step"] for line in validated] == [3, 6]
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["best_val_auc_strong"] == max(line["eval_auc_strong"] for line in validated)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_run_goes_on_where_it_stopped(
    settings: TowerTrainSettings, optimizer: Literal["adamw", "muon"]
) -> None:
    settings.optim.optimizer = optimizer
    train_tower(settings)
    whole = _weights(Path(settings.out) / "model")
    (Path(settings.out) / "checkpoint-6" / "complete").unlink()  # as if it had been cut off there
    train_tower(settings, resume=True)
    again = _weights(Path(settings.out) / "model")
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_a_trained_stem_is_measured_with_its_heads(
    settings: TowerTrainSettings,
    tmp_path: Path,
    load_script: Callable[[str], ModuleType],
    capsys: pytest.CaptureFixture[str],
) -> None:
    train_tower(settings)
    script = load_script("evaluate_tower")
    judge, tile = script.load_judge(Path(settings.out))
    assert tile == 32
    kept = load_file(Path(settings.out) / "checkpoint-6" / "model.safetensors")
    assert all(torch.equal(value, kept[name]) for name, value in judge.state_dict().items())

    rows = []
    for scene in range(4):
        for kind, severity, value in (("untouched", 0, 90), ("strong", 20, 160)):
            name = f"{kind}{scene}.png"
            Image.new("RGB", (48, 40), (value, 10 * scene, 90)).save(tmp_path / name)
            extra = {"severity": severity, "source": "made"}
            rows.append(Row(name, group=kind, method=kind, content=f"{scene}-0", extra=extra))
    write_manifest(rows, tmp_path / "manifest.csv")
    again = tmp_path / "again"
    again.symlink_to(Path(settings.out).resolve())
    assert script.main(f"{settings.out},{again}", str(tmp_path), every=2, bootstrap=10) == 0
    printed = capsys.readouterr().out
    assert "4 images" in printed
    assert f"again less {Path(settings.out).name}" in printed
    strong = next(line for line in printed.splitlines() if line.startswith("| untouched / strong"))
    first, second, less = strong.split("|")[2:5]
    assert first == second
    assert "0.000 [0.000, 0.000]" in less
    with pytest.raises(UserError, match="not a run of stage tower"):
        script.load_judge(tmp_path)


def test_trains_from_the_command_line(settings: TowerTrainSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    words = f"""train --config bundled_tower.yaml --out {settings.out} --start.model {settings.start.model}
        --photos.folder {settings.photos.folder} --photos.images 8 --photos.size 48 --optim.batch_size 4
        --validation.per_epoch 1 --validation.max_images 40"""
    assert cli.main(words.split()) == 0
    assert (Path(settings.out) / "model" / "model.safetensors").exists()


def test_a_model_without_a_stem_is_refused(settings: TowerTrainSettings, tiny_checkpoint: Path) -> None:
    with pytest.raises(UserError, match="no convolutional stem"):
        train_tower(replace(settings, start=StartSettings(str(tiny_checkpoint))))


def test_the_judge_learns_which_images_hold_a_patch_where_and_which_way() -> None:
    torch.manual_seed(0)
    config = StemVisionConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=[32, 32],
        patch_size=[8, 8],
        stem_width=8,
        stem_stages=SMALL,
        stem_taps=(1, 2),
        attn_implementation="sdpa",
    )
    judge = TowerJudge(StemVisionModel(config))
    optimizer = torch.optim.AdamW(judge.parameters(), 3e-3)
    for _ in range(80):
        batch = _patches(16)
        loss = judge(**batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    batch = _patches(64)
    with torch.no_grad():
        altered, where, ways = judge.look(batch["images"])
    held = batch["severity"] > 0
    assert altered[held].min() > altered[~held].max()
    cells = torch.nn.functional.avg_pool2d(batch["alpha"], 8).flatten(1)
    place = cells.argmax(1)
    assert (where.flatten(1).argmax(1) == place)[held].float().mean() > 0.9
    # brighter by far, and of no other hue
    lighter, *turned = (ways.flatten(2)[held, :, place[held]].mean(0) * 10).tolist()
    assert lighter > 10
    assert max(map(abs, turned)) < 0.2 * lighter


def _patches(count: int) -> dict[str, torch.Tensor]:
    """Grey noise, every second image with a bright cell of 8 x 8 pixels."""
    images = 0.4 + 0.05 * torch.randn(count, 1, 32, 32).expand(-1, 3, -1, -1)
    alpha = torch.zeros(count, 1, 32, 32)
    severity = torch.zeros(count)
    for index in range(0, count, 2):
        row, column = torch.randint(4, (2,)).tolist()
        alpha[index, :, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = 1
        severity[index] = 15
    return {
        "images": (images + 0.4 * alpha).clamp(0, 1),
        "severity": severity,
        "alpha": alpha,
        "fitting": images.clamp(0, 1),
    }


def test_separation_takes_untouched_images_against_each_bin() -> None:
    severity = np.array([0.0, 0.2, 7, 8, 13, 20, 4])
    altered = np.array([-1.0, 0.5, 0.0, 1, 2, 3, -9])
    found = separation(EvalPrediction(predictions=altered, label_ids=severity))
    assert found == {"auc_medium": 0.75, "auc_strong": 1.0}
