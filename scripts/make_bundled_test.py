"""Make the test set of the bundled model: untouched, shifted and pasted regions in photos that training never sees.

    python scripts/make_bundled_test.py PHOTOS work/bundled_test

From the pack's test photos only, at 256 px, from one seed. The printed hash is that of every file's bytes; the one in
docs/bundled_model.md was committed before the first training. Kinds of images (column `group`):

- untouched: a region laid over itself, compressed as the others are; whole: the whole photo changed, nothing else
- weak, medium, strong: a region shifted by 3-6, 6-12, 12-30 CIEDE2000 on average
- same_class: a region with the colour statistics of one of the same class in another photo
- matched, mismatched: a region of another photo, with the colours of what it covers, or with its own
"""

import hashlib
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from harmonyiqa.data.manifest import Row, write_manifest
from harmonyiqa.synthesize.bank import PhotoBank, build_bank
from harmonyiqa.synthesize.batch import BatchMaker
from harmonyiqa.synthesize.recipe import PASTE, Composites, Plan, Recipe
from harmonyiqa.synthesize.severity import mos_of
from harmonyiqa.synthesize.transforms import PARAMETRIC, TRANSFER

SIZE, SEED, REGIONS = 256, 20261122, 2
REACH = 0.5  # how far whole photos are changed, of how far regions are
BINS = {"weak": (3.0, 6.0), "medium": (6.0, 12.0), "strong": (12.0, 30.0)}
FAMILIES = (*PARAMETRIC, *TRANSFER)


def main(photos: str, out: str) -> None:
    """Write images, references, masks and manifest.csv, and print how many of each kind, and the hash."""
    folder = Path(out)
    for name in ("images", "references", "masks"):
        (folder / name).mkdir(parents=True)
    torch.set_num_threads(1)  # one order of additions
    bank = build_bank(photos, "test", SIZE)
    rng = np.random.default_rng(SEED)
    maker = BatchMaker(bank, SIZE, Recipe(families=FAMILIES), seed=SEED)
    rows = []
    for photo in tqdm(range(len(bank.rgb)), "photos", unit="photo"):
        of_photo = (bank.regions[:, 0] == photo).nonzero().flatten().numpy()
        for region in rng.permutation(of_photo)[:REGIONS]:
            rows += _scene(maker, rng, int(region), folder)
    write_manifest(rows, folder / "manifest.csv")
    kinds = [row.group for row in rows]
    print({kind: kinds.count(kind) for kind in dict.fromkeys(kinds)})
    print("sha256", _hash(folder))


def _scene(maker: BatchMaker, rng: np.random.Generator, region: int, folder: Path) -> list[Row]:
    """One region in all kinds that it can be made in."""
    bank = maker.bank
    source = int(bank.sources[region])
    others = _others(bank, region, bank.sources == source)
    alike = _others(bank, region, (bank.classes == bank.classes[region]) & (bank.classes >= 0))
    shift = [int(rng.integers(len(FAMILIES))) for _ in BINS]
    wanted = [rng.uniform(*BINS[name]) for name in BINS]
    donor = int(rng.choice(others)) if len(others) else region
    kinds: list[tuple[str, int, float, bool, int]] = [  # kind, family, target, natural, donor
        ("untouched", 0, 0.0, False, donor),
        ("whole", 0, 0.0, False, donor),
        *((name, f, target, False, donor) for name, f, target in zip(BINS, shift, wanted, strict=True)),
    ]
    if len(alike):
        kinds.append(("same_class", FAMILIES.index("statistics"), 1.0, True, int(rng.choice(alike))))
    if len(others):
        kinds.append(("matched", PASTE, 0.0, False, int(rng.choice(alike if len(alike) else others))))
        kinds.append(("mismatched", PASTE, 1.0, True, donor))
    made = maker.make(_plan(region, kinds))
    photo = int(bank.regions[region, 0])
    content = f"{bank.names[source]}-{photo:04}-{region:05}"
    rows = []
    for i, (kind, family, *_) in enumerate(kinds):
        severity = float(made.severity[i])
        if not _fits(kind, severity, made, i):
            continue
        name = f"{content}-{kind}.png"
        _save(made.image[i], folder / "images" / name)
        _save(made.alpha[i], folder / "masks" / name)
        _save(made.reference[0], folder / "references" / f"{content}.png")
        rows.append(
            Row(
                image=f"images/{name}",
                reference=f"references/{content}.png",
                mask=f"masks/{name}",
                mos=round(mos_of(severity), 4),
                method="paste" if family == PASTE else FAMILIES[family] if severity else "none",
                group=kind,
                content=content,
                split="test",
                mos_kind="synthetic",
                extra={"severity": round(severity, 4), "source": bank.names[source]},
            )
        )
    return rows


def _plan(region: int, kinds: list[tuple[str, int, float, bool, int]]) -> Plan:
    n = len(kinds)
    names, families, targets, natural, donors = zip(*kinds, strict=True)
    return Plan(
        regions=torch.full((n,), region),
        donors=torch.tensor(donors),
        family=torch.tensor(families),
        target=torch.tensor(targets, dtype=torch.float32),
        natural=torch.tensor(natural),
        decoy=torch.tensor([REACH * (name == "whole") for name in names]),
        cropped=torch.zeros(n, dtype=torch.bool),
        compressed=torch.ones(n, dtype=torch.bool),
    )


def _fits(kind: str, severity: float, made: Composites, index: int) -> bool:
    """Whether an image became what it should be: a change may not reach far enough, a paste may miss the photo."""
    if kind in BINS:
        return BINS[kind][0] <= severity <= BINS[kind][1]
    if kind in ("matched", "mismatched") and not made.pasted[index]:
        return False
    return severity >= BINS["weak"][0] if kind in ("same_class", "mismatched") else severity < 1


def _others(bank: PhotoBank, region: int, pool: torch.Tensor) -> np.ndarray:
    """Regions of a pool in other photos."""
    return (pool & (bank.regions[:, 0] != bank.regions[region, 0])).nonzero().flatten().numpy()


def _save(image: torch.Tensor, path: Path) -> None:
    pixels = (image * 255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels.squeeze()).save(path, compress_level=1)


def _hash(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
        pixels = np.asarray(Image.open(path)).tobytes() if path.suffix == ".png" else path.read_bytes()
        digest.update(pixels)
    return digest.hexdigest()


if __name__ == "__main__":
    main(*sys.argv[1:])
