"""Every metric of `harmonyiqa baselines --metrics`, from which library, and how its images must look.

Nothing here computes a metric: scikit-image, piq and pyiqa do. A score is oriented: higher is better.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harmonyiqa.baselines.full_reference import Pixels, negative_ciede2000, negative_mse, psnr, ssim
from harmonyiqa.errors import UserError

if TYPE_CHECKING:
    import torch

Score = Callable[[Pixels, Pixels | None], float]

SMALLEST = 192  # pixels a side of a foreground crop, where the image has them: MS-SSIM needs 161


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
        library: the package that computes it.
        load: makes the function from an image, and a reference or None, to a score; it may fetch weights.
        needs_reference: whether it compares with the reference (FR); else it sees the image alone (NR).
        pixelwise: a mean over pixels, which can be taken inside a mask; the others see a crop around it.
    """

    library: str
    load: Callable[[], Any]
    needs_reference: bool = True
    pixelwise: bool = False


def foreground(
    metric: Metric, image: Pixels, reference: Pixels | None, mask: NDArray[np.float32]
) -> tuple[Pixels, Pixels | None]:
    """What a metric sees of an image when only the foreground counts.

    A pixelwise metric sees the pixels inside the mask, as an image of one row. Another sees the mask's bounding
    box, grown to ``SMALLEST`` pixels a side; with a reference, all outside the mask is taken from it.

    Args:
        metric: the metric.
        image: sRGB, shape (H, W, 3).
        reference: likewise, or None.
        mask: 0..1, shape (H, W); inside is where it is 0.5 or more.

    Raises:
        UserError: if nothing is inside the mask, or it has another size.
    """
    if mask.shape != image.shape[:2]:
        raise UserError(
            f"the mask is {mask.shape[1]} x {mask.shape[0]}, the image {image.shape[1]} x {image.shape[0]}"
        )
    inside = mask >= 0.5
    if not inside.any():
        raise UserError("the mask is empty: it has no foreground")
    if metric.pixelwise:
        return image[inside][None], None if reference is None else reference[inside][None]
    box = tuple(_grown(np.flatnonzero(inside.any(axis=1 - axis)), inside.shape[axis]) for axis in (0, 1))
    if reference is None:
        return image[box], None
    return np.where(inside[..., None], image, reference)[box], reference[box]


def _grown(occupied: NDArray[np.intp], length: int) -> slice:
    """The occupied part of a side, as long as it is or ``SMALLEST``, inside the image."""
    size = min(length, max(SMALLEST, int(np.ptp(occupied)) + 1))
    middle = int(occupied[0] + occupied[-1] + 1) // 2
    start = min(max(0, middle - size // 2), length - size)
    return slice(start, start + size)


def _with_reference(function: Callable[[Pixels, Pixels], float]) -> Callable[[], Any]:
    return lambda: function


def _piq(name: str, sign: int, **options: Any) -> Score:
    """A function of piq."""
    import piq

    function = partial(getattr(piq, name), data_range=1.0, **options)
    return lambda image, reference: sign * float(function(*_tensors(image, reference)))


def _piq_brisque() -> Score:
    """BRISQUE of piq, which would fetch its weights at the first image: asked here, their lack is said once."""
    score = _piq("brisque", -1)
    score(np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8), None)
    return score


def _piq_network(name: str, sign: int) -> Score:
    """A network of piq, which fetches its weights."""
    import piq
    import torch

    network = getattr(piq, name)().eval()

    def score(image: Pixels, reference: Pixels | None) -> float:
        with torch.inference_mode():
            return sign * float(network(*_tensors(image, reference)))

    return score


def _pyiqa(name: str) -> Score:
    """A metric of pyiqa, which says itself which direction is better and fetches its weights."""
    import pyiqa
    import torch

    metric = pyiqa.create_metric(name)
    sign = -1 if metric.lower_better else 1

    def score(image: Pixels, reference: Pixels | None) -> float:
        with torch.inference_mode():
            return sign * float(metric(*_tensors(image, reference)))

    return score


def _tensors(*images: Pixels | None) -> "list[torch.Tensor]":
    """Images as (1, 3, H, W) in 0..1, those that are not None."""
    import torch

    return [
        torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None].float() / 255
        for image in images
        if image is not None
    ]


def _from_piq(name: str, sign: int = 1, *, network: bool = False, **options: Any) -> Metric:
    load = partial(_piq_network, name, sign) if network else partial(_piq, name, sign, **options)
    return Metric("piq", load)


def _from_pyiqa(name: str, *, needs_reference: bool = False) -> Metric:
    return Metric("pyiqa", partial(_pyiqa, name), needs_reference=needs_reference)


METRICS: dict[str, Metric] = {
    "mse": Metric("scikit-image", _with_reference(negative_mse), pixelwise=True),
    "psnr": Metric("scikit-image", _with_reference(psnr), pixelwise=True),
    "ciede2000": Metric("scikit-image", _with_reference(negative_ciede2000), pixelwise=True),
    "ssim": Metric("scikit-image", _with_reference(ssim)),
    "ms_ssim": _from_piq("multi_scale_ssim"),
    "iw_ssim": _from_piq("information_weighted_ssim"),
    "fsim": _from_piq("fsim", chromatic=False),
    "fsimc": _from_piq("fsim", chromatic=True),
    "vif": _from_piq("vif_p"),
    "gmsd": _from_piq("gmsd", -1),
    "ms_gmsd": _from_piq("multi_scale_gmsd", -1),
    "vsi": _from_piq("vsi"),
    "mdsi": _from_piq("mdsi", -1),
    "haarpsi": _from_piq("haarpsi"),
    "dss": _from_piq("dss"),
    "lpips_vgg": _from_piq("LPIPS", -1, network=True),
    "dists": _from_piq("DISTS", -1, network=True),
    "pieapp": _from_piq("PieAPP", -1, network=True),
    "brisque": Metric("piq", _piq_brisque, needs_reference=False),
    "lpips_alex": _from_pyiqa("lpips", needs_reference=True),
    "st_lpips_alex": _from_pyiqa("stlpips", needs_reference=True),
    "st_lpips_vgg": _from_pyiqa("stlpips-vgg", needs_reference=True),
    "ahiq": _from_pyiqa("ahiq", needs_reference=True),
    "topiq_fr": _from_pyiqa("topiq_fr", needs_reference=True),
    "niqe": _from_pyiqa("niqe"),
    "cnniqa": _from_pyiqa("cnniqa"),
    "wadiqam": _from_pyiqa("wadiqam_nr"),
    "nima": _from_pyiqa("nima"),
    "dbcnn": _from_pyiqa("dbcnn"),
    "hyperiqa": _from_pyiqa("hyperiqa"),
    "maniqa": _from_pyiqa("maniqa"),
    "clipiqa": _from_pyiqa("clipiqa"),
    "topiq": _from_pyiqa("topiq_nr"),
    "arniqa": _from_pyiqa("arniqa"),
}
