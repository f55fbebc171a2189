"""Runs that are killed and resumed, whole or sharded, for the tests beside it: `python kill_and_resume.py JOBS.json`.

Every run is a fork of this process, which trains nothing itself, so that the libraries are loaded once.
"""

import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from transformers import TrainerCallback

from harmonyiqa.config import (
    DataSettings,
    OptimSettings,
    StartSettings,
    TrainableSettings,
    TrainSettings,
    ValidationSettings,
)
from harmonyiqa.model import storage
from harmonyiqa.train import scorer, trainer

FSDP = Path(__file__).parents[2] / "configs/accelerate/fsdp_lora.yaml"


class Killer(TrainerCallback):
    """Ends the process as a power cut would, after a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def settings_of(job: dict[str, Any]) -> TrainSettings:
    """LoRA with dropout and flips; in twelve steps a checkpoint after 4, 8 and 12, in the middle of epochs too."""
    optim = OptimSettings(
        1e-2, epochs=3, batch_size=4 // job["processes"], accumulation=2, precision="fp32", warmup=0.1
    )
    return TrainSettings(
        2,
        job["out"],
        DataSettings(job["manifest"], mode="both" if job["processes"] == 1 else "nr", workers=0),
        start=StartSettings(job["model"], max_tiles=1),
        trainable=TrainableSettings(),
        optim=optim,
        validation=ValidationSettings(per_epoch=2, patience=0),
        max_steps=job.get("steps", 12),
    )


def shard() -> None:
    """FSDP as `accelerate launch --config_file configs/accelerate/fsdp_lora.yaml` sets it up, on the CPU.

    accelerate does not take FSDP there (`AcceleratorState.__init__`): this one condition is lifted.
    """
    shipped = load_config_from_file(str(FSDP)).fsdp_config
    os.environ |= {"ACCELERATE_USE_FSDP": "true"} | {k.upper(): str(v) for k, v in shipped.items()}
    make = AcceleratorState.__init__

    def lifted(self: AcceleratorState, *given: Any, fsdp_plugin: Any = None, **named: Any) -> None:
        make(self, *given, fsdp_plugin=fsdp_plugin, **named)
        if fsdp_plugin is not None and self.distributed_type == DistributedType.MULTI_CPU:
            self.fsdp_plugin, self.distributed_type = fsdp_plugin, DistributedType.FSDP
            PartialState._shared_state["distributed_type"] = DistributedType.FSDP

    AcceleratorState.__init__ = lifted


def run(job: dict[str, Any]) -> None:
    """One run, in this process."""
    if job.get("sharded"):
        shard()
    if "bundled" in job:
        storage.BUNDLED = Path(job["bundled"])
    if job["kill"] == "step":
        callbacks = scorer.callbacks
        scorer.callbacks = lambda *given: [*callbacks(*given), Killer(job["step"])]
    if job["kill"] == "saving":  # everything is written but the note that says so
        write = trainer.write_json

        def cut(path: Path, value: Any) -> None:
            if path.parent.name == f"checkpoint-{job['step']}":
                os.kill(os.getpid(), signal.SIGKILL)
            write(path, value)

        trainer.write_json = cut
    scorer.train_scorer(settings_of(job), resume=job["resume"])


def start(job: dict[str, Any]) -> None:
    """One run, forked, as one process or several; it must end as the job says."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(job["processes"]):
        child = os.fork()
        if child == 0:
            if job["processes"] > 1:
                os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1"}
                os.environ |= {"WORLD_SIZE": str(job["processes"]), "MASTER_PORT": str(port)}
                os.environ["LOCAL_WORLD_SIZE"] = str(job["processes"])
            try:
                run(job)
            except BaseException as error:
                print(f"{job}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
                os._exit(1)
            os._exit(0)
        children.append(child)
    ends = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    wanted = -signal.SIGKILL if job["kill"] else 0
    if wanted not in ends:
        sys.exit(f"{job} ended with {ends}")


if __name__ == "__main__":
    for each in json.loads(Path(sys.argv[1]).read_text()):
        start(each)
