"""Make ``examples/``: four free photos, each untouched and with its foreground shifted mildly and strongly.

    python scripts/make_examples.py examples

The photos come inside the packages scikit-image and scikit-learn (``examples/LICENCES.md``): no download.
An image and its reference have one file name, so that both of these compare the same pairs:

    harmonyiqa score examples/manifest.csv
    harmonyiqa score examples/images --reference examples/references

The scores in the manifest are synthetic: a function of the colour difference, nobody voted.
"""

import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from harmonyiqa.color import Floats
from harmonyiqa.data.manifest import Row, write_manifest
from harmonyiqa.errors import UserError
from harmonyiqa.images import open_rgb
from harmonyiqa.synthesize.severity import find_strength, mean_delta_e, mos_of
from harmonyiqa.synthesize.transforms import Draw, exposure, gamma, hue, saturation, statistics, white_balance

LONG_SIDE = 512
SEVERITY = {"mild": 5.0, "strong": 18.0}  # mean CIEDE2000 difference over the foreground
QUALITY = {"image": 92, "reference": 95}


@dataclass(frozen=True)
class Photo:
    """A photo, its foreground and the changes that shift it.

    Attributes:
        package: the installed package that holds it.
        file: where in the package.
        outline: the foreground, as the points of an SVG polygon in pixels of the shrunken photo.
        mild: a change, and the seed that draws its direction.
        strong: likewise.
    """

    package: str
    file: str
    outline: str
    mild: tuple[Draw, int]
    strong: tuple[Draw, int]


PHOTOS = {
    "astronaut": Photo(
        "skimage",
        "data/astronaut.png",
        # the woman in her suit, without the helmet
        "35,512 22,450 19,390 24,340 34,300 45,268 60,250 85,228 112,208 116,190 126,170 145,155 "
        "165,149 183,149 181,132 172,126 160,112 154,92 153,70 162,52 180,40 198,25 220,16 245,17 "
        "270,27 288,42 298,62 301,88 294,110 278,128 270,136 264,152 258,172 275,185 290,205 302,230 "
        "318,240 335,255 345,275 352,300 360,330 365,348 345,352 325,365 308,385 293,410 283,440 "
        "278,480 278,512",
        mild=(white_balance, 1),
        strong=(exposure, 1),
    ),
    "coffee": Photo(
        "skimage",
        "data/coffee.png",
        # the cup
        "149,95 153,75 165,53 185,35 210,22 240,15 268,16 298,27 325,47 342,70 348,92 346,115 341,140 "
        "333,168 325,182 310,195 298,201 280,205 271,220 262,236 242,243 222,238 213,224 202,240 "
        "192,258 180,261 168,250 168,222 176,207 186,198 172,178 159,150 152,125",
        mild=(exposure, 0),
        strong=(statistics, 0),
    ),
    "pagoda": Photo(
        "sklearn",
        "datasets/images/china.jpg",
        # the tower down to the trees
        "157,24 171,24 173,48 182,60 195,71 212,78 225,88 256,95 256,101 236,108 236,128 263,137 "
        "262,145 256,150 256,180 263,182 262,196 281,202 279,208 273,217 273,245 279,248 278,258 "
        "296,270 288,282 268,296 256,300 238,306 215,313 198,312 170,296 150,290 138,285 126,278 "
        "115,268 95,268 60,272 59,264 64,260 64,232 68,222 52,216 52,207 70,199 76,196 75,188 79,185 "
        "78,150 68,146 68,136 88,129 97,125 96,111 80,105 76,96 80,86 96,82 120,73 140,61 154,50 "
        "155,42",
        mild=(saturation, 0),
        strong=(gamma, 1),
    ),
    "dahlia": Photo(
        "sklearn",
        "datasets/images/flower.jpg",
        # the large blossom
        "250,68 268,73 285,77 302,82 312,90 326,97 334,108 341,118 345,132 350,147 356,162 356,178 "
        "353,200 345,218 338,232 332,247 324,257 310,264 302,272 290,279 275,284 260,287 240,287 "
        "220,284 205,281 190,274 172,263 158,249 148,235 140,222 136,205 138,192 135,178 138,160 "
        "141,140 149,134 150,112 163,95 180,88 195,78 215,77 232,72",
        mild=(hue, 1),
        strong=(white_balance, 1),
    ),
}


def main(out: Path) -> None:
    """Write images, references, masks and the manifest under ``out``."""
    rows = []
    donor = np.asarray(open_photo(PHOTOS["pagoda"]), np.float32).reshape(-1, 3) / 255  # for `statistics`
    for name, photo in PHOTOS.items():
        picture = open_photo(photo)
        reference, mask = Path("references", f"{name}.jpg"), Path("masks", f"{name}.png")
        stencil = draw_mask(photo.outline, picture.size)
        save(picture, out / reference, QUALITY["reference"])
        save(stencil, out / mask)

        below = np.asarray(picture, np.float32) / 255
        alpha = np.asarray(stencil, np.float32)[..., None] / 255
        inside = alpha[..., 0] >= 0.5
        for version in ("untouched", *SEVERITY):
            altered, method = below, "untouched"
            if version in SEVERITY:
                draw, seed = getattr(photo, version)
                method = draw.__name__
                change = draw(np.random.default_rng(seed).uniform, below[inside], donor)
                strength = find_strength(change, below[inside], alpha[inside], SEVERITY[version])
                altered = change(below.reshape(-1, 3), strength).reshape(below.shape)
            image = to_picture(below + alpha * (altered - below))
            severity = mean_delta_e(below[inside], np.asarray(image, np.float32)[inside] / 255)
            path = Path("images", version, f"{name}.jpg")
            save(image, out / path, QUALITY["image"])
            rows.append(
                Row(
                    image=path.as_posix(),
                    reference=reference.as_posix(),
                    mask=mask.as_posix(),
                    mos=round(mos_of(severity), 2),
                    method=method,
                    content=name,
                    mos_kind="synthetic",
                    extra={"severity": round(severity, 2)},
                )
            )
    write_manifest(rows, out / "manifest.csv")
    print(f"{out / 'manifest.csv'}: {len(rows)} images of {len(PHOTOS)} photos")


def open_photo(photo: Photo) -> Image.Image:
    """Read it out of the installed package and shrink it to ``LONG_SIDE``."""
    package = find_spec(photo.package)
    if package is None or package.origin is None:
        raise UserError(
            f"{photo.package} is not installed; `pip install 'harmonyiqa[dev]'` brings its photos"
        )
    picture = open_rgb(Path(package.origin).parent / photo.file)
    picture.thumbnail((LONG_SIDE, LONG_SIDE), Image.Resampling.LANCZOS)
    return picture


def draw_mask(outline: str, size: tuple[int, int]) -> Image.Image:
    """A soft-edged mask, 8 bit: white inside the outline."""
    scale = 4  # Pillow's polygons have hard edges; drawn large and shrunk they follow the outline
    corners = [tuple(int(value) * scale for value in point.split(",")) for point in outline.split()]
    large = Image.new("L", (size[0] * scale, size[1] * scale))
    ImageDraw.Draw(large).polygon(corners, fill=255)
    return large.resize(size, Image.Resampling.BOX).filter(ImageFilter.GaussianBlur(1.2))


def to_picture(rgb: Floats) -> Image.Image:
    """Colours (H, W, 3) in 0..1 as an image."""
    return Image.fromarray(np.rint(rgb * 255).astype(np.uint8))


def save(picture: Image.Image, path: Path, quality: int = 0) -> None:
    """Save as its suffix says; ``quality`` is for JPEG, PNG passes over it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, quality=quality)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "examples"))
