"""What the settings of several trainings share."""

from dataclasses import dataclass, field
from typing import Any

from harmonyiqa.errors import UserError


def require(name: str, value: Any, rule: bool, text: str) -> None:
    """Refuse a value that breaks a rule, by its name.

    Raises:
        UserError: `rule` does not hold; `text` says what the value must be.
    """
    if not rule:
        raise UserError(f"{name}: {value!r} must be {text}")


def check_loop(optim: Any) -> None:
    """What the optimisers of scorer and AICT have in common."""
    for name in ("learning_rate", "epochs"):
        require(f"optim.{name}", getattr(optim, name), getattr(optim, name) > 0, "positive")
    for name in ("batch_size", "accumulation"):
        require(f"optim.{name}", getattr(optim, name), getattr(optim, name) >= 1, "at least 1")


@dataclass
class PhotoSettings:
    """Photos to learn from, with composites made while it trains (`harmonyiqa.synthesize.batch`).

    Attributes:
        folder: photos and region maps, as for `harmonyiqa data synthesize`; the train split.
        images: how many composites are made in all.
        size: side in pixels at which photos are kept in memory.
        reference_every: each so-many-th batch shows the reference too.
        luts: a file of photographic colour tables (npz: `tables` (L, 17, 17, 17, 3), indexed b, g, r), or none.
        held_out: families of changes that are left out.
        held_out_sources: collections of photos that are left out.
        decoys: the share whose whole photo was changed first, which counts for nothing.
        reach: how far whole photos are changed, of how far regions are.
        mildest: severities are even from here to the worst, in CIEDE2000; 0: so that scores are even.
        pastes: the share in which a region of another photo is laid in.
        blobs: the share of regions that are random blobs of their photos.
        source_exponent: collections are drawn in proportion to this power of how many regions they have: 0 equally,
            1 so that every region is drawn equally often.
        paired: each batch shows every scene twice, altered and not; full-reference questions do not.
        ranked: stages 0 and 2 learn which of a scene's two images is the better one, beside both scores; with `paired`.
        worn: the share that is made smaller and larger again, with noise and as a poorer JPEG at the end.
        map_cells: cells along a side of an image token in the map that the model learns to draw.
    """

    folder: str
    images: int
    size: int = 192
    reference_every: int = 3
    luts: str | None = None
    held_out: list[str] = field(default_factory=list)
    held_out_sources: list[str] = field(default_factory=list)
    decoys: float = 0.4
    reach: float = 1.0
    mildest: float = 0.0
    pastes: float = 0.2
    blobs: float = 0.0
    source_exponent: float = 0.0
    paired: bool = False
    ranked: bool = False
    worn: float = 0.0
    map_cells: int = 4

    def __post_init__(self) -> None:
        require("photos.images", self.images, self.images >= 1, "at least 1")
        require("photos.source_exponent", self.source_exponent, 0 <= self.source_exponent <= 1, "within 0..1")
        require("photos.ranked", self.ranked, self.paired or not self.ranked, "off where photos.paired is")
        require("photos.map_cells", self.map_cells, self.map_cells >= 1, "at least 1")
        require("photos.reference_every", self.reference_every, self.reference_every >= 1, "at least 1")
