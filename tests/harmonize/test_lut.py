"""Every way of looking up, against the reference in float64; the reference against SciPy."""

import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import RegularGridInterpolator

from harmonyiqa.errors import UserError
from harmonyiqa.harmonize import lut


def _cascade(seed: int, kinds: str = "iv", side: int = 6, knots: int = 5, crossed: bool = False):
    generator = torch.Generator().manual_seed(seed)
    tables = []
    for kind in kinds:
        curves = 9 if crossed and kind == "v" else 3
        raw = torch.rand(1, curves, knots, side, side + 1, generator=generator, dtype=torch.float64)
        tables.append(lut.interval_table(4 * raw) if kind == "i" else 1.4 * raw - 0.2)
    return tables


def _picture(seed: int, size=(23, 31)):
    random = np.random.default_rng(seed)
    mask = random.random(size) * (random.random(size) < 0.6)
    mask[5:9] = 0
    mask[10, 3:7] = 1
    return random.random((*size, 3)), mask


def _reference(tables, pixels, mask):
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    out = lut.harmonize(tables, image, torch.from_numpy(mask)[None, None])
    return out[0].permute(1, 2, 0).numpy()


def test_the_reference_is_trilinear_interpolation_with_corners_aligned() -> None:
    (table,) = _cascade(0, "v")
    pixels, _ = _picture(1)
    out = lut.lookup(table, torch.from_numpy(pixels).permute(2, 0, 1)[None])[0].numpy()
    _, _, knots, h, w = table.shape
    rows, columns = np.meshgrid(np.linspace(0, 1, 23), np.linspace(0, 1, 31), indexing="ij")
    for channel in range(3):
        scipy = RegularGridInterpolator(
            (np.linspace(0, 1, knots), np.linspace(0, 1, h), np.linspace(0, 1, w)), table[0, channel].numpy()
        )
        want = scipy(np.stack([pixels[..., channel], rows, columns], axis=-1))
        np.testing.assert_allclose(out[channel], want, atol=1e-12)


@pytest.mark.parametrize("knots", [2, 5, 8])
def test_identity_tables_give_the_input_back(knots) -> None:
    line = torch.linspace(0, 1, knots, dtype=torch.float64)[None, None, :, None, None].expand(1, 3, -1, 4, 4)
    even = lut.interval_table(torch.zeros_like(line))
    pixels, mask = _picture(0)
    np.testing.assert_allclose(_reference([even, line], pixels, mask), pixels, atol=1e-14)
    np.testing.assert_allclose(lut.harmonize_pixels([even, line], pixels, mask), pixels, atol=1e-14)


def test_an_interval_table_rises_from_0_to_1() -> None:
    table = lut.interval_table(torch.randn(2, 3, 8, 4, 4, dtype=torch.float64))
    assert table.shape == (2, 3, 9, 4, 4)
    assert (table[:, :, 0] == 0).all()
    assert (table.diff(dim=2) > 0).all()
    torch.testing.assert_close(table[:, :, -1], torch.ones(2, 3, 4, 4, dtype=torch.float64))


@pytest.mark.parametrize("kinds", ["v", "iv", "iiv", "ivv", "iviv"])
@pytest.mark.parametrize("crossed", [False, True])
def test_foreground_only_is_the_reference(kinds, crossed) -> None:
    tables = _cascade(2, kinds, crossed=crossed)
    pixels, mask = _picture(3)
    out = lut.harmonize_pixels(tables, pixels, mask)
    np.testing.assert_allclose(out, _reference(tables, pixels, mask), atol=1e-12)


@pytest.mark.parametrize("kinds", ["v", "iv", "iviv"])
@pytest.mark.slow  # numba compiles
def test_the_fused_loop_is_the_reference(kinds) -> None:
    pytest.importorskip("numba")
    tables = _cascade(4, kinds)
    pixels, mask = _picture(5)
    out = lut.harmonize_pixels(tables, pixels, mask, fast=True)
    np.testing.assert_allclose(out, _reference(tables, pixels, mask), atol=1e-12)
    np.testing.assert_array_equal(out[mask == 0], pixels[mask == 0])


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_integers_are_the_rounded_reference_and_the_background_is_untouched(dtype, fast) -> None:
    if fast:
        pytest.importorskip("numba")
    tables = [table.float() for table in _cascade(6)]
    random = np.random.default_rng(7)
    white = np.iinfo(dtype).max
    pixels = random.integers(0, white + 1, (40, 30, 3), dtype=dtype)
    mask = random.choice(np.array([0, 90, 255], np.uint8), (40, 30))
    out = lut.harmonize_pixels(tables, pixels, mask, fast=fast)
    want = _reference([t.double() for t in tables], pixels / white, mask / 255) * white
    assert out.dtype == dtype
    # float32 may fall to the other side of a half
    assert np.abs(out - want).max() < 0.5 + (1e-3 if dtype == np.uint8 else 0.1)
    np.testing.assert_array_equal(out[mask == 0], pixels[mask == 0])


@settings(max_examples=15)
@given(seed=st.integers(0, 99), rows=st.integers(1, 60), height=st.integers(1, 40), width=st.integers(1, 40))
def test_strip_size_never_changes_a_bit(seed, rows, height, width) -> None:
    tables = [table.float() for table in _cascade(seed)]
    pixels, mask = (values.astype(np.float32) for values in _picture(seed, (50, width)))
    pixels, mask = pixels[:height], mask[:height]
    whole = lut.harmonize_pixels(tables, pixels, mask, rows=1000)
    np.testing.assert_array_equal(lut.harmonize_pixels(tables, pixels, mask, rows=rows), whole)
    np.testing.assert_array_equal(whole[mask == 0], pixels[mask == 0])


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (2, 2)])
@pytest.mark.parametrize("fast", [False, True])
def test_one_row_one_column_one_pixel(size, fast) -> None:
    if fast:
        pytest.importorskip("numba")
    tables = _cascade(8)
    pixels = np.random.default_rng(0).random((*size, 3))
    mask = np.ones(size)
    out = lut.harmonize_pixels(tables, pixels, mask, fast=fast)
    np.testing.assert_allclose(out, _reference(tables, pixels, mask), atol=1e-12)


def test_an_empty_mask_changes_nothing() -> None:
    pixels, mask = _picture(0)
    np.testing.assert_array_equal(lut.harmonize_pixels(_cascade(0), pixels, 0 * mask), pixels)


def test_gradients_of_the_reference_in_float64() -> None:
    raw = torch.randn(1, 3, 4, 3, 3, dtype=torch.float64, requires_grad=True)
    values = torch.rand(1, 3, 4, 3, 3, dtype=torch.float64, requires_grad=True)
    generator = torch.Generator().manual_seed(1)
    image = 0.1 + 0.8 * torch.rand(1, 3, 5, 4, generator=generator, dtype=torch.float64)
    mask = torch.rand(1, 1, 5, 4, generator=generator, dtype=torch.float64)

    def out(raw, values):
        return lut.harmonize([lut.interval_table(raw), 0.1 + 0.8 * values], image, mask)

    assert torch.autograd.gradcheck(out, (raw, values))


def test_what_cannot_be_looked_up_is_said(monkeypatch) -> None:
    pixels, mask = _picture(0)
    with pytest.raises(UserError, match="the mask is 31 x 22, the image 31 x 23"):
        lut.harmonize_pixels(_cascade(0), pixels, mask[1:])
    with pytest.raises(UserError, match="crossed channels"):
        lut.harmonize_pixels(_cascade(0, crossed=True), pixels, mask, fast=True)
    monkeypatch.setitem(sys.modules, "harmonyiqa.harmonize.fused", None)
    with pytest.raises(UserError, match=r"harmonyiqa\[fast\]"):
        lut.harmonize_pixels(_cascade(0), pixels, mask, fast=True)
