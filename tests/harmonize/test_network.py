from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from harmonyiqa.config import AictSettings
from harmonyiqa.data.manifest import read_manifest
from harmonyiqa.errors import UserError
from harmonyiqa.harmonize import network
from harmonyiqa.harmonize.network import AICT, convert_release, low_resolution
from harmonyiqa.harmonize.pictures import read_mask
from harmonyiqa.images import open_rgb

EXAMPLES = Path(__file__).parents[2] / "examples"
SMALL = AictSettings(low_resolution=16)


def _inputs(n: int = 2, side: int = 16):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(n, 3, side, side, generator=generator), torch.rand(
        n, 1, side, side, generator=generator
    )


@pytest.mark.parametrize("side", [16, 128, 256])
def test_the_release_has_5181140_parameters_at_any_resolution(side) -> None:
    model = AICT(AictSettings(low_resolution=side))
    assert sum(p.numel() for p in model.parameters()) == 5_181_140


@pytest.mark.parametrize(
    ("settings", "shapes"),
    [
        ({}, [(3, 9), (3, 8)]),
        ({"tables": "v", "weights": "none"}, [(3, 8)]),  # "Single" of table 4
        ({"tables": "v", "weights": "none", "crossed": True}, [(9, 8)]),  # "Cross"
        ({"tables": "v"}, [(3, 8)]),  # "w/o Int"
        ({"tables": "iiv"}, [(3, 9), (3, 9), (3, 8)]),  # "Int x 2"
        ({"tables": "ivv"}, [(3, 9), (3, 8), (3, 8)]),  # "Tra x 2"
        ({"tables": "iviv"}, [(3, 9), (3, 8), (3, 9), (3, 8)]),  # "Alt x 2"
        ({"weights": "gb"}, [(3, 9), (3, 8)]),  # table 5
        ({"weights": "spatial"}, [(3, 9), (3, 8)]),
        ({"knots": 6}, [(3, 7), (3, 6)]),  # table 6
        ({"position": "sine"}, [(3, 9), (3, 8)]),
    ],
)
def test_every_ablation_starts_near_the_identity_and_learns(settings, shapes) -> None:
    torch.manual_seed(0)
    model = AICT(AictSettings(low_resolution=16, **settings)).eval()
    image, mask = _inputs()
    tables = model.tables(image, mask)
    assert [tuple(t.shape) for t in tables] == [(2, *shape, 16, 16) for shape in shapes]
    out = model(image, mask)
    assert (out - image).abs().mean() < 0.1
    ((out - 0.5) ** 2).sum().backward()
    still = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert not still


def test_a_new_network_keeps_the_tokens_of_an_image_apart() -> None:
    torch.manual_seed(0)
    model = AICT(SMALL).eval()
    seen: list[torch.Tensor] = []
    model.encoder.register_forward_hook(lambda _, __, out: seen.append(out))
    image, mask = _inputs()
    model(F.interpolate(image[:, :, ::4, ::4], size=16), mask)  # a colour a patch
    assert seen[0].std(dim=1).mean() > 0.5  # each token has 1; torch's own first weights leave 0.24


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"low_resolution": 250}, "multiple of 4"),
        ({"tables": "vi"}, "ends with a value table"),
        ({"tables": "ix"}, "letters i and v"),
        ({"crossed": True}, "'none' with crossed"),
        ({"knots": 1}, "at least 2"),
    ],
)
def test_settings_that_make_no_network_are_refused(settings, message) -> None:
    with pytest.raises(UserError, match=message):
        AictSettings(**settings)


def test_weights_of_one_channel_leave_the_others_alone() -> None:
    model = AICT(AictSettings(low_resolution=16, weights="b")).eval()
    image, mask = _inputs()
    before = model.tables(image, mask)[1]
    with torch.no_grad():
        model.weights.bias += 1
    after = model.tables(image, mask)[1]
    assert torch.equal(before[:, :2], after[:, :2])
    assert not torch.allclose(before[:, 2], after[:, 2])


def test_without_positions_a_shift_by_patches_shifts_the_tables() -> None:
    model = AICT(SMALL).eval()
    image, mask = _inputs(1)
    shifted = model.tables(image.roll(4, 3), mask.roll(4, 3))[0]
    torch.testing.assert_close(shifted, model.tables(image, mask)[0].roll(4, 4), atol=1e-5, rtol=0)
    model.config = AictSettings(low_resolution=16, position="sine")
    assert not torch.allclose(model.tables(image.roll(4, 3), mask.roll(4, 3))[0], shifted, atol=1e-4)


def test_a_photo_keeps_size_depth_and_background() -> None:
    model = AICT(SMALL).eval()
    random = np.random.default_rng(0)
    mask = np.zeros((50, 37), np.uint8)
    mask[10:40, 5:20] = 255
    for dtype in (np.uint8, np.uint16, np.float32):
        high = 1 if dtype == np.float32 else np.iinfo(dtype).max
        pixels = (random.random((50, 37, 3)) * high).astype(dtype)
        out = model.harmonize(pixels, mask)
        assert (out.dtype, out.shape) == (pixels.dtype, pixels.shape)
        np.testing.assert_array_equal(out[mask == 0], pixels[mask == 0])
        assert not np.array_equal(out, pixels)


def test_a_foreground_of_one_pixel_and_a_mask_that_covers_all() -> None:
    model = AICT(SMALL).eval()
    pixels = np.random.default_rng(0).integers(0, 256, (50, 37, 3), dtype=np.uint8)
    mask = np.zeros((50, 37), np.uint8)
    mask[49, 36] = 255
    assert (model.harmonize(pixels, mask) != pixels).any(axis=2).sum() <= 1
    assert (model.harmonize(pixels, np.full_like(mask, 255)) != pixels).any(axis=2).mean() > 0.5


@pytest.mark.parametrize("size", [(256, 256), (100, 333), (40, 16), (1, 1)])
def test_resizing_is_bilinear_without_antialiasing(size) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    small = low_resolution(pixels, 32)
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    torch.testing.assert_close(small, F.interpolate(image, (32, 32), mode="bilinear"), atol=1e-6, rtol=0)
    assert low_resolution(pixels[..., 0], 32).shape == (1, 1, 32, 32)


def test_saved_and_loaded_it_is_the_same(tmp_path) -> None:
    settings = AictSettings(low_resolution=16, tables="iiv", weights="gb")
    model = AICT(settings).eval()
    model.save_pretrained(tmp_path / "a")
    again = AICT.from_pretrained(tmp_path / "a")
    assert again.config == settings
    torch.testing.assert_close(model.state_dict(), again.state_dict(), atol=0, rtol=0)
    image, mask = _inputs()
    assert torch.equal(model(image, mask), again(image, mask))


def test_half_precision_on_disk_is_float32_in_memory(tmp_path) -> None:
    AICT(SMALL).half().save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").stat().st_size < 11e6
    assert {p.dtype for p in AICT.from_pretrained(tmp_path).parameters()} == {torch.float32}


def test_the_bundled_network_brings_strong_shifts_nearer_to_the_photo() -> None:
    model = AICT.from_pretrained()
    assert (network.BUNDLED / "model.safetensors").stat().st_size < 11e6
    before, after = [], []
    for row in read_manifest(EXAMPLES / "manifest.csv").rows:
        if not row.image.startswith("images/strong"):
            continue
        image, photo = (np.asarray(open_rgb(EXAMPLES / str(name))) for name in (row.image, row.reference))
        mask = read_mask(EXAMPLES / str(row.mask))
        inside = mask > 127
        for found, pixels in ((before, image), (after, model.harmonize(image, mask))):
            found.append(((pixels[inside].astype(float) - photo[inside]) ** 2).mean())
    assert np.mean(after) < 0.75 * np.mean(before)


def test_what_is_no_model_is_said(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(network, "BUNDLED", tmp_path / "none")
    with pytest.raises(UserError, match="no bundled AICT"):
        AICT.from_pretrained()
    with pytest.raises(UserError, match="there is no model folder"):
        AICT.from_pretrained(tmp_path / "none")
    with pytest.raises(UserError, match=r"has no config\.json"):
        AICT.from_pretrained(tmp_path)
    AICT(SMALL).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(UserError, match="cannot be loaded"):
        AICT.from_pretrained(tmp_path)
    AICT(AictSettings(low_resolution=16, tables="v")).save_pretrained(tmp_path / "other")
    (tmp_path / "other/model.safetensors").rename(tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="cannot be loaded"):  # tensors are missing
        AICT.from_pretrained(tmp_path)


class _Release(torch.nn.Module):
    """Names and shapes of the release's modules, as far as they hold tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = torch.nn.Module()
        self.encoder.patch_to_embedding = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Linear(64, 256))
        layer = torch.nn.TransformerEncoderLayer(256, 2, 512, activation="gelu")
        self.encoder.transformer_enc = torch.nn.TransformerEncoder(layer, 9, enable_nested_tensor=False)
        self.decoder = torch.nn.Module()
        self.decoder.dec = torch.nn.ConvTranspose2d(256, 12, 4, 4)
        self.bottom_convs = torch.nn.Sequential(
            *(torch.nn.Conv2d(256, 128, 3, padding=1), torch.nn.BatchNorm2d(128), torch.nn.ReLU()),
            *(torch.nn.MaxPool2d(2), torch.nn.Conv2d(128, 64, 3, padding=1), torch.nn.BatchNorm2d(64)),
        )
        self.class_layer = torch.nn.Linear(64, 24)
        self.colors_layer = torch.nn.Conv2d(12, 24, 1)
        self.params_layer = torch.nn.Conv2d(12, 24, 1)

    def tables(self, image, mask):
        """The release's order of operations, sequence first."""
        n, _, side, _ = image.shape
        x = torch.cat([image, mask], 1)
        patches = x.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 4, 5, 1).reshape(n, -1, 64)
        tokens = self.encoder.transformer_enc(self.encoder.patch_to_embedding(patches).permute(1, 0, 2))
        feature = tokens.permute(1, 2, 0).reshape(n, 256, side // 4, side // 4)
        latent = self.decoder.dec(feature)
        weight = self.class_layer(self.bottom_convs(feature).relu().amax((2, 3)))
        interval = self.colors_layer(latent).reshape(n, 3, 8, side, side).softmax(2).cumsum(2)
        params = self.params_layer(latent) * weight[..., None, None]
        return interval, params.reshape(n, 3, 8, side, side)


def test_a_release_checkpoint_gives_the_releases_tables(tmp_path) -> None:
    torch.manual_seed(0)
    release = _Release().eval()
    torch.save(release.state_dict(), tmp_path / "aict.pth")
    image, mask = _inputs()
    model = convert_release(tmp_path / "aict.pth")
    with torch.no_grad():
        interval, values = model.tables(image, mask)
        theirs = release.tables(image, mask)
    torch.testing.assert_close(interval[:, :, 1:], theirs[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(values, theirs[1], atol=1e-5, rtol=1e-4)


def test_other_checkpoints_are_refused(tmp_path) -> None:
    tensors = _Release().state_dict()
    path = tmp_path / "x.pth"
    with pytest.raises(UserError, match="does not exist"):
        convert_release(path)
    for change in ({"extra.weight": torch.zeros(1)}, {"class_layer.bias": torch.zeros(30)}):
        torch.save({**tensors, **change}, path)
        with pytest.raises(UserError, match="is missing, unknown or of another shape"):
            convert_release(path)
    torch.save({"epoch": 3, "state_dict": tensors}, path)
    with pytest.raises(UserError, match="named tensors and nothing else"):
        convert_release(path)
    torch.save(_Release(), path)  # a whole pickled module could run code
    with pytest.raises(UserError, match="cannot be read as weights"):
        convert_release(path)
