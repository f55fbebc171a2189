"""Every way of harmonizing under one call: a photo and its mask in, the photo with another foreground out."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from harmonyiqa.errors import UserError
from harmonyiqa.harmonize.classical import METHODS as CLASSICAL
from harmonyiqa.harmonize.classical import check
from harmonyiqa.harmonize.pictures import Pixels

if TYPE_CHECKING:
    from harmonyiqa.harmonize.network import AICT

NAMES = ("aict", *CLASSICAL)

Harmonizer = Callable[[Pixels, Pixels], Pixels]


def harmonizer(
    method: str, model: str | None = None, *, device: str | None = None, fast: bool = False
) -> Harmonizer:
    """The function of a method: (H, W, 3) pixels and (H, W) mask to (H, W, 3) pixels of the same type.

    Pixels are uint8, uint16, or floats in 0..1; a mask is uint8 (255 is the foreground) or floats in 0..1. Where it
    is 0 the result is the input, bit by bit. The function raises `UserError` where the mask has another size or is
    empty, and where a method needs a background and there is none.

    Args:
        method: one of `NAMES`.
        model: for aict: a folder or hub id; default the one that comes with the package.
        device: for aict: where its network runs.
        fast: for aict: look up with numba.

    Raises:
        UserError: there is no such method or model.
    """
    if method in CLASSICAL:
        return CLASSICAL[method]
    if method != "aict":
        raise UserError(f"method {method!r} is unknown; choose from {', '.join(NAMES)}")
    from harmonyiqa.harmonize.network import AICT  # torch waits until a network is asked for

    return partial(_aict, AICT.from_pretrained(model, device=device), fast)


def _aict(network: "AICT", fast: bool, pixels: Pixels, mask: Pixels) -> Pixels:
    check(pixels, mask)
    return network.harmonize(pixels, mask, fast=fast)
