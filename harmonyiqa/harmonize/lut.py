"""Position-dependent lookup tables: each pixel finds its new colour by its row, its column and its colour.

A table is `(N, C, K, h, w)`: for each of C curves, K values on an even grid of colours 0..1 at h x w places. A cascade
is a sequence of tables; colours pass through them in order (AICT paper, equation 1 and section 3.2).

`harmonize` is the reference, with gradients; `harmonize_pixels` gives the same for whole photos without touching the
background.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional as F

from harmonyiqa.errors import UserError
from harmonyiqa.harmonize.pictures import Pixels, white_of

ROWS = 32  # of a strip: its tables and points stay in the processor's cache


def interval_table(logits: torch.Tensor) -> torch.Tensor:
    """K + 1 values that rise from 0 to 1, from K logits (paper, section 3.1: softmax, cumulative sum, an origin).

    Args:
        logits: (N, C, K, h, w).

    Returns:
        (N, C, K + 1, h, w).
    """
    rising = logits.softmax(dim=2).cumsum(dim=2)
    return torch.cat([torch.zeros_like(rising[:, :, :1]), rising], dim=2)


def lookup(table: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """Trilinear lookup at (row, column, colour), corners aligned, border clamped (paper, equation 1).

    Args:
        table: (N, 3, K, h, w), a curve a channel; or (N, 9, K, h, w), where curves 3c to 3c + 2 of the three input
            channels add up to output channel c.
        image: (N, 3, H, W), 0..1.

    Returns:
        (N, 3, H, W).
    """
    n, curves, _, _, _ = table.shape
    height, width = image.shape[2:]
    colors = image.repeat(1, curves // 3, 1, 1).flatten(0, 1)[:, None]
    rows, columns = torch.meshgrid(
        torch.linspace(-1, 1, height, dtype=image.dtype, device=image.device),
        torch.linspace(-1, 1, width, dtype=image.dtype, device=image.device),
        indexing="ij",
    )
    grid = torch.stack([columns.expand_as(colors), rows.expand_as(colors), 2 * colors - 1], dim=-1)
    found = F.grid_sample(table.flatten(0, 1)[:, None], grid, "bilinear", "border", align_corners=True)
    return found.reshape(n, 3, curves // 3, height, width).sum(dim=2)


def harmonize(tables: Sequence[torch.Tensor], image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Colours through the cascade, clamped to 0..1, laid over the image by the mask.

    Args:
        tables: of the cascade, in order, (N, C, K, h, w) each.
        image: (N, 3, H, W), 0..1.
        mask: (N, 1, H, W), 0..1; 1 is the foreground.

    Returns:
        (N, 3, H, W); where the mask is 0 it is the image, bit by bit.
    """
    colors = image
    for table in tables:
        colors = lookup(table, colors)
    return colors.clamp(0, 1) * mask + image * (1 - mask)


def harmonize_pixels(
    tables: Sequence[torch.Tensor],
    pixels: Pixels,
    mask: Pixels,
    *,
    fast: bool = False,
    rows: int = ROWS,
) -> Pixels:
    """`harmonize` for one photo of any size, in its own bit depth, looking up the foreground only.

    The rows of a strip share their tables' interpolation along the columns of the image; its points are looked up
    together. Memory beyond the result does not grow with the photo, and `rows` never changes a bit of the result.

    Args:
        tables: of the cascade, (1, C, K, h, w) each, h and w at least 2.
        pixels: (H, W, 3), uint8, uint16, or floats in 0..1.
        mask: (H, W), uint8 (255 is the foreground) or floats in 0..1.
        fast: one fused loop in machine code, by numba (extra `fast`); its first call compiles.
        rows: of a strip.

    Returns:
        (H, W, 3) of the dtype of `pixels`, integers rounded. Where the mask is 0 it is the input, bit by bit.

    Raises:
        UserError: the mask has another size, or `fast` without numba or with crossed channels.
    """
    if mask.shape != pixels.shape[:2]:
        raise UserError(
            f"the mask is {mask.shape[1]} x {mask.shape[0]}, the image {pixels.shape[1]} x {pixels.shape[0]}: "
            "they must be of one size"
        )
    result = pixels.copy()
    if fast:
        _fused(tables, pixels, mask, result)
        return result
    plan = [_Columns(table[0], pixels.shape[:2]) for table in tables]
    occupied = np.asarray(mask.any(axis=1))
    for start in range(0, len(pixels), rows):
        strip = slice(start, min(start + rows, len(pixels)))
        if occupied[strip].any():
            _harmonize_strip(plan, pixels[strip], mask[strip], result[strip], start)
    return result


def _harmonize_strip(
    plan: Sequence["_Columns"],
    pixels: Pixels,
    mask: Pixels,
    result: Pixels,
    start: int,
) -> None:
    dtype, device = plan[0].table.dtype, plan[0].table.device
    white = white_of(pixels.dtype)
    points = np.flatnonzero(mask)

    def tensor(values: Pixels, white: float) -> torch.Tensor:
        wide = (
            values.astype(np.int32) if values.dtype == np.uint16 else values
        )  # torch computes little on uint16
        return torch.from_numpy(np.ascontiguousarray(wide)).to(device, dtype) / white

    image = tensor(pixels.reshape(-1, 3).take(points, axis=0).T, white)  # (3, points)
    alpha = tensor(mask.reshape(-1).take(points), white_of(mask.dtype))
    place = torch.from_numpy(points).to(device)
    row = torch.div(place, mask.shape[1], rounding_mode="floor")
    column = place - row * mask.shape[1]
    colors = image
    for table in plan:
        colors = table.of_rows(start, len(pixels)).lookup(colors, row, column)
    blended = colors.clamp(0, 1) * alpha + image * (1 - alpha)
    if white != 1:
        blended = (blended * white).round()
    result.reshape(-1, 3)[points] = blended.T.cpu().numpy().astype(pixels.dtype)


class _Columns:
    """A table (C, K, h, w) set to an image of H x W."""

    def __init__(self, table: torch.Tensor, size: tuple[int, ...]) -> None:
        self.table = table
        self.row, self.row_share = _places(size[0], table.shape[2], table)
        self.column, self.column_share = _places(size[1], table.shape[3], table)

    def of_rows(self, start: int, count: int) -> "_Strip":
        """The table interpolated to some rows of the image."""
        row, share = self.row[start : start + count], self.row_share[start : start + count, None]
        table = self.table[:, :, row] * (1 - share) + self.table[:, :, row + 1] * share
        return _Strip(table, self.column, self.column_share)


class _Strip:
    """A table (C, K, rows, w) of a strip."""

    def __init__(self, table: torch.Tensor, column: torch.Tensor, share: torch.Tensor) -> None:
        self.shape = table.shape
        self.values = (
            table.permute(0, 2, 3, 1).contiguous().flatten(1)
        )  # neighbouring colours lie side by side
        self.column, self.share = column, share

    def lookup(self, colors: torch.Tensor, row: torch.Tensor, column: torch.Tensor) -> torch.Tensor:
        """(3, points) -> (3, points)."""
        curves, knots, _, width = self.shape
        share = self.share.index_select(0, column)
        place = (row * width + self.column.index_select(0, column)) * knots
        found = []
        for curve in range(curves):
            color = colors[curve % 3].clamp(0, 1) * (knots - 1)
            below = color.floor().clamp(max=knots - 2)
            above = color - below
            index = place + below.long()
            left = _between(self.values[curve], index, above)
            right = _between(self.values[curve], index + knots, above)
            found.append(left * (1 - share) + right * share)
        return torch.stack(found).reshape(3, curves // 3, -1).sum(dim=1)


def _between(values: torch.Tensor, index: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """Linear interpolation in a flat table; `index_select` takes a third of the time of `values[index]`."""
    return values.index_select(0, index) * (1 - share) + values.index_select(0, index + 1) * share


def _places(length: int, knots: int, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """For every row (or column) of an image: the table's place before it, and the share of the next one."""
    place = torch.arange(length, dtype=torch.float64, device=like.device) * ((knots - 1) / max(length - 1, 1))
    before = place.floor().clamp(max=knots - 2)
    return before.long(), (place - before).to(like.dtype)


def _fused(
    tables: Sequence[torch.Tensor],
    pixels: Pixels,
    mask: Pixels,
    result: Pixels,
) -> None:
    try:
        from harmonyiqa.harmonize.fused import harmonize_rows
    except ImportError as error:
        raise UserError(
            "the fast lookup needs numba: pip install 'harmonyiqa[fast]', or leave it out"
        ) from error
    if any(table.shape[1] != 3 for table in tables):
        raise UserError("the fast lookup has one curve a channel: leave it out for crossed channels")
    knots = [table.shape[2] for table in tables]
    padded = [
        F.pad(table[0].detach().cpu(), (0, 0, 0, 0, 0, max(knots) - k))
        for table, k in zip(tables, knots, strict=True)
    ]
    harmonize_rows(
        torch.stack(padded).numpy(),
        np.array(knots),
        pixels,
        mask,
        white_of(pixels.dtype),
        white_of(mask.dtype),
        result,
    )
