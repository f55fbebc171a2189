"""What a batch of composites shall be, and what it is: the words between those who ask for one and who makes it."""

from dataclasses import dataclass

import torch

from harmonyiqa.synthesize.transforms import PARAMETRIC, TRANSFER


@dataclass(frozen=True)
class Recipe:
    """What is made, in shares of the batch.

    Attributes:
        untouched: nothing changed in the region.
        paste: a region of another photo laid in.
        matched: of the pastes, those that fit in colour: nothing to see.
        natural: of the transfers and the unmatched pastes, those with the donor's own statistics, unsearched.
        decoy: the whole photo changed first.
        reach: how far whole photos are changed, of how far regions are.
        compressed: compressed as JPEG, region and whole.
        families: the changes of a region, equally often.
        between: severities, equally often; None: so that all scores are equally often.
        blobs: regions that are a random blob of their photo instead.
        source_exponent: collections are drawn in proportion to this power of how many regions they have; 0: equally.
        paired: the second half of a batch is the first half's scenes with nothing to see: their regions untouched, or
            for every other paste the same one, fitting in colour.
        worn: made smaller and larger again, with noise and as a poorer JPEG at the end, so that what a change of colour
            leaves behind besides its colour is lost.
    """

    untouched: float = 0.2
    paste: float = 0.2
    matched: float = 0.4
    natural: float = 0.5
    decoy: float = 0.4
    reach: float = 0.5
    compressed: float = 0.5
    families: tuple[str, ...] = tuple(PARAMETRIC | TRANSFER)
    between: tuple[float, float] | None = None
    blobs: float = 0.0
    source_exponent: float = 0.0
    paired: bool = False
    worn: float = 0.0


PASTE = -1


@dataclass
class Plan:
    """What each image of a batch shall be.

    Attributes:
        regions: (n,) which region of the bank.
        donors: (n,) which one lends its colours or itself.
        family: (n,) index into the maker's families, or `PASTE`.
        target: (n,) wanted severity; 0 leaves the region untouched, or makes a paste fit in colour.
        natural: (n,) bool: a transfer or paste takes the donor's own statistics, whatever severity that is.
        decoy: (n,) how far the whole photo is changed first, of how far regions are; 0: not at all.
        cropped: (n,) bool: cropped and mirrored.
        compressed: (n,) bool: compressed as JPEG, region and whole.
        paired: the second half shows the first half's scenes: same regions, same crops, same change of the whole.
        worn: (n,) bool: made smaller and larger again, with noise and as a poorer JPEG at the end; None: not one is.
    """

    regions: torch.Tensor
    donors: torch.Tensor
    family: torch.Tensor
    target: torch.Tensor
    natural: torch.Tensor
    decoy: torch.Tensor
    cropped: torch.Tensor
    compressed: torch.Tensor
    paired: bool = False
    worn: torch.Tensor | None = None


@dataclass(frozen=True)
class Composites:
    """A batch.

    Attributes:
        image: (n, 3, T, T) in 0..1.
        reference: (n, 3, T, T), the photo.
        fitting: (n, 3, T, T), the image as it would be without the change; not compressed.
        alpha: (n, 1, T, T), how much of each pixel is the laid-in region.
        severity: (n,) mean CIEDE2000 over the region; 0 untouched.
        pasted: (n,) bool: a region of another photo was laid in.
    """

    image: torch.Tensor
    reference: torch.Tensor
    fitting: torch.Tensor
    alpha: torch.Tensor
    severity: torch.Tensor
    pasted: torch.Tensor


def with_twins(altered: Plan, compressed: torch.Tensor, fitting: torch.Tensor) -> Plan:
    """A plan with a second half: the first's scenes, untouched, or with its paste fitting in colour."""
    twins = len(compressed)
    family = torch.where(fitting & (altered.family[:twins] == PASTE), PASTE, 0)

    def twice(values: torch.Tensor, second: torch.Tensor | None = None) -> torch.Tensor:
        return torch.cat([values, values[:twins] if second is None else second])

    return Plan(
        regions=twice(altered.regions),
        donors=twice(altered.donors),
        family=twice(altered.family, family),
        target=twice(altered.target, torch.zeros_like(altered.target[:twins])),
        natural=twice(altered.natural),
        decoy=twice(altered.decoy),
        cropped=twice(altered.cropped),
        compressed=twice(altered.compressed, compressed),
        paired=True,
    )


def twin_rows(count: int) -> torch.Tensor:
    """(P, 2): each scene's row with nothing to see, and its altered one, in a batch of `count` made by `with_twins`."""
    twins = count // 2
    rows = torch.arange(twins)
    return torch.stack([rows + count - twins, rows], 1)
