"""What the vision tower alone tells apart on the bundled model's test set, before there is a model around it.

    python scripts/evaluate_tower.py runs/bundled_tower_224 work/bundled_test --every 6
    python scripts/evaluate_tower.py runs/bundled_tower,runs/held_out work/bundled_test --size 128

The newest checkpoint of a `stage: tower` run still has the head that says whether an image was altered; the table is
that of `evaluate_bundled.py`. Of several runs each is compared with the first one too, on the same resamples.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from evaluate_bundled import markdown, measure, some_scenes
from jsonargparse import auto_cli
from PIL import Image
from safetensors.torch import load_model
from tqdm import tqdm

from harmonyiqa.data.manifest import Manifest, read_manifest
from harmonyiqa.errors import UserError
from harmonyiqa.images import open_rgb
from harmonyiqa.metrics import Floats
from harmonyiqa.model.backbone import load_backbone
from harmonyiqa.train.tower import TowerJudge
from harmonyiqa.train.trainer import last_checkpoint


def main(runs: str, folder: str, every: int = 1, size: int = 0, bootstrap: int = 1000, seed: int = 0) -> int:
    """Measure the towers of runs.

    Args:
        runs: folders of `stage: tower` runs, with commas between them.
        folder: what `make_bundled_test.py` wrote.
        every: only each so-many-th scene.
        size: side in pixels to which images are brought; 0: the model's own.
        bootstrap: resamples behind each interval.
        seed: seed of the resamples.
    """
    manifest = some_scenes(read_manifest(Path(folder) / "manifest.csv"), every)
    results = {}
    for run in map(Path, runs.split(",")):
        judge, tile = load_judge(run)
        results[run.name] = measure(manifest, judged(judge, manifest, size or tile), bootstrap, seed)
    first, *others = results
    for name in others:
        results[f"{name} less {first}"] = {
            place: {kind: cell - results[first][place][kind] for kind, cell in cells.items()}
            for place, cells in results[name].items()
        }
    print(markdown(results, manifest))
    return 0


def load_judge(run: Path) -> tuple[TowerJudge, int]:
    """The tower with its heads from the newest checkpoint, and the side of the model's tile.

    Raises:
        UserError: the run has no whole checkpoint, or its model does not lie there.
    """
    checkpoint = last_checkpoint(run)
    if checkpoint is None or not (run / "model").exists():
        raise UserError(f"{run} is not a run of stage tower that came to its end")
    model = load_backbone(str(run / "model"), max_tiles=1, dtype=torch.float32).model
    judge = TowerJudge.of(model, str(run))
    load_model(judge, Path(checkpoint) / "model.safetensors")
    return judge.eval(), model.config.vision_config.image_size[0]


@torch.inference_mode()
def judged(judge: TowerJudge, manifest: Manifest, size: int, batch_size: int = 32) -> Floats:
    """Scores (N,): minus the logit of "altered"."""
    found = []
    for start in tqdm(range(0, len(manifest.rows), batch_size), "images", unit="batch"):
        images = [
            np.asarray(open_rgb(manifest.resolve(row.image)).resize((size, size), Image.Resampling.BICUBIC))
            for row in manifest.rows[start : start + batch_size]
        ]
        pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
        found.append(-judge.look(pixels)[0])
    return torch.cat(found).double().numpy()


if __name__ == "__main__":
    try:
        sys.exit(auto_cli(main, as_positional=True))
    except UserError as error:
        sys.exit(str(error))
