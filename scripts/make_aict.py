"""Store an AICT network where it is wanted: the mean of several, one in half precision to ship, the authors' release.

python scripts/make_aict.py mean models/mean runs/a/model runs/b/model  # of their weights
python scripts/make_aict.py ship models/mean                      # into harmonyiqa/harmonize/bundled
python scripts/make_aict.py convert AICT.pth models/aict_release  # then: --model models/aict_release
"""

import sys
from pathlib import Path

import torch

from harmonyiqa.harmonize.network import AICT, BUNDLED, convert_release


def ship(folder: str, out: str = str(BUNDLED)) -> None:
    """Half precision, float32 again when it is loaded; a card that is there already stays."""
    model = AICT.from_pretrained(folder)
    old, new = Path(out) / "README.md", Path(folder) / "README.md"
    card = (old if old.exists() else new).read_text(encoding="utf-8")
    model.half().save_pretrained(out)
    (Path(out) / "README.md").write_text(card, encoding="utf-8")


def mean(out: str, *folders: str) -> None:
    """The mean of the weights and batch statistics of networks that went on from one ancestor."""
    models = [AICT.from_pretrained(folder) for folder in folders]
    tensors = [model.state_dict() for model in models]
    models[0].load_state_dict(
        {
            name: torch.stack([each[name] for each in tensors]).mean(0)
            if first.is_floating_point()
            else first
            for name, first in tensors[0].items()
        }
    )
    models[0].save_pretrained(out)


def convert(checkpoint: str, out: str) -> None:
    """A checkpoint of the authors' release, every tensor accounted for."""
    convert_release(checkpoint).save_pretrained(out)


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    if command == "mean":
        mean(*arguments)
    elif command == "ship":
        ship(*arguments)
    else:
        convert(*arguments)
