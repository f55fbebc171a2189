"""The whole lookup of a photo as one loop over its foreground, compiled by numba (extra `fast`)."""

from typing import Any

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray


@njit(parallel=True, cache=True)  # type: ignore[untyped-decorator, unused-ignore]  # numba has no types
def harmonize_rows(
    tables: NDArray[Any],
    knots: NDArray[Any],
    pixels: NDArray[Any],
    mask: NDArray[Any],
    white: float,
    mask_white: float,
    result: NDArray[Any],
) -> None:
    """Write the harmonized foreground into `result`; see `lut.harmonize_pixels`.

    Args:
        tables: of the cascade, (T, 3, K, h, w), float32 or float64; that is what it computes in.
        knots: (T,), how many of a table's K values are its own.
        pixels: (H, W, 3).
        mask: (H, W).
        white: value of white in `pixels`; 1 for floats, which are not rounded.
        mask_white: value of the full foreground in `mask`.
        result: (H, W, 3), a copy of `pixels`.
    """
    height, width = mask.shape
    number = tables.dtype.type
    one, zero = number(1), number(0)
    count, _, deepest, grid_height, grid_width = tables.shape
    for row in prange(height):
        occupied = False
        for column in range(width):
            if mask[row, column]:
                occupied = True
                break
        if not occupied:
            continue
        # the tables interpolated to this row, neighbouring colours side by side
        place = row * ((grid_height - 1) / max(height - 1, 1))
        above = min(int(place), grid_height - 2)
        share = number(place - above)
        rows = np.empty((count, 3, grid_width, deepest), tables.dtype)
        for index in range(count):
            for channel in range(3):
                for knot in range(knots[index]):
                    for x in range(grid_width):
                        rows[index, channel, x, knot] = (
                            tables[index, channel, knot, above, x] * (one - share)
                            + tables[index, channel, knot, above + 1, x] * share
                        )
        for column in range(width):
            if not mask[row, column]:
                continue
            place = column * ((grid_width - 1) / max(width - 1, 1))
            left = min(int(place), grid_width - 2)
            right_share = number(place - left)
            alpha = number(mask[row, column]) / number(mask_white)
            for channel in range(3):
                before = number(pixels[row, column, channel]) / number(white)
                color = before
                for index in range(count):
                    last = knots[index] - 1
                    scaled = min(max(color, zero), one) * number(last)
                    below = min(int(scaled), last - 1)
                    upper = scaled - number(below)
                    near = rows[index, channel, left]
                    far = rows[index, channel, left + 1]
                    color = (near[below] * (one - upper) + near[below + 1] * upper) * (one - right_share) + (
                        far[below] * (one - upper) + far[below + 1] * upper
                    ) * right_share
                blended = min(max(color, zero), one) * alpha + before * (one - alpha)
                if white != 1:
                    blended = np.rint(blended * number(white))
                result[row, column, channel] = blended
