"""Store an AICT network where it is wanted: a trained one in half precision to ship, or the authors' release.

python scripts/make_aict.py ship runs/aict_bundled_256/model      # into harmonyiqa/harmonize/bundled
python scripts/make_aict.py convert AICT.pth models/aict_release  # then: --model models/aict_release
"""

import sys
from pathlib import Path

from harmonyiqa.harmonize.network import AICT, BUNDLED, convert_release


def ship(folder: str, out: str = str(BUNDLED)) -> None:
    """Half precision, float32 again when it is loaded; a card that is there already stays."""
    model = AICT.from_pretrained(folder)
    old, new = Path(out) / "README.md", Path(folder) / "README.md"
    card = (old if old.exists() else new).read_text(encoding="utf-8")
    model.half().save_pretrained(out)
    (Path(out) / "README.md").write_text(card, encoding="utf-8")


def convert(checkpoint: str, out: str) -> None:
    """A checkpoint of the authors' release, every tensor accounted for."""
    convert_release(checkpoint).save_pretrained(out)


if __name__ == "__main__":
    if sys.argv[1] == "ship":
        ship(*sys.argv[2:])
    else:
        convert(*sys.argv[2:])
