import numpy as np
import pytest
import torch

from harmonyiqa.config import AictLossSettings, AictSettings
from harmonyiqa.evaluate.harmonization import fidelity
from harmonyiqa.harmonize.loss import AictLoss, fmse, foreground_mse
from harmonyiqa.harmonize.network import AICT


def test_the_loss_is_equation_2_with_the_releases_channels() -> None:
    image, real = torch.zeros(2, 3, 4, 5), torch.full((2, 3, 4, 5), 0.5)
    mask = torch.zeros(2, 1, 4, 5)
    mask[0, :, :2] = 1  # 10 pixels
    mask[1, :, :1, :1] = 1  # 1 pixel, fewer than Amin
    # 20 pixels x 3 channels x 0.25 over 3 x max(Amin, area)
    torch.testing.assert_close(foreground_mse(image, real, mask, 4), torch.tensor([15 / 30, 15 / 12]))


def test_fmse_is_that_of_the_protocol() -> None:
    random = np.random.default_rng(0)
    image, real = (random.integers(0, 256, (20, 30, 3), dtype=np.uint8) for _ in range(2))
    mask = random.integers(0, 256, (20, 30), dtype=np.uint8)
    tensors = [torch.from_numpy(a).permute(2, 0, 1)[None].double() / 255 for a in (image, real)]
    found = fmse(*tensors, torch.from_numpy(mask)[None, None].double() / 255)
    assert found.item() == pytest.approx(fidelity(image, real, mask, "aict").fmse)


def test_gradient_of_the_loss_in_float64() -> None:
    generator = torch.Generator().manual_seed(0)
    image, real = (torch.rand(2, 3, 4, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    mask = torch.rand(2, 1, 4, 5, generator=generator, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: foreground_mse(x, real, mask, 3), image.requires_grad_())


@pytest.mark.parametrize("normalization", ["foreground", "image"])
def test_photos_of_any_sizes_make_one_loss(normalization) -> None:
    torch.manual_seed(0)
    network = AICT(AictSettings(low_resolution=16)).eval()
    settings = AictLossSettings(
        low_weight=0.5, min_area_high=10, min_area_low=10, normalization=normalization
    )
    step = AictLoss(network, settings)
    sizes = [(20, 31), (45, 17)]
    photos = [[torch.randint(0, 256, (c, *size), dtype=torch.uint8) for size in sizes] for c in (3, 1, 3)]
    small = [torch.rand(2, c, 16, 16) for c in (3, 1, 3)]
    found = step(*small, *photos)
    alone = [step(*(s[i : i + 1] for s in small), *([p[i]] for p in photos)) for i in range(2)]
    assert found["loss"].item() == pytest.approx(np.mean([each["loss"].item() for each in alone]), rel=1e-5)
    assert found["fmse"].shape == (2,)
    found["loss"].backward()
    assert all(p.grad is not None for p in network.parameters())
    area = 20 * 31 if normalization == "image" else 10.0
    assert step._area(10, photos[1][0][None]) == area
