"""What AICT is trained on: foreground-normalised squared error at both resolutions (paper, section 3.3)."""

from collections.abc import Sequence

import torch
from torch import nn

from harmonyiqa.config import AictLossSettings
from harmonyiqa.harmonize import lut
from harmonyiqa.harmonize.network import AICT


def foreground_mse(
    image: torch.Tensor, real: torch.Tensor, mask: torch.Tensor, min_area: float
) -> torch.Tensor:
    """Squared error summed over the image, over three times its foreground in pixels, at least `min_area`.

    Args:
        image: (N, 3, H, W), 0..1.
        real: likewise.
        mask: (N, 1, H, W), 0..1.
        min_area: Amin of equation 2, in pixels. (The three channels are the release's; equation 2 leaves them out.)

    Returns:
        (N,).
    """
    square = ((image - real) ** 2).sum(dim=(1, 2, 3))
    return square / (3 * mask.sum(dim=(1, 2, 3)).clamp_min(min_area))


def fmse(image: torch.Tensor, real: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """fMSE on the scale 0..255, protocol `aict` (see `evaluate.harmonization`), of float images: (N,)."""
    square = (mask * (255 * (image - real)) ** 2).sum(dim=(1, 2, 3))
    return square / (3 * mask.sum(dim=(1, 2, 3)) + 1e-6)


class AictLoss(nn.Module):
    """The network with its loss, as the training loop wants it: one batch in, a dictionary with `loss` out.

    Args:
        network: what learns.
        settings: weights of the loss.
    """

    def __init__(self, network: AICT, settings: AictLossSettings) -> None:
        super().__init__()
        self.network = network
        self.settings = settings

    def forward(
        self,
        small_images: torch.Tensor,
        small_masks: torch.Tensor,
        small_reals: torch.Tensor,
        images: Sequence[torch.Tensor],
        masks: Sequence[torch.Tensor],
        reals: Sequence[torch.Tensor],
    ) -> dict[str, torch.Tensor]:
        """Equation 3 for photos of any sizes.

        Args:
            small_images: (N, 3, S, S), 0..1.
            small_masks: (N, 1, S, S).
            small_reals: (N, 3, S, S).
            images: N of (3, H, W) uint8, each of its own size.
            masks: N of (1, H, W) uint8.
            reals: N of (3, H, W) uint8.

        Returns:
            `loss`; `fmse` (N,) of the results and `composite_fmse` (N,) of the images as they came, without gradient.
        """
        tables = [table.float() for table in self.network.tables(small_images, small_masks)]
        low = lut.harmonize(tables, small_images, small_masks)
        total = self.settings.low_weight * foreground_mse(
            low, small_reals, small_masks, self._area(self.settings.min_area_low, small_masks)
        )
        high, after, before = [], [], []
        for index, photo in enumerate(zip(images, masks, reals, strict=True)):
            image, mask, real = (part[None].float() / 255 for part in photo)
            result = lut.harmonize([table[index : index + 1] for table in tables], image, mask)
            high.append(foreground_mse(result, real, mask, self._area(self.settings.min_area_high, mask)))
            after.append(fmse(result.detach(), real, mask))
            before.append(fmse(image, real, mask))
        return {
            "loss": (torch.cat(high) + total).mean(),
            "fmse": torch.cat(after),
            "composite_fmse": torch.cat(before),
        }

    def _area(self, least: float, mask: torch.Tensor) -> float:
        return least if self.settings.normalization == "foreground" else float(mask[0].numel())
