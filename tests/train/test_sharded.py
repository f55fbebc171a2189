"""Launcher settings load, and sharded weights are trained, gathered, saved and put back as whole ones are."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed
from accelerate.commands.config.config_args import load_config_from_file
from safetensors.torch import load_file, save_file
from torch.distributed.fsdp import fully_shard

from harmonyiqa.config import StartSettings, TrainableSettings
from harmonyiqa.model.lora import set_trainable
from harmonyiqa.model.storage import start
from harmonyiqa.train.trainer import load_trained_tensors, trained_tensors

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("kill_and_resume.py")
CONFIGS = sorted((ROOT / "configs/accelerate").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_a_launcher_config_loads_and_names_its_command(path) -> None:
    config = load_config_from_file(str(path))  # refuses unknown keys
    assert (config.num_machines, config.mixed_precision) == (1, "bf16")
    command = f"accelerate launch --config_file configs/accelerate/{path.name} --num_processes 8 scripts/"
    lines = path.read_text().splitlines()
    assert any(command in line for line in lines)
    for word in " ".join(lines).split():
        if word.startswith(("configs/", "scripts/")):
            assert (ROOT / word).is_file(), word
    if path.stem.startswith("fsdp"):
        from accelerate import FullyShardedDataParallelPlugin
        from accelerate.utils import patch_environment

        names = {k: str(v) for k, v in config.fsdp_config.items()}
        with patch_environment(**{k.upper(): v for k, v in names.items()}):
            plugin = FullyShardedDataParallelPlugin()
        assert plugin.fsdp_version == 2
    if path.stem.startswith("deepspeed"):
        assert config.deepspeed_config["zero_stage"] == int(path.stem[-1])


def test_every_kind_of_sharding_ships() -> None:
    assert {p.stem for p in CONFIGS} == {
        *("ddp", "fsdp_lora", "fsdp_qlora", "deepspeed_zero2", "deepspeed_zero3"),
    }


@pytest.fixture
def one_process():
    """A process group of one, on the CPU."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield torch.distributed.init_device_mesh("cpu", (1,))
    torch.distributed.destroy_process_group()


def test_sharded_weights_are_saved_whole_and_come_back(tiny_checkpoint, tmp_path, one_process) -> None:
    def model():
        torch.manual_seed(0)
        made = start(StartSettings(str(tiny_checkpoint), max_tiles=1), TrainableSettings(), 2)
        set_trainable(made, TrainableSettings(), 2)
        return made

    plain, sharded = model(), model()
    names = set(sharded._no_split_modules)
    assert names == {"InternVLVisionLayer", "Qwen2DecoderLayer"}
    for module in list(sharded.modules()):
        if type(module).__name__ in names:
            fully_shard(module, mesh=one_process)
    fully_shard(sharded, mesh=one_process)
    expected, found = trained_tensors(plain), trained_tensors(sharded)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    assert not any(isinstance(t, torch.distributed.tensor.DTensor) for t in found.values())

    save_file({name: tensor + 1 for name, tensor in expected.items()}, tmp_path / "t.safetensors")
    load_trained_tensors(sharded, tmp_path / "t.safetensors")
    after = trained_tensors(sharded)
    assert all(torch.equal(after[name], tensor + 1) for name, tensor in expected.items())


@pytest.mark.slow
def test_fsdp_in_two_processes_trains_and_saves_what_ddp_does(
    tiny_scorer_folder, grey_manifest, tmp_path
) -> None:
    plain = {
        "out": str(tmp_path / "plain"),
        "model": "bundled",
        "bundled": str(tiny_scorer_folder),
        "manifest": str(grey_manifest),
        "processes": 2,
        "steps": 2,
        "kill": None,
        "step": 0,
        "resume": False,
    }
    sharded = {**plain, "out": str(tmp_path / "sharded"), "sharded": True}
    killed = {**sharded, "out": str(tmp_path / "resumed"), "kill": "step", "step": 2}
    jobs = [plain, sharded, killed, {**killed, "kill": None, "resume": True}]
    (tmp_path / "jobs.json").write_text(json.dumps(jobs))
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path / "jobs.json")],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    # the optimiser's shards, one file a process: what only FSDP writes
    assert len(list((tmp_path / "sharded/checkpoint-2/optimizer_0").glob("*.distcp"))) == 2
    whole = tmp_path / "plain/model"
    for name in ("sharded", "resumed"):
        found = tmp_path / name / "model"
        assert {p.name for p in found.iterdir()} == {p.name for p in whole.iterdir()}
        assert (found / "adapter_model.safetensors").is_file()  # the layout is adapter, and no base is in it
        for file in whole.glob("*.safetensors"):
            expected = load_file(file)
            torch.testing.assert_close(load_file(found / file.name), expected, rtol=1e-4, atol=1e-6)
