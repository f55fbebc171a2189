import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.color import deltaE_ciede2000, rgb2lab

from harmonyiqa.data.check import find_problems
from harmonyiqa.data.manifest import Manifest, Row, read_manifest
from harmonyiqa.data.splits import contents_in_two_splits
from harmonyiqa.errors import UserError
from harmonyiqa.evaluate.null_predictors import content_sibling, method_mean
from harmonyiqa.metrics import srcc
from harmonyiqa.synthesize.command import synthesize
from harmonyiqa.synthesize.compose import METHODS
from harmonyiqa.synthesize.severity import mos_of

PHOTOS = Path(os.environ.get("HARMONYIQA_PHOTOS", Path(__file__).parents[2] / "../shared/data/photos"))


@pytest.fixture(scope="module")
def made(photo_pack: Path, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Every photo of the pack, nine versions each: 360 images."""
    out = tmp_path_factory.mktemp("made") / "set"
    synthesize(str(photo_pack), str(out), contents=0, workers=2)
    return read_manifest(out / "manifest.csv")


def lab(path: Path) -> np.ndarray:
    return rgb2lab(np.asarray(Image.open(path).convert("RGB")))


def difference(manifest: Manifest, row: Row) -> np.ndarray:
    """CIEDE2000 (H, W) between the saved image and the saved reference, by scikit-image."""
    assert row.reference
    return deltaE_ciede2000(lab(manifest.resolve(row.image)), lab(manifest.resolve(row.reference)))


def mask(manifest: Manifest, row: Row) -> np.ndarray:
    assert row.mask
    return np.asarray(Image.open(manifest.resolve(row.mask)))


def plain(rows: list[Row]) -> list[Row]:
    """Rows whose reference shows the very same scene: no decoy, nothing pasted."""
    return [row for row in rows if row.extra["decoy"] is None and row.method != "paste"]


def test_the_set_is_sound_and_every_column_filled(made: Manifest) -> None:
    assert find_problems(made) == []
    assert len(made.rows) == 360
    for row in made.rows:
        assert row.reference
        assert row.mask
        assert row.method in METHODS
        assert row.group == ("transfer" if row.method in METHODS[-3:] else "parametric")
        assert row.mos_kind == "synthetic"
        assert row.extra["source"] in ("few", "many")
        assert row.mos == pytest.approx(mos_of(float(row.extra["severity"] or 0)), abs=1e-3)


def test_contents_keep_their_split(made: Manifest) -> None:
    assert contents_in_two_splits(made.rows) == {}
    assert Counter(row.split for row in made.rows) == {"train": 270, "test": 90}
    assert set(Counter(row.content for row in made.rows).values()) == {9}


def test_scores_are_spread_like_harmonyiqad(made: Manifest) -> None:
    mos = np.array([row.mos for row in made.rows])
    assert mos.mean() == pytest.approx(49.88, abs=2)
    assert mos.std() == pytest.approx(13.11, abs=1.5)
    assert mos.min() > 26
    assert mos.max() == 77.6


def test_no_pixel_free_predictor_reaches_a_srcc_of_one_fifth(made: Manifest) -> None:
    mos = [row.mos for row in made.rows]
    assert abs(srcc(method_mean(made.rows, made.rows), mos)) <= 0.2  # in sample: the most it can do
    even, odd = made.rows[::2], made.rows[1::2]  # siblings on both sides
    assert abs(srcc(content_sibling(even, odd), [row.mos for row in odd])) <= 0.2


def test_untouched_and_decoyed_rows_are_spread_over_the_methods(made: Manifest) -> None:
    untouched = [row for row in made.rows if row.extra["severity"] == 0]
    decoyed = [row for row in made.rows if row.extra["decoy"]]
    assert 0.04 < len(untouched) / len(made.rows) < 0.1
    assert 0.34 < len(decoyed) / len(made.rows) < 0.46
    assert len({row.method for row in untouched}) >= 6
    assert len({row.method for row in decoyed}) >= 8
    scores = [np.mean([row.mos for row in rows]) for rows in (decoyed, made.rows)]
    assert scores[0] == pytest.approx(scores[1], abs=3)  # a decoy tells nothing about the score


def test_the_severity_is_what_the_saved_files_show(made: Manifest) -> None:
    rows = plain(made.rows)
    shown = [difference(made, row)[mask(made, row) >= 128].mean() for row in rows]
    stated = [float(row.extra["severity"] or 0) for row in rows]
    assert srcc(shown, stated) > 0.99
    changed = np.array(stated) > 3
    np.testing.assert_allclose(np.array(shown)[changed], np.array(stated)[changed], atol=1.5)  # JPEG


def test_outside_its_mask_an_image_is_the_reference_unless_decoyed(made: Manifest) -> None:
    for row in plain(made.rows)[::10]:
        assert np.median(difference(made, row)[mask(made, row) == 0]) < 2  # twice JPEG
    decoyed = [row for row in made.rows if row.extra["decoy"]]
    outside = [difference(made, row)[mask(made, row) == 0].mean() for row in decoyed]
    assert np.mean(outside) > 4


def test_untouched_regions_have_the_soft_edge_and_the_grain_of_altered_ones(made: Manifest) -> None:
    untouched = [row for row in plain(made.rows) if row.extra["severity"] == 0]
    assert untouched
    for row in untouched:
        alpha = mask(made, row)
        assert ((alpha > 0) & (alpha < 255)).any()
        changes = difference(made, row)
        assert 0 < changes[alpha >= 128].mean() < 3  # compressed once more, nothing else


def test_a_seed_and_not_the_workers_decides_the_files(photo_pack: Path, tmp_path: Path) -> None:
    def bytes_of(name: str, seed: int, workers: int) -> dict[str, bytes]:
        out = tmp_path / name
        synthesize(str(photo_pack), str(out), contents=5, versions=2, seed=seed, workers=workers)
        return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}

    one = bytes_of("one", seed=1, workers=1)
    assert len(one) == 1 + 5 + 2 * 10
    assert bytes_of("two", seed=1, workers=2) == one
    assert bytes_of("three", seed=2, workers=1)["manifest.csv"] != one["manifest.csv"]


def test_near_grey_photos_get_no_hue_and_no_saturation(
    make_photo: Callable[..., None], tmp_path: Path
) -> None:
    for seed in range(4):
        make_photo(tmp_path / "photos" / f"{seed}.png", seed, colorful=False)
    synthesize(str(tmp_path / "photos"), str(tmp_path / "out"), contents=0, workers=1)
    rows = read_manifest(tmp_path / "out" / "manifest.csv").rows
    assert len(rows) == 36
    assert {row.split for row in rows} == {None}
    assert not {row.method for row in rows} & {"hue", "saturation"}
    assert not {row.extra["decoy"] for row in rows} & {"hue", "saturation"}


def test_a_photo_alone_gets_parametric_changes_only(
    make_photo: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_photo(tmp_path / "photos" / "a.png", seed=0)
    synthesize(str(tmp_path / "photos"), str(tmp_path / "out"), contents=5, workers=1)
    rows = read_manifest(tmp_path / "out" / "manifest.csv").rows
    assert {row.group for row in rows} == {"parametric"}
    assert len(rows) == 9  # fewer photos than asked for: what there is
    assert "The scores are synthetic" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"versions": 0}, "versions 0 is too small; give 1 or more"),
        ({"contents": -1}, "contents -1 is too small; give 0 or more"),
        ({"split": "val"}, "has no photo of split 'val'"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_written(
    photo_pack: Path, tmp_path: Path, settings: dict, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        synthesize(str(photo_pack), str(tmp_path / "out"), **settings)
    assert not (tmp_path / "out").exists()


def test_a_folder_with_files_is_not_written_into(photo_pack: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="exists and is not an empty folder"):
        synthesize(str(photo_pack), str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_failed_run_leaves_no_manifest(make_photo: Callable[..., None], tmp_path: Path) -> None:
    for seed in range(3):
        make_photo(tmp_path / "photos" / f"{seed}.png", seed)
    (tmp_path / "photos" / "1.png").write_bytes(b"not a photo")
    with pytest.raises(UserError, match=r"1\.png"):
        synthesize(str(tmp_path / "photos"), str(tmp_path / "out"), workers=1)
    assert not (tmp_path / "out" / "manifest.csv").exists()


@pytest.mark.skipif(not PHOTOS.is_dir(), reason="needs the photo pack; set HARMONYIQA_PHOTOS")
def test_real_photos_of_several_sources(tmp_path: Path) -> None:
    synthesize(str(PHOTOS), str(tmp_path / "out"), contents=10, versions=4, workers=2)
    made = read_manifest(tmp_path / "out" / "manifest.csv")
    assert find_problems(made) == []
    assert len({row.extra["source"] for row in made.rows}) >= 3
    assert contents_in_two_splits(made.rows) == {}
    shown = [difference(made, row)[mask(made, row) >= 128].mean() for row in plain(made.rows)]
    assert srcc(shown, [float(row.extra["severity"] or 0) for row in plain(made.rows)]) > 0.97
