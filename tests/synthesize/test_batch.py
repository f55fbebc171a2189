from dataclasses import replace
from pathlib import Path

import pytest
import torch

from harmonyiqa.color import delta_e_2000, srgb_to_lab
from harmonyiqa.errors import UserError
from harmonyiqa.synthesize.bank import EVERYTHING, PhotoBank, build_bank
from harmonyiqa.synthesize.batch import BatchMaker
from harmonyiqa.synthesize.recipe import Composites, Recipe

SIDE = 48


@pytest.fixture(scope="module")
def bank(small_pack: Path) -> PhotoBank:
    return build_bank(small_pack, "train", 64, workers=1)


def drawn(bank: PhotoBank, n: int = 48, **recipe: object) -> Composites:
    plain = Recipe(untouched=0, paste=0, decoy=0, compressed=0)
    return BatchMaker(bank, SIDE, replace(plain, **recipe)).draw(n)  # type: ignore[arg-type]


def off(made: Composites) -> torch.Tensor:
    """CIEDE2000 between image and reference, (n, T, T)."""
    return delta_e_2000(*(srgb_to_lab(x.permute(0, 2, 3, 1)) for x in (made.image, made.reference)))


def test_the_bank_knows_regions_classes_and_sources(bank: PhotoBank) -> None:
    assert bank.names == ["pets", "street", "wild"]
    pets, street, wild = (bank.regions[bank.sources == s] for s in range(3))
    assert len(pets) == 8  # two regions a photo
    assert len(street) == 12  # two pieces of one class, and their union
    assert (street[:, 1] == EVERYTHING).sum() == 4
    assert len(wild) >= 2  # segments
    kinds = bank.classes[bank.sources == 1]
    assert len(kinds.unique()) == 2  # the class, and everything
    assert (bank.classes[bank.sources != 1] == -1).all()


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
def test_collections_are_drawn_by_a_power_of_their_size(bank: PhotoBank, exponent: float) -> None:
    sizes = torch.bincount(bank.sources)
    plan = BatchMaker(bank, SIDE, Recipe(source_exponent=exponent)).plan(6000)
    drawn = torch.bincount(bank.sources[plan.regions]) / 6000
    assert torch.allclose(drawn, sizes**exponent / (sizes**exponent).sum(), atol=0.03)
    if exponent:
        assert (drawn - 1 / 3).abs().max() > 0.03


def test_a_mask_is_its_region(bank: PhotoBank) -> None:
    masks = bank.mask(torch.arange(len(bank.regions)))
    share = masks.float().mean((1, 2))
    assert ((share >= 0.03) & (share <= 0.5)).all()
    union = (bank.regions[:, 1] == EVERYTHING).nonzero()[0, 0]
    pieces = bank.regions[:, 0] == bank.regions[union, 0]
    assert torch.equal(masks[union], masks[pieces].any(0))


def test_a_bank_is_saved_and_read_back(bank: PhotoBank, tmp_path: Path) -> None:
    bank.save(tmp_path / "bank.safetensors")
    again = PhotoBank.load(tmp_path / "bank.safetensors")
    assert again.names == bank.names
    assert all(torch.equal(v, getattr(again, k)) for k, v in vars(bank).items() if k != "names")


def test_a_split_without_photos_is_an_error(small_pack: Path) -> None:
    with pytest.raises(UserError, match="no photo of split 'test'"):
        build_bank(small_pack, "test", 64, workers=1)


def test_untouched_is_the_photo(bank: PhotoBank) -> None:
    made = drawn(bank, untouched=1)
    assert (made.severity == 0).all()
    assert torch.equal(made.image, made.reference)


def test_a_shift_is_where_alpha_says_and_as_strong_as_severity_says(bank: PhotoBank) -> None:
    made = drawn(bank)
    difference, alpha = off(made), made.alpha[:, 0]
    assert difference[alpha == 0].max() == 0
    inside = torch.stack([d[a > 0.5].mean() for d, a in zip(difference, alpha, strict=True)])
    assert (inside - made.severity).abs().median() < 0.7
    assert made.severity.std() > 3


def test_a_whole_photo_change_is_not_severity(bank: PhotoBank) -> None:
    made = drawn(bank, untouched=1, decoy=1)
    assert (made.severity == 0).all()
    assert off(made).mean() > 3


def test_reach_says_how_far_whole_photos_go(bank: PhotoBank) -> None:
    far, half, none = (off(drawn(bank, untouched=1, decoy=1, reach=reach)).mean() for reach in (1, 0.5, 0))
    assert far > 1.2 * half
    assert half > 1
    assert none < 0.01


def test_another_recipe_for_one_batch(bank: PhotoBank) -> None:
    maker = BatchMaker(bank, SIDE, Recipe(paste=1, matched=1, untouched=0))
    assert maker.draw(16).pasted.any()
    other = maker.draw(16, replace(maker.recipe, paste=0))
    assert not other.pasted.any()
    assert (other.severity > 0).all()


def test_a_matched_paste_shows_another_region_but_counts_as_untouched(bank: PhotoBank) -> None:
    made = drawn(bank, paste=1, matched=1)
    assert made.pasted.float().mean() > 0.8
    assert (made.severity < 0.05).all()
    assert off(made)[made.alpha[:, 0] > 0.9].mean() > 3
    loose = drawn(bank, paste=1, matched=0)
    assert loose.severity.mean() > 3


def test_compression_touches_untouched_and_altered_alike(bank: PhotoBank) -> None:
    made = drawn(bank, untouched=1, compressed=1)
    assert (made.severity == 0).all()
    assert 0 < off(made).mean() < 3


def test_one_seed_one_batch(bank: PhotoBank) -> None:
    first, second = (BatchMaker(bank, SIDE, seed=3).draw(8) for _ in range(2))
    assert torch.equal(first.image, second.image)
    assert not torch.equal(first.image, BatchMaker(bank, SIDE, seed=4).draw(8).image)


def test_looks_are_a_family_of_their_own(bank: PhotoBank) -> None:
    warm = torch.zeros(1, 3, 2, 2, 2)
    warm[0, 0, :, :, 1] = 1.0
    warm[0, 1, :, 1] = 1.0
    warm[0, 2, 1] = 0.3  # blue comes out at a third
    maker = BatchMaker(
        bank, SIDE, Recipe(untouched=0, paste=0, natural=1, decoy=0, compressed=0, families=("lut",)), warm
    )
    made = maker.draw(16)
    inside = made.alpha[:, 0] > 0.99
    ratio = (made.image[:, 2][inside] / made.reference[:, 2][inside].clamp_min(0.1)).median()
    assert ratio == pytest.approx(0.3, abs=0.05)
    with pytest.raises(ValueError, match="unknown family 'lut'"):
        BatchMaker(bank, SIDE, Recipe(families=("lut",)))


@pytest.mark.parametrize("n", [16, 17])
def test_the_second_half_of_pairs_is_the_first_untouched(bank: PhotoBank, n: int) -> None:
    made = drawn(bank, n, paired=True, decoy=0.5, between=(8, 30))
    scenes = n - n // 2
    assert len(made.image) == n
    assert (made.severity[scenes:] == 0).all()
    assert (made.severity[:scenes] > 4).float().mean() > 0.8  # not every change reaches far
    # the photo changed as a whole, or not, in both alike
    outside = made.alpha[: n // 2].expand(-1, 3, -1, -1) == 0
    assert torch.equal(made.image[: n // 2][outside], made.image[scenes:][outside])
    assert torch.equal(made.reference[: n // 2], made.reference[scenes:])


def test_every_other_paste_has_a_twin_that_fits(bank: PhotoBank) -> None:
    made = drawn(bank, 128, paired=True, paste=1.0, matched=0.0, decoy=0)
    first, twin = made.pasted[:64], made.pasted[64:]
    assert 0.3 < (twin & first).float().sum() / first.sum() < 0.7
    assert not (twin & ~first).any()
    assert torch.equal(made.alpha[:64][twin], made.alpha[64:][twin])
    assert (made.severity[64:] == 0).all()
    seen = (made.image[64:] != made.reference[64:]).flatten(1).any(1)
    assert torch.equal(seen, twin)


def test_severities_between_bounds_are_even(bank: PhotoBank) -> None:
    maker = BatchMaker(bank, SIDE, Recipe(untouched=0, paste=0, between=(5, 25)))
    wanted = maker.severities(4000)
    assert 5 <= wanted.min() < 5.2
    assert 24.8 < wanted.max() <= 25
    assert abs(wanted.mean() - 15) < 0.5


def test_blobs_cover_3_to_40_percent_in_few_pieces(bank: PhotoBank) -> None:
    made = drawn(bank, 64, blobs=1.0)
    share = made.alpha.mean((1, 2, 3))
    assert ((share > 0.02) & (share < 0.42)).all()
    assert share.std() > 0.05
    edges = (made.alpha[..., 1:] - made.alpha[..., :-1]).abs().sum((1, 2, 3)) / SIDE
    assert edges.max() < 6  # a row of pixels crosses a handful of borders


def test_fitting_is_the_image_without_the_change(bank: PhotoBank) -> None:
    made = drawn(bank, paste=0.5, matched=0.0, decoy=0.5)
    outside = made.alpha.expand(-1, 3, -1, -1) == 0
    assert (made.image - made.fitting)[outside].abs().max() < 0.003  # 8 bit
    apart = delta_e_2000(*(srgb_to_lab(x.permute(0, 2, 3, 1)) for x in (made.image, made.fitting)))
    inside = torch.stack([d[a > 0.5].mean() for d, a in zip(apart, made.alpha[:, 0], strict=True)])
    assert (inside - made.severity).abs().median() < 0.7
    untouched = drawn(bank, untouched=1, paste=0.5)
    assert (untouched.image - untouched.fitting).abs().max() < 0.003


def test_worn_images_are_others_in_the_same_colours(bank: PhotoBank) -> None:
    maker = BatchMaker(bank, SIDE, Recipe(untouched=1, paste=0, decoy=0, compressed=0))
    plan = maker.plan(16)
    chance = maker.generator.get_state()
    clean = maker.make(plan)
    maker.generator.set_state(chance)
    chosen = torch.arange(16) % 2 == 0
    worn = maker.make(replace(plan, worn=chosen))
    assert torch.equal(clean.alpha, worn.alpha)
    assert torch.equal((clean.image != worn.image).flatten(1).any(1), chosen)
    assert (clean.image.mean((2, 3)) - worn.image.mean((2, 3))).abs().max() < 0.02


def test_the_recipe_says_how_many_are_worn(bank: PhotoBank) -> None:
    maker = BatchMaker(bank, SIDE, Recipe(worn=0.5, paired=True))
    worn = maker.plan(200).worn
    assert worn is not None
    assert 0.35 < worn.float().mean() < 0.65
    assert maker.plan(16, replace(maker.recipe, worn=0.0)).worn is None
