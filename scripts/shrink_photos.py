"""A smaller copy of a photo pack, for a machine that it has to travel to.

    python scripts/shrink_photos.py PHOTOS work/small_photos               # about 42 MiB of 167
    python scripts/train_bundled.py work/small_photos --out runs/bundled

Photos as WebP, region maps without new labels; photos.csv and classes.json go along. Test photos stay behind.
"""

import csv
import shutil
from pathlib import Path

from jsonargparse import auto_cli
from PIL import Image
from tqdm import tqdm

from harmonyiqa.images import open_rgb


def main(photos: str, out: str, side: int = 208, quality: int = 75) -> None:
    """Write the copy and print its size.

    Args:
        photos: a pack with photos.csv.
        out: the new folder.
        side: the shorter side in pixels; smaller photos stay as they are.
        quality: of WebP.
    """
    source, target = Path(photos), Path(out)
    target.mkdir(parents=True)
    rows = []
    with (source / "photos.csv").open(encoding="utf-8", newline="") as file:
        kept = [row for row in csv.DictReader(file) if row["split"] != "test"]
    for row in tqdm(kept, "photos", unit="photo"):
        image = open_rgb(source / row["image"])
        scale = min(1.0, side / min(image.size))
        size = round(scale * image.width), round(scale * image.height)
        name = Path(row["image"]).with_suffix(".webp")
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        image.resize(size, Image.Resampling.LANCZOS).save(target / name, quality=quality, method=6)
        if row["regions"]:
            with Image.open(source / row["regions"]) as labels:
                small = labels.resize(size, Image.Resampling.NEAREST)
                small.save(target / row["regions"], optimize=True)
        rows.append({**row, "image": str(name), "width": size[0], "height": size[1]})
    with (target / "photos.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    if (source / "classes.json").exists():
        shutil.copyfile(source / "classes.json", target / "classes.json")
    total = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    print(f"{len(rows)} photos, {total / 2**20:.1f} MiB")


if __name__ == "__main__":
    auto_cli(main, as_positional=True)
