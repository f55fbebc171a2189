"""One content of a synthetic set: a photo, a region of it, and versions that are off by drawn amounts."""

import io
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

import numpy as np
from PIL import Image

from harmonyiqa.color import Floats
from harmonyiqa.data.manifest import Row
from harmonyiqa.synthesize.layers import Bytes, Donor, Layer, draw, lift, paste, quantized, to_uint8
from harmonyiqa.synthesize.regions import Mask, Photo, read_photo
from harmonyiqa.synthesize.severity import (
    UNTOUCHED_SHARE,
    WORST_DELTA_E,
    Change,
    draw_delta_e,
    find_strength,
    mean_delta_e,
    mos_of,
)
from harmonyiqa.synthesize.transforms import PARAMETRIC, TRANSFER, is_near_grey, statistics

PASTE = "paste"
METHODS = (*PARAMETRIC, *TRANSFER, PASTE)
DECOY_SHARE = 0.4
_CHANGES = PARAMETRIC | TRANSFER
_DIRECTIONS = 3  # how often a method may draw anew before another takes its place
_FEATHER = (0.6, 1.8)  # sigma of the soft edge, in pixels
_QUALITY = (90, 96)  # JPEG, drawn for every file


@dataclass(frozen=True, slots=True)
class Content:
    """What a worker needs to make one content; all that it draws follows from seed and photo."""

    photo: Photo
    donors: tuple[Photo, ...]
    out: Path
    versions: int
    size: int
    seed: int


@dataclass(frozen=True, slots=True)
class _Version:
    image: Bytes  # (H, W, 3)
    stencil: Bytes  # (H, W)
    method: str
    delta_e: float


def make_content(content: Content) -> list[Row]:
    """Write one content's ``references/``, ``images/`` and ``masks/`` below ``out`` and return its rows.

    Every image goes the same way, an untouched one too: the region is compressed on its own and laid back
    through a soft edge, and the whole is compressed again. So neither seam nor grain tells what was altered.

    - *Severity* is the mean CIEDE2000 difference over the region between the image and the same image
      without the change, both 8 bit, before compression.
    - *Untouched* rows, about 7% of every method's, have severity 0: the photo's own region in its place.
    - *Decoys*: in 40% of the images the whole photo is shifted first, by the same kinds of change and as
      far; the region is judged against that, for a change of the whole is not disharmonious. The reference
      stays the photo.
    - *Paste*: a region of another photo, scaled to the region's area, in its place. Harmonized to the scene
      (Lab mean and standard deviation of the region that it replaces) it counts as severity 0, for a paste
      that fits in colour is not disharmonious; severity is the way back towards its own colours, or beyond.

    Returns:
        One row a version; none if the photo has no region of 3-50%.
    """
    photo = content.photo
    rng = np.random.default_rng([content.seed, zlib.crc32(photo.content.encode())])
    rgb, regions = read_photo(photo, content.size)
    if not regions:
        return []
    region = regions[rng.integers(len(regions))]
    donors = list(_read_donors(content.donors, content.size, int(region.sum())))
    reference = f"references/{photo.content}.jpg"
    _save_jpeg(rng, to_uint8(rgb), content.out / reference)

    methods = rng.permutation(_usable(METHODS, rgb[region], donors)).tolist()
    decoys = _usable(tuple(_CHANGES), rgb.reshape(-1, 3), donors)
    rows = []
    for version, (target, has_decoy) in enumerate(_draw_versions(rng, content.versions)):
        scene, decoy = _shift_whole(rng, rgb, donors, decoys) if has_decoy else (rgb, None)
        made = _make_version(rng, scene, region, donors, methods, target)
        methods = [*methods[1:], methods[0]]  # each method has its turn
        image = f"images/{photo.content}_{version}.jpg"
        mask = f"masks/{photo.content}_{version}.png"
        _save_jpeg(rng, made.image, content.out / image)
        Image.fromarray(made.stencil).save(content.out / mask, compress_level=1)
        rows.append(
            Row(
                image=image,
                reference=reference,
                mask=mask,
                mos=round(mos_of(made.delta_e), 4),
                method=made.method,
                group="parametric" if made.method in PARAMETRIC else "transfer",
                content=photo.content,
                split=photo.split,
                mos_kind="synthetic",
                extra={"severity": round(made.delta_e, 4), "decoy": decoy, "source": photo.source},
            )
        )
    return rows


def _draw_versions(rng: np.random.Generator, count: int) -> list[tuple[float, bool]]:
    """Each version's severity and whether it has a decoy; neither knows of the other or of the method."""
    targets = [0.0 if rng.random() < UNTOUCHED_SHARE else draw_delta_e(rng) for _ in range(count)]
    decoyed = rng.random(count) < DECOY_SHARE
    # a second version with nothing changed would be the first one again
    decoyed[[i for i, target in enumerate(targets) if target == 0 and not decoyed[i]][1:]] = True
    return list(zip(targets, decoyed.tolist(), strict=True))


def _make_version(
    rng: np.random.Generator,
    scene: Floats,
    region: Mask,
    donors: list[Donor],
    methods: list[str],
    target: float,
) -> _Version:
    method, layer, change = _choose(rng, scene, region, donors, methods, target)
    if target:
        strength = find_strength(change, *layer.sample(rng), target)
        altered = quantized(change(layer.colors, strength))
    else:  # also where the method is a paste
        layer = lift(scene, region, rng.uniform(*_FEATHER))
        altered = layer.colors
    delta_e = mean_delta_e(layer.over(layer.colors)[layer.inside], layer.over(altered)[layer.inside])

    image = to_uint8(scene)
    pixels = image.reshape(-1, 3)  # a view
    pixels[layer.index] = to_uint8(altered)
    compressed = io.BytesIO()
    _save_jpeg(rng, image, compressed)
    region_again = np.asarray(Image.open(compressed)).reshape(-1, 3)[layer.index] / np.float32(255)
    pixels[layer.index] = to_uint8(layer.over(region_again))
    return _Version(image, layer.stencil, method, delta_e)


def _choose(
    rng: np.random.Generator,
    scene: Floats,
    region: Mask,
    donors: list[Donor],
    methods: list[str],
    target: float,
) -> tuple[str, Layer, Change]:
    """The first of ``methods`` that can be as severe as can be here, in a direction that reaches ``target``.

    A method is judged by the greatest severity, not by the wanted one: one that reaches little (hue in a
    pale region) becomes rarer, not milder. If none qualifies, the change that reaches most is taken.
    """
    own = lift(scene, region, rng.uniform(*_FEATHER))
    tried: list[tuple[float, tuple[str, Layer, Change]]] = []
    for method in methods:
        chosen = None
        for _ in range(_DIRECTIONS):
            donor = donors[rng.integers(len(donors))] if donors else None
            layer: Layer | None = own
            if method == PASTE and donor:
                layer = paste(scene, region, donor, rng.uniform(*_FEATHER))
            if layer is None:
                continue
            colors, alpha = layer.sample(rng)
            change = _draw_change(rng, method, colors, donor)
            reach = mean_delta_e(colors, colors + alpha * (change(colors, 1.0) - colors))
            tried.append((reach, (method, layer, change)))
            if reach >= target and chosen is None:
                chosen = tried[-1][1]
            if reach >= WORST_DELTA_E and chosen:
                return chosen
    return max(tried, key=itemgetter(0))[1]


def _shift_whole(
    rng: np.random.Generator, rgb: Floats, donors: list[Donor], methods: list[str]
) -> tuple[Floats, str]:
    """The whole photo changed as regions are, and the name of the change."""
    every = rgb.reshape(-1, 3)
    colors = draw(rng, every)
    target = draw_delta_e(rng)
    for method in rng.permutation(methods).tolist():
        donor = donors[rng.integers(len(donors))] if donors else None
        change = _draw_change(rng, method, colors, donor)
        if mean_delta_e(colors, change(colors, 1.0)) >= target:
            break
    strength = find_strength(change, colors, 1.0, target)
    return change(every, strength).reshape(rgb.shape), method


def _usable(methods: Sequence[str], colors: Floats, donors: list[Donor]) -> list[str]:
    """Without a donor nothing can be transferred; near grey, hue and saturation do not show."""
    hidden = {"hue", "saturation"} if is_near_grey(colors) else set()
    return [method for method in methods if (donors or method in PARAMETRIC) and method not in hidden]


def _draw_change(rng: np.random.Generator, method: str, colors: Floats, donor: Donor | None) -> Change:
    if donor is None:
        return _CHANGES[method](rng.uniform, colors, colors)
    if method == PASTE:  # back towards the looks that harmonizing took from it
        return statistics(rng.uniform, colors, draw(rng, donor.rgb[donor.mask]))
    lent = donor.rgb[donor.mask] if rng.random() < 0.5 else donor.rgb.reshape(-1, 3)
    return _CHANGES[method](rng.uniform, colors, draw(rng, lent))


def _read_donors(photos: Iterable[Photo], size: int, area: int) -> Iterator[Donor]:
    """Each photo with its region of the nearest area; photos without a usable region give no donor."""
    for photo in photos:
        rgb, regions = read_photo(photo, size)
        if regions:
            yield Donor(rgb, min(regions, key=lambda mask: abs(int(mask.sum()) - area)))


def _save_jpeg(rng: np.random.Generator, image: Bytes, file: Path | io.BytesIO) -> None:
    quality = int(rng.integers(*_QUALITY, endpoint=True))
    Image.fromarray(image).save(file, format="JPEG", quality=quality)
