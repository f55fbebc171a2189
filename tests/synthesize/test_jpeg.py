import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from harmonyiqa.synthesize.jpeg import jpeg


@pytest.mark.parametrize("quality", [50, 75, 85, 90, 96])
def test_the_loss_is_libjpegs(quality: int) -> None:
    rng = np.random.default_rng(0)
    smooth = ndimage.gaussian_filter(rng.random((64, 48, 3)), (3, 3, 0))
    picture = np.uint8(np.clip((smooth - smooth.mean()) * 6 + 0.5, 0, 1) * 255)
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality, subsampling=0)
    expected = np.asarray(Image.open(file)).astype(float)
    tensor = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
    found = jpeg(tensor, torch.tensor([float(quality)]))[0].permute(1, 2, 0).numpy() * 255
    lost = np.abs(expected - picture).mean()
    # libjpeg computes in integers: single levels differ
    assert np.abs(found - expected).mean() < 0.4
    assert np.abs(found - picture).mean() == pytest.approx(lost, rel=0.1)


def test_every_image_has_its_own_quality() -> None:
    image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    both = jpeg(image.expand(2, -1, -1, -1), torch.tensor([60.0, 95.0]))
    for i, quality in enumerate((60.0, 95.0)):
        torch.testing.assert_close(both[i : i + 1], jpeg(image, torch.tensor([quality])))
    assert (both[0] - image).abs().mean() > (both[1] - image).abs().mean()
