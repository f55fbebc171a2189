"""AICT end to end on made-up composites whose foreground is too dark."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from harmonyiqa import cli
from harmonyiqa.config import (
    AictDataSettings,
    AictOptimSettings,
    AictSettings,
    AictTrainSettings,
    AictValidationSettings,
    PhotoSettings,
)
from harmonyiqa.data.manifest import Row, write_manifest
from harmonyiqa.errors import UserError
from harmonyiqa.harmonize.network import AICT
from harmonyiqa.train.aict import AictTrainer, train_aict
from harmonyiqa.train.composites import composite_maker
from harmonyiqa.train.trainer import last_checkpoint
from harmonyiqa.train.triplets import MadeTriplets, Triplet, TripletCollator, TripletDataset

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def dark(tmp_path_factory) -> Path:
    """24 composites of several sizes: the foreground is the photo at 60% of its light."""
    folder = tmp_path_factory.mktemp("dark")
    rows = []
    for i in range(24):
        random = np.random.default_rng(i)
        width, height = (int(x) for x in random.integers(24, 48, 2))
        coarse = random.integers(90, 240, (3, 3, 3), dtype=np.uint8)
        photo = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
        mask = np.zeros((height, width), np.uint8)
        mask[height // 4 : height // 2 + 4, width // 4 : width // 2 + 6] = 255
        composite = np.where(mask[..., None] > 0, photo * 0.6, photo).astype(np.uint8)
        for name, array in (("real", photo), ("mask", mask), ("image", composite)):
            Image.fromarray(array).save(folder / f"{i}_{name}.png")
        split = "train" if i < 16 else "val" if i < 20 else "test"
        rows.append(Row(f"{i}_image.png", f"{i}_real.png", mask=f"{i}_mask.png", content=str(i), split=split))
    rows.append(replace(rows[0], image="decoy.png", extra={"decoy": "exposure"}))
    rows.append(replace(rows[0], image="paste.png", method="paste"))
    write_manifest(rows, folder / "manifest.csv")
    return folder / "manifest.csv"


def _settings(manifest: Path, out: Path, **changes) -> AictTrainSettings:
    values = {
        "stage": "aict",
        "out": str(out),
        "data": AictDataSettings(str(manifest), workers=0),
        "network": AictSettings(low_resolution=16, dropout=0.0),
        "optim": AictOptimSettings(learning_rate=3e-4, epochs=2, batch_size=4),
        "validation": AictValidationSettings(per_epoch=1),
    }
    return AictTrainSettings(**{**values, **changes})


@pytest.fixture(scope="module")
def run(dark, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "aict"
    optim = AictOptimSettings(learning_rate=3e-4, epochs=8, batch_size=4)
    train_aict(_settings(dark, out, optim=optim, validation=AictValidationSettings(per_epoch=0.5)))
    return out


def test_it_learns_to_lighten(run) -> None:
    history = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    validations = [h for h in history if "eval_fmse" in h]
    assert validations[-1]["eval_fmse"] < 0.5 * validations[-1]["eval_composite_fmse"]
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["best_val_fmse"] == min(h["eval_fmse"] for h in validations)
    rates = [h["learning_rate"] for h in history if "learning_rate" in h]
    assert rates[0] == pytest.approx(3e-4)
    assert rates[-1] < 0.2 * rates[0]


def test_the_run_folder_is_that_of_the_scorer(run) -> None:
    assert {"settings.yaml", "environment.json", "split.json", "history.jsonl", "metrics.json", "model"} <= {
        p.name for p in run.iterdir()
    }
    assert AICT.from_pretrained(run / "model").config.low_resolution == 16
    assert (run / "model/split.json").is_file()


def test_decoys_and_pastes_have_no_truth(dark) -> None:
    from harmonyiqa.data.manifest import read_manifest

    data = TripletDataset(read_manifest(dark), "train", AictDataSettings(str(dark)), augment=False)
    assert len(data) == 16


def test_crops_keep_half_of_each_side_and_some_foreground(dark) -> None:
    from harmonyiqa.data.manifest import read_manifest

    data = TripletDataset(read_manifest(dark), "train", AictDataSettings(str(dark)), augment=True)
    whole = TripletDataset(read_manifest(dark), "train", AictDataSettings(str(dark)), augment=False)
    seen = set()
    for _ in range(6):
        for part, full in zip(data, whole, strict=True):
            assert all(a >= round(b / 2) for a, b in zip(part.mask.shape, full.mask.shape, strict=True))
            assert part.mask.any()
            dark_again = (part.real[part.mask > 0] * 0.6).astype(np.uint8)  # still aligned
            np.testing.assert_array_equal(part.image[part.mask > 0], dark_again)
            seen.add(part.mask.shape)
    assert len(seen) > 10
    small = TripletDataset(
        read_manifest(dark), "val", AictDataSettings(str(dark), max_side=20), augment=False
    )
    assert {max(t.mask.shape) for t in (small[i] for i in range(len(small)))} == {20}


def test_a_batch_holds_photos_of_their_own_sizes(dark) -> None:
    from harmonyiqa.data.manifest import read_manifest

    data = TripletDataset(read_manifest(dark), "val", AictDataSettings(str(dark)), augment=False)
    mirrored = Triplet(*(part[:, ::-1] for part in (data[0].image, data[0].mask, data[0].real)))
    batch = TripletCollator(16)([mirrored, data[1]])
    np.testing.assert_array_equal(batch["images"][0].permute(1, 2, 0).flip(1), data[0].image)
    assert next(iter(batch)) == "small_images"
    assert batch["small_images"].shape == (2, 3, 16, 16)
    assert batch["small_masks"].shape == (2, 1, 16, 16)
    assert batch["images"][0].shape[1:] == batch["masks"][0].shape[1:] == data[0].mask.shape
    assert batch["images"][0].dtype == torch.uint8


@pytest.mark.parametrize(("average", "optimizer"), [(0, "adam"), (0.9, "muon")])
def test_resume_goes_on_where_a_run_was_cut(dark, tmp_path, average, optimizer) -> None:
    optim = AictOptimSettings(
        learning_rate=3e-4, epochs=2, batch_size=4, average=average, optimizer=optimizer
    )
    whole = train_aict(_settings(dark, tmp_path / "whole", optim=optim))
    settings = _settings(dark, tmp_path / "cut", optim=optim)
    train_aict(settings)
    (tmp_path / "cut/checkpoint-8/complete").unlink()  # as if killed while writing it
    earlier = last_checkpoint(tmp_path / "cut")
    assert earlier is not None
    assert earlier.name == "checkpoint-4"
    resumed = train_aict(settings, resume=True)
    torch.testing.assert_close(resumed.state_dict(), whole.state_dict(), atol=0, rtol=0)


def test_the_mean_of_weights_is_what_is_validated_and_kept(dark, tmp_path) -> None:
    optim = AictOptimSettings(learning_rate=3e-4, batch_size=4, average=0.75)
    found = train_aict(_settings(dark, tmp_path / "mean", optim=optim, max_steps=2)).state_dict()
    (checkpoint,) = (tmp_path / "mean").glob("checkpoint-2")
    mean, last = (load_file(checkpoint / f"{name}.safetensors") for name in ("mean", "network"))
    torch.testing.assert_close(found, mean, atol=0, rtol=0)
    one = replace(optim, average=0)  # the first step is the same: its rate has not begun to fall
    first = train_aict(_settings(dark, tmp_path / "one", optim=one, max_steps=1))
    name = next(key for key, tensor in found.items() if tensor.ndim == 2)
    expected = 0.75 * first.state_dict()[name] + 0.25 * last[name]
    torch.testing.assert_close(mean[name], expected)
    assert not torch.equal(mean[name], last[name])


def test_checkpoints_hold_batch_statistics(run) -> None:
    (checkpoint, *_) = sorted(run.glob("checkpoint-*"))
    tensors = load_file(checkpoint / "network.safetensors")
    assert tensors.keys() == AICT(AictSettings(low_resolution=16)).state_dict().keys()
    assert tensors["scene.1.running_mean"].abs().max() > 0


def test_it_learns_from_composites_made_while_it_trains(dark, small_pack, tmp_path) -> None:
    photos = PhotoSettings(str(small_pack), images=24, size=32)
    settings = _settings(dark, tmp_path / "r", photos=photos, optim=AictOptimSettings(batch_size=4, epochs=1))
    train_aict(settings)
    assert json.loads((tmp_path / "r/metrics.json").read_text())["steps"] == 6
    maker = composite_maker(photos, tmp_path / "r", "train", tile=32, seed=0)
    data = MadeTriplets(maker, batches=8, size=4)
    for first, again in zip(data[3], data[3], strict=True):
        assert all(np.array_equal(getattr(first, part), getattr(again, part)) for part in ("image", "real"))
    batch = TripletCollator(16)([data[0], data[1]])
    assert batch["small_images"].shape == (8, 3, 16, 16)
    changed = 0
    for image, mask, real in zip(batch["images"], batch["masks"], batch["reals"], strict=True):
        difference = (image.float() - real.float()).abs().mean(0)
        outside, inside = difference[mask[0] == 0].mean(), difference[mask[0] == 255].mean()
        assert outside < 1  # a change of the whole photo is in both
        changed += bool(inside > 4)
    assert changed >= 4


def test_the_rate_is_constant_then_falls_to_zero() -> None:
    trainer = AictTrainer.__new__(AictTrainer)
    trainer.constant, trainer.lr_scheduler = 0.5, None
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = trainer.create_scheduler(100, optimizer)
    rates = []
    for _ in range(100):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    assert rates[:51] == [1.0] * 51
    np.testing.assert_allclose(rates[50:], 1 - np.arange(50) / 50)


def test_it_goes_on_from_a_saved_network_of_another_resolution(run, dark, tmp_path) -> None:
    network = AictSettings(low_resolution=32, dropout=0.0)
    settings = _settings(dark, tmp_path / "r", start=str(run / "model"), network=network, max_steps=1)
    tuned = train_aict(settings)
    before = AICT.from_pretrained(run / "model")
    assert tuned.config.low_resolution == 32
    assert torch.allclose(tuned.embed.weight, before.embed.weight, atol=1e-3)
    wrong = replace(settings, out=str(tmp_path / "w"), network=AictSettings(16, tables="v"))
    with pytest.raises(UserError, match="has the layout"):
        train_aict(wrong)


def test_data_without_truth_or_validation_is_refused(dark, tmp_path) -> None:
    from harmonyiqa.data.manifest import read_manifest, relocated

    rows = relocated(read_manifest(dark), tmp_path / "m.csv")
    write_manifest([row for row in rows if row.split != "val"], tmp_path / "m.csv")
    with pytest.raises(UserError, match="no row of split 'val'"):
        train_aict(_settings(tmp_path / "m.csv", tmp_path / "a"))
    write_manifest([replace(row, reference=None) for row in rows], tmp_path / "m.csv")
    with pytest.raises(UserError, match="no row with a mask and a reference"):
        train_aict(_settings(tmp_path / "m.csv", tmp_path / "b"))


@pytest.mark.slow
@pytest.mark.parametrize("config", ["aict_tiny_32.yaml", "aict_iharmony4.yaml"])
def test_two_processes_train_two_steps_by_a_shipped_config(dark, small_pack, tmp_path, config) -> None:
    photos = (
        ("--photos.folder", str(small_pack)) if config == "aict_tiny_32.yaml" else ()
    )  # the other reads files
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"),
        *("scripts/train_aict.py", "--config", f"configs/{config}", "--max_steps", "2"),
        *(*photos, "--optim.batch_size", "4"),
        *("--data.manifest", str(dark), "--network.low_resolution", "16", "--out", str(tmp_path / "two")),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads((tmp_path / "two/metrics.json").read_text())["steps"] == 2
    assert "fMSE" in (tmp_path / "two/model/README.md").read_text()


def test_settings_of_the_scorer_are_unknown_to_aict(capsys, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    assert cli.main(["train", "--config", "configs/aict_tiny.yaml", "--trainable.vision", "full"]) == 2
    assert "trainable.vision" in capsys.readouterr().err
