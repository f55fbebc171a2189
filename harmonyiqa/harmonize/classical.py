"""Harmonization by statistics and by gradients: no network, no training.

Each function takes a photo and its mask and gives the photo back with its foreground recoloured, in its own bit depth;
where the mask is 0 it is untouched. Colours of the foreground are measured where the mask is at least half.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from harmonyiqa.color import Floats, lab_statistics, lab_to_srgb, mkl_map, reinhard, srgb_to_lab
from harmonyiqa.errors import UserError
from harmonyiqa.harmonize.pictures import Pixels, white_of

Recolor = Callable[[Floats, Floats, Floats], Floats]

_SAMPLE = 200_000  # colours that statistics are measured on
_TURNS = 20  # rotations of the iterative transfer
_QUANTILES = 512
_PALETTE = 12  # colours of a palette
_POISSON_SIDE = 256  # pixels: the correction is smooth, so it is solved on a small grid


def check(pixels: Pixels, mask: Pixels, *, background: bool = False) -> None:
    """Refuse a mask of another size, an empty one, and a full one where a method needs a background.

    Raises:
        UserError: with what is wrong.
    """
    if mask.shape != pixels.shape[:2]:
        raise UserError(
            f"the mask is {mask.shape[1]} x {mask.shape[0]}, the image {pixels.shape[1]} x {pixels.shape[0]}: "
            "they must be of one size"
        )
    if not mask.any():
        raise UserError("the mask is empty: it has no foreground (white)")
    if background and mask.all():
        raise UserError("the mask is full: there is no background to match")


def copy(pixels: Pixels, mask: Pixels) -> Pixels:
    """The composite as it is: what harmonization has to beat."""
    check(pixels, mask)
    return pixels.copy()


def reinhard_transfer(pixels: Pixels, mask: Pixels) -> Pixels:
    """Mean and standard deviation in Lab to those of the background (see `color.reinhard`)."""

    def recolor(colors: Floats, solid: Floats, background: Floats) -> Floats:
        source, target = lab_statistics(srgb_to_lab(solid)), lab_statistics(srgb_to_lab(background))
        return lab_to_srgb(reinhard(srgb_to_lab(colors), source, target))

    return _recolored(pixels, mask, recolor)


def mkl_transfer(pixels: Pixels, mask: Pixels) -> Pixels:
    """Mean and covariance in RGB to those of the background (see `color.mkl_map`)."""

    def recolor(colors: Floats, solid: Floats, background: Floats) -> Floats:
        matrix, offset = mkl_map(_at_least_two(solid), _at_least_two(background))
        return colors @ matrix + offset

    return _recolored(pixels, mask, recolor)


def histogram_matching(pixels: Pixels, mask: Pixels) -> Pixels:
    """Each RGB channel's histogram to that of the background, by scikit-image."""
    from skimage.exposure import match_histograms

    def recolor(colors: Floats, solid: Floats, background: Floats) -> Floats:
        if not np.ptp(solid, axis=0).any():  # one colour would count as the brightest
            return colors - solid[0] + np.median(background, axis=0)
        matched = match_histograms(solid, background, channel_axis=-1)
        return np.stack([_mapped(colors[:, c], solid[:, c], matched[:, c]) for c in range(3)], axis=1)

    return _recolored(pixels, mask, recolor)


def iterative_transfer(pixels: Pixels, mask: Pixels) -> Pixels:
    """The whole RGB distribution to that of the background: histograms matched along rotated axes, again and again.

    Source: F. Pitie, A. Kokaram, R. Dahyot, "N-dimensional probability density function transfer and its application
    to colour transfer", ICCV 2005.
    """
    from scipy.stats import ortho_group

    turns = ortho_group.rvs(3, size=_TURNS, random_state=0)
    share = np.linspace(0, 1, _QUANTILES)

    def recolor(colors: Floats, solid: Floats, background: Floats) -> Floats:
        colors, solid = colors.astype(np.float64), solid.astype(np.float64)
        for turn in turns:
            source, target, moved = solid @ turn, background @ turn, colors @ turn
            for axis in range(3):
                have, want = np.quantile(source[:, axis], share), np.quantile(target[:, axis], share)
                have = have + 1e-9 * (share - 0.5)  # rising also where all colours are the same
                source[:, axis] = np.interp(source[:, axis], have, want)
                moved[:, axis] = np.interp(moved[:, axis], have, want)
            solid, colors = source @ turn.T, moved @ turn.T
        return colors

    return _recolored(pixels, mask, recolor)


def palette_neighbours(pixels: Pixels, mask: Pixels) -> Pixels:
    """Palette colours of the foreground to those of the background that are nearest as a whole (least earth moved).

    Palettes come from k-means in Lab; a pixel moves as the palette colours around it do. After J.-F. Lalonde and
    A. Efros, "Using color compatibility for assessing image realism", ICCV 2007, section 6, with the photo's own
    background in the place of a database.
    """

    def recolor(colors: Floats, solid: Floats, background: Floats) -> Floats:
        (source, weight), (target, room) = _palette(srgb_to_lab(solid)), _palette(srgb_to_lab(background))
        moved = _earth_moved(source, weight, target, room)
        lab = srgb_to_lab(colors)
        distance = ((lab[:, None] - source) ** 2).sum(axis=2)
        near = np.exp(-(distance - distance.min(axis=1, keepdims=True)) / 200)  # about 10 Lab units wide
        return lab_to_srgb(lab + (near @ (moved - source)) / near.sum(axis=1, keepdims=True))

    return _recolored(pixels, mask, recolor)


def poisson_blending(pixels: Pixels, mask: Pixels) -> Pixels:
    """The foreground's gradients with the background's colours at its edge: Poisson image editing.

    What is added to the foreground is a membrane (Laplace's equation) that makes up the step at the edge of the mask;
    at the edge of the photo it is free. It is smooth, and so solved on a grid of at most 256 cells a side.
    Source: P. Perez, M. Gangnet, A. Blake, "Poisson image editing", ACM TOG 22(3), 2003, equations 4 and 10.
    """
    from PIL import Image

    check(pixels, mask, background=True)
    white, mask_white = white_of(pixels.dtype), white_of(mask.dtype)
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    cell = -(-max(np.ptp(rows) + 1, np.ptp(columns) + 1) // _POISSON_SIDE)
    box = tuple(
        slice(max(0, int(found[0]) - cell), min(length, int(found[-1]) + 1 + cell))
        for found, length in zip((rows, columns), mask.shape, strict=True)
    )
    inside = mask[box] >= mask_white / 2
    if not inside.any():
        inside = mask[box] > 0
    if inside.all():  # the background begins beyond the box only where the photo ends
        raise UserError("the mask is full: there is no background to match")
    membrane = _membrane(pixels[box], inside, int(cell))
    height, width = inside.shape
    wide = [
        np.asarray(
            Image.fromarray(np.ascontiguousarray(plane)).resize(
                (plane.shape[1] * int(cell), plane.shape[0] * int(cell)), Image.Resampling.BILINEAR
            )
        )[:height, :width]
        for plane in np.moveaxis(membrane, 2, 0)
    ]
    result = pixels.copy()
    chosen = mask[box] > 0
    before = pixels[box][chosen].astype(np.float32) / np.float32(white)
    after = before + np.stack([plane[chosen] for plane in wide], axis=1)
    result[box][chosen] = _blended(before, after, mask[box][chosen], pixels.dtype, mask_white)
    return result


METHODS: dict[str, Callable[[Pixels, Pixels], Pixels]] = {
    "copy": copy,
    "reinhard": reinhard_transfer,
    "mkl": mkl_transfer,
    "histogram": histogram_matching,
    "idt": iterative_transfer,
    "palette": palette_neighbours,
    "poisson": poisson_blending,
}


def _recolored(pixels: Pixels, mask: Pixels, recolor: Recolor) -> Pixels:
    """`recolor` gets all colours inside the mask, a sample of the solid ones, and one of the background; (N, 3)."""
    check(pixels, mask, background=True)
    white, mask_white = np.float32(white_of(pixels.dtype)), white_of(mask.dtype)
    chosen = mask > 0
    solid = mask >= mask_white / 2
    before = pixels[chosen].astype(np.float32) / white
    after = recolor(
        before,
        _sample(pixels, solid if solid.any() else chosen) / white,
        _sample(pixels, ~chosen) / white,
    )
    result = pixels.copy()
    result[chosen] = _blended(before, after, mask[chosen], pixels.dtype, mask_white)
    return result


def _blended(before: Floats, after: Floats, mask: Pixels, dtype: np.dtype, mask_white: float) -> Pixels:
    alpha = mask[:, None].astype(np.float32) / np.float32(mask_white)
    blended = np.clip(after, 0, 1) * alpha + before * (1 - alpha)
    return (np.rint(blended * white_of(dtype)) if dtype.kind == "u" else blended).astype(dtype)


def _sample(pixels: Pixels, chosen: NDArray[np.bool_]) -> Floats:
    """At most `_SAMPLE` of the chosen pixels, spread evenly."""
    found = np.flatnonzero(chosen)
    picked = found[:: -(-len(found) // _SAMPLE)]
    return pixels.reshape(-1, 3)[picked].astype(np.float32)


def _at_least_two(colors: Floats) -> Floats:
    return np.repeat(colors, 2, axis=0) if len(colors) == 1 else colors  # one colour has no covariance


def _mapped(values: Floats, have: Floats, want: Floats) -> Floats:
    order = np.argsort(have)
    return np.interp(values, have[order], want[order])


def _palette(lab: Floats) -> tuple[Floats, Floats]:
    """Colours (K, 3) and their shares (K,)."""
    from scipy.cluster.vq import kmeans2

    some = lab[:: -(-len(lab) // 20_000)].astype(np.float64)
    count = min(_PALETTE, len(np.unique(some.round(3), axis=0)))
    colors, labels = kmeans2(some, count, minit="++", rng=0)
    share = np.bincount(labels, minlength=count) / len(labels)
    return colors[share > 0], share[share > 0]


def _earth_moved(source: Floats, weight: Floats, target: Floats, room: Floats) -> Floats:
    """Where each source colour goes on average when the cheapest plan fills `room` with `weight`."""
    from scipy.optimize import linprog
    from scipy.sparse import eye, kron, vstack

    n, m = len(source), len(target)
    cost = np.linalg.norm(source[:, None] - target, axis=2)
    given = kron(eye(n), np.ones((1, m)))
    taken = kron(np.ones((1, n)), eye(m))
    plan = linprog(cost.ravel(), A_eq=vstack([given, taken]), b_eq=np.concatenate([weight, room]))
    if plan.x is None:
        raise UserError(f"no plan between the palettes was found: {plan.message}")
    flow = plan.x.reshape(n, m)
    return (flow @ target) / flow.sum(axis=1, keepdims=True)


def _membrane(pixels: Pixels, inside: NDArray[np.bool_], cell: int) -> Floats:
    """What Poisson blending adds, one value a cell of `cell` x `cell` pixels: (h, w, 3) float32."""
    from scipy.ndimage import distance_transform_edt
    from scipy.sparse import coo_array
    from scipy.sparse.linalg import splu

    white = np.float32(white_of(pixels.dtype))
    share = _block_mean(inside[..., None].astype(np.float32), cell)[..., 0]
    front = _block_mean(np.where(inside[..., None], pixels / white, 0).astype(np.float32), cell)
    back = _block_mean(np.where(inside[..., None], 0, pixels / white).astype(np.float32), cell)
    some, rest = np.maximum(share, 1e-6)[..., None], np.maximum(1 - share, 1e-6)[..., None]
    front, back = front / some, back / rest
    region = share >= 0.5
    if not region.any():  # thinner than a cell
        region = share > 0
    index = np.full(region.shape, -1)
    index[region] = np.arange(region.sum())

    count = int(region.sum())
    diagonal, right = np.zeros(count), np.zeros((count, 3))
    links: list[tuple[NDArray[np.intp], NDArray[np.intp]]] = []
    for axis in (0, 1):
        for here, there in ((slice(None, -1), slice(1, None)), (slice(1, None), slice(None, -1))):
            a = tuple(here if axis == k else slice(None) for k in (0, 1))
            b = tuple(there if axis == k else slice(None) for k in (0, 1))
            pair = region[a]  # cells with a neighbour on this side
            own, other = index[a][pair], index[b][pair]
            diagonal[own] += 1
            edge = other < 0
            right[own[edge]] += (back[b][pair] - front[a][pair])[edge]
            links.append((own[~edge], other[~edge]))
    if not right.any():  # already without a step, or no edge at all
        return np.zeros((*region.shape, 3), np.float32)
    rows, columns = (np.concatenate(each) for each in zip(*links, strict=True))
    everyone = np.arange(count)
    values = np.concatenate([-np.ones(len(rows)), diagonal])
    places = (np.concatenate([rows, everyone]), np.concatenate([columns, everyone]))
    solved = splu(coo_array((values, places), shape=(count, count)).tocsc()).solve(right)

    nearest = distance_transform_edt(~region, return_distances=False, return_indices=True)
    return solved[index[tuple(nearest)]].astype(np.float32)


def _block_mean(values: Floats, cell: int) -> Floats:
    """Means of cells; those at the end may be smaller."""
    rows, columns = (np.arange(0, length, cell) for length in values.shape[:2])
    sums = np.add.reduceat(np.add.reduceat(values, rows, axis=0), columns, axis=1)
    heights = np.diff([*rows, values.shape[0]])[:, None, None]
    return sums / (heights * np.diff([*columns, values.shape[1]])[None, :, None]).astype(np.float32)
