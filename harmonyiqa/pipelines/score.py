"""``harmonyiqa score``: files, folders or a manifest in; a table, a file and a page out."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from harmonyiqa.data.manifest import read_manifest
from harmonyiqa.data.predictions import write_predictions
from harmonyiqa.data.tables import SUFFIXES
from harmonyiqa.errors import UserError
from harmonyiqa.images import DEFAULT_MAX_PIXELS
from harmonyiqa.scoring.items import Item, items_from_manifest, items_from_paths
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
    batch_size: int = 16,
    workers: int | None = None,
    device: str | None = None,
    text: bool = False,
    no_reference: bool = False,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> int:
    """Score how harmonious composite images look, from 0 to 100; higher is better.

    Args:
        paths: Image files, folders (with all below them), or one manifest (.csv, .jsonl, .parquet).
        reference: The untouched photo of all images, or a folder of photos, paired by name without suffix.
        model: A model folder or a hub id. Default: the bundled model, no network needed.
        out: Write the predictions here: .csv, .jsonl or .parquet.
        report: Write a self-contained page here: .html.
        explain: Write heat maps of what looks altered into this folder, and show them on the page.
        batch_size: Images a model call.
        workers: Processes that decode images. Default: none on a CPU, which the model keeps busy by itself;
            otherwise as many as there are cores to spare, eight at most.
        device: Where the model runs, such as cpu or cuda:1. Default: a GPU if there is one.
        text: Read the score from the sentence that the model generates, not from its score head.
        no_reference: Ignore the references of a manifest.
        max_pixels: The most pixels (width x height) an image may have.

    Returns:
        0 if every image was scored, 1 if some could not be; each of these has its row with the reason.

    Raises:
        UserError: if a path, a setting or the model is wrong; nothing has been scored then.
    """
    for name, value, least in (
        ("batch_size", batch_size, 1),
        ("workers", workers, 0),
        ("max_pixels", max_pixels, 1),
    ):
        if value is not None and value < least:
            raise UserError(f"{name} {value} must be at least {least}")
    items, root = _items(paths, reference, no_reference)
    _check_writable("out", out, SUFFIXES, paths)
    _check_writable("report", report, (".html", ".htm"), paths)

    import torch.distributed  # slow imports wait until the arguments are known to be good

    from harmonyiqa import HarmonyIQA
    from harmonyiqa.scoring.engine import predict

    main_process, processes, default_device = _meet(device)
    scorer = HarmonyIQA.from_pretrained(model, device=_device(device, default_device))
    if explain is not None:
        scorer.require_map_head()
    if workers is None:
        workers = _spare_cores(scorer.device.type, processes)
    predictions = predict(
        scorer, items, batch_size=batch_size, workers=workers, text=text, max_pixels=max_pixels
    )
    heat = {}
    if explain is not None:
        from harmonyiqa.scoring.explain import explain as write_heat_maps

        heat = write_heat_maps(
            scorer, items, explain, batch_size=batch_size, workers=workers, max_pixels=max_pixels
        )
    if processes > 1:
        torch.distributed.destroy_process_group()
    if not main_process:
        return 0  # the main process speaks for all: a launcher would stop it at another's first failure
    note = model_note(scorer)
    if out is not None:
        write_predictions(predictions, out)
    if report is not None:
        from harmonyiqa.report.page import write_page

        title = paths[0] if len(paths) == 1 else f"{len(paths)} paths"
        write_page(
            predictions,
            report,
            title=title,
            model_note=note,
            image_root=root,
            heat_maps=heat,
            max_pixels=max_pixels,
        )
    print(render(predictions, note))
    for kind, path in (("predictions", out), ("page", report), ("heat maps", explain)):
        if path is not None:
            print(f"{kind}: {path}")
    return int(any(prediction.score is None for prediction in predictions))


def _items(paths: list[str], reference: str | None, no_reference: bool) -> tuple[list[Item], Path]:
    """What to score, and the folder that names in the predictions start from."""
    manifests = [path for path in paths if Path(path).suffix.lower() in SUFFIXES and not Path(path).is_dir()]
    if not manifests:
        if reference is not None and no_reference:
            raise UserError(
                f"reference {reference!r} and no_reference contradict each other: give one of them"
            )
        return items_from_paths(paths, reference), Path()
    if len(paths) > 1:
        raise UserError(f"{manifests[0]} is a manifest: score it alone, without other paths")
    if reference is not None:
        raise UserError(f"{manifests[0]} names its own references: leave reference {reference!r} out")
    manifest = read_manifest(manifests[0])
    return items_from_manifest(manifest, no_reference=no_reference), manifest.root


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

    state = PartialState(cpu="cpu" in (default.type, device))
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
