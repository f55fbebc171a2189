"""``harmonyiqa score``: files, folders, a manifest or shards in; a table, a file and a page out."""

import os
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from harmonyiqa.data.tables import SUFFIXES
from harmonyiqa.errors import UserError
from harmonyiqa.files import enough_room
from harmonyiqa.images import DEFAULT_MAX_PIXELS
from harmonyiqa.scoring.sources import Source
from harmonyiqa.scoring.table import render

if TYPE_CHECKING:
    import torch

    from harmonyiqa import HarmonyIQA


def score(
    paths: list[str],
    reference: str | None = None,
    model: str | None = None,
    out: str | None = None,
    report: str | None = None,
    explain: str | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
    device: str | None = None,
    text: bool = False,
    no_reference: bool = False,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    restart: bool = False,
    follow_links: bool = False,
    split: str | None = None,
) -> int:
    """Score how harmonious composite images look, from 0 to 100; higher is better.

    Args:
        paths: Image files, folders (with all below them), quoted patterns, lists of files (.txt); or one manifest
            (.csv, .jsonl, .parquet); or tar shards, Parquet files of images, folders of `save_to_disk`, and hub
            datasets (hf://datasets/OWNER/NAME).
        reference: The untouched photo of all images, or a folder of photos, paired by name without suffix.
        model: A model folder or a hub id. Default: the bundled model, no network needed.
        out: Write the predictions here: .csv, .jsonl or .parquet. A run that was killed goes on where it stopped
            when it is started again.
        report: Write a self-contained page here: .html.
        explain: Write heat maps of what looks altered into this folder, and show them on the page.
        batch_size: Images a model call at most. Default: as many as the device's token budget holds.
        workers: Processes that decode images. Default: none on a CPU, which the model keeps busy by itself;
            otherwise as many as there are cores to spare, eight at most.
        device: Where the model runs, such as cpu or cuda:1. Default: a GPU if there is one.
        text: Read the score from the sentence that the model generates, not from its score head.
        no_reference: Score every image by itself, whatever references a manifest, shard or dataset has.
        max_pixels: The most pixels (width x height) an image may have.
        restart: Forget what an interrupted run has scored.
        follow_links: Read links that lead out of a folder, and go into linked folders.
        split: The split of a dataset.

    Returns:
        0 if every image was scored, 1 if some could not be; each of these has its row with the reason.

    Raises:
        UserError: if a path, a setting or the model is wrong, and nothing has been scored then; if another run
            writes `out`, or the disk is full.
    """
    for name, value, least in (
        ("batch_size", batch_size, 1),
        ("workers", workers, 0),
        ("max_pixels", max_pixels, 1),
    ):
        if value is not None and value < least:
            raise UserError(f"{name} {value} must be at least {least}")
    if restart and out is None:
        raise UserError("restart goes with out: without a file nothing is kept, and every run starts over")
    source = Source(paths, reference, no_reference=no_reference, follow_links=follow_links, split=split)
    _check_writable("out", out, SUFFIXES, paths)
    _check_writable("report", report, (".html", ".htm"), paths)

    import torch.distributed  # slow imports wait until the arguments are known to be good

    from harmonyiqa import HarmonyIQA
    from harmonyiqa.scoring.engine import summarize
    from harmonyiqa.scoring.resume import score_to_file

    main_process, processes, default_device = _meet(device)
    scorer = HarmonyIQA.from_pretrained(model, device=_device(device, default_device))
    if explain is not None:
        scorer.require_map_head()
    if workers is None:
        workers = _spare_cores(scorer.device.type, processes)
    if out is None:
        summary = summarize(
            scorer,
            source,
            total=source.total,
            batch_size=batch_size,
            workers=workers,
            text=text,
            max_pixels=max_pixels,
        )
    else:
        asked = {
            "paths": paths,
            "reference": reference,
            "no_reference": no_reference,
            "follow_links": follow_links,
            "split": split,
        }
        summary = score_to_file(
            scorer,
            source,
            out,
            asked=asked,
            restart=restart,
            batch_size=batch_size,
            workers=workers,
            text=text,
            max_pixels=max_pixels,
        )
    heat_map: Callable[[str], Path] | None = None
    if explain is not None:
        from harmonyiqa.scoring import explain as heat

        heat.explain(
            scorer,
            source,
            explain,
            total=source.total,
            batch_size=batch_size,
            workers=workers,
            max_pixels=max_pixels,
        )
        heat_map = partial(heat.map_path, explain)
    if processes > 1:
        torch.distributed.destroy_process_group()
    if not main_process:
        return 0  # the main process speaks for all: a launcher would stop it at another's first failure
    note = model_note(scorer)
    if report is not None:
        from harmonyiqa.report.page import write_page

        title = paths[0] if len(paths) == 1 else f"{len(paths)} paths"
        with enough_room(report, "make room and run the same command again"):
            write_page(
                summary,
                source,
                report,
                title=title,
                model_note=note,
                heat_map=heat_map,
                max_pixels=max_pixels,
            )
    print(render(summary, note))
    for kind, path in (("predictions", out), ("page", report), ("heat maps", explain)):
        if path is not None:
            print(f"{kind}: {path}")
    return int(summary.failed > 0)


def _check_writable(name: str, file: str | None, suffixes: tuple[str, ...], inputs: list[str]) -> None:
    """Refuse what cannot be written before anything is scored: no hour of work is to be lost at its end."""
    if file is None:
        return
    path = Path(file)
    if path.suffix.lower() not in suffixes:
        raise UserError(f"{name} {file!r} must end in one of {' '.join(suffixes)}")
    if path.is_dir() or path.resolve() in [Path(given).resolve() for given in inputs]:
        raise UserError(f"{name} {file!r} would overwrite an input or a folder: choose another name")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{name} {file!r} cannot be written: {error.strerror}") from error
    if not os.access(path.parent, os.W_OK):
        raise UserError(f"{name} {file!r} cannot be written: no permission in {path.parent}")


def _meet(device: str | None) -> tuple[bool, int, "torch.device"]:
    """Whether this is the main process, how many there are, and the device of each.

    Only under a launcher is there anybody to meet: accelerate's state, once made, holds until Python ends.
    """
    default = pick_device(None)
    if "LOCAL_RANK" not in os.environ:
        return True, 1, default
    from accelerate import PartialState

    # whoever is done early waits for the others; the launcher sees to it that nobody waits for the dead
    state = PartialState(cpu="cpu" in (default.type, device), timeout=timedelta(days=7))
    return state.is_main_process, state.num_processes, state.device


def pick_device(name: str | None) -> "torch.device":
    """The device of this name; without one a GPU if there is one, else the CPU.

    Raises:
        UserError: it cannot be used here.
    """
    import torch

    gpu = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return _device(name, gpu or torch.device("cpu"))


def _device(name: str | None, default: "torch.device") -> "torch.device":
    if name is None:
        return default
    import torch

    try:
        return torch.empty(0, device=name).device
    except (AssertionError, NotImplementedError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"device {name!r} cannot be used here ({reason}); give cpu, or leave it out"
        ) from error


def _spare_cores(device: str, processes: int) -> int:
    """Decoding workers: on a CPU the model keeps every core busy, and more processes only make it wait."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return 0 if device == "cpu" else min(8, max(1, cores // processes - 1))


def model_note(model: "HarmonyIQA") -> str:
    """What to know about a scorer beside its scores: its name, and what it learned from."""
    kind = model.settings.mos_kind
    trained = f", trained on {kind} scores" if kind else ""
    if kind == "synthetic":
        trained += " (measured colour differences), not on people's votes"
    return f"model {model.name}{trained}"
