"""The images that the first command scores: complete, small, and what the script makes."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from harmonyiqa import HarmonyIQA
from harmonyiqa.data.manifest import Manifest, read_manifest
from harmonyiqa.images import open_mask, open_rgb, pair_by_key

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    return read_manifest(EXAMPLES / "manifest.csv")


def test_every_file_is_there_small_and_of_one_size(manifest: Manifest) -> None:
    assert len(manifest.rows) == 12
    for row in manifest.rows:
        image = open_rgb(manifest.resolve(row.image))
        assert max(image.size) <= 512
        assert row.reference is not None
        assert row.mask is not None
        assert open_rgb(manifest.resolve(row.reference)).size == image.size
        assert open_mask(manifest.resolve(row.mask)).shape == image.size[::-1]
    assert sum(path.stat().st_size for path in EXAMPLES.rglob("*") if path.is_file()) < 1.5e6


def test_a_reference_folder_pairs_the_same_files_as_the_manifest(manifest: Manifest) -> None:
    images = [manifest.resolve(row.image) for row in manifest.rows]
    references = [manifest.resolve(row.reference or "") for row in manifest.rows]
    assert pair_by_key(images, EXAMPLES / "references") == references


def test_the_bundled_model_tells_untouched_from_strongly_shifted(manifest: Manifest) -> None:
    """What `make score` promises: every pair with the reference, on average without."""
    model = HarmonyIQA.from_pretrained()
    alone, beside = {}, {}
    for row in manifest.rows:
        image = manifest.resolve(row.image)
        key = (row.content, image.parent.name)
        alone[key] = model.score(image)
        beside[key] = model.score(image, reference=manifest.resolve(row.reference or ""))
    contents = {row.content for row in manifest.rows}
    for content in contents:
        assert beside[content, "untouched"] > beside[content, "strong"], content
    means = [
        np.mean([alone[content, version] for content in contents]) for version in ("untouched", "strong")
    ]
    assert means[0] > means[1]


def test_scores_fall_with_the_shift_and_are_called_synthetic(manifest: Manifest) -> None:
    mos = {row.image.removeprefix("images/"): row.mos or 0.0 for row in manifest.rows}
    for content in {row.content for row in manifest.rows}:
        untouched, mild, strong = (
            mos[f"{version}/{content}.jpg"] for version in ("untouched", "mild", "strong")
        )
        assert untouched > mild + 10 > strong + 20
    assert {row.mos_kind for row in manifest.rows} == {"synthetic"}


def test_only_the_foreground_differs_from_the_reference(manifest: Manifest) -> None:
    for row in manifest.rows:
        mask = open_mask(manifest.resolve(row.mask or ""))
        pixels = [
            np.asarray(open_rgb(manifest.resolve(path or "")), float) for path in (row.image, row.reference)
        ]
        difference = np.abs(pixels[0] - pixels[1]).mean(axis=2)
        assert difference[mask == 0].mean() < 3  # compression alone
        if row.method != "untouched":
            assert difference[mask == 1].mean() > 2 * difference[mask == 0].mean()
        assert 0.03 < mask.mean() < 0.5


def test_every_photo_has_its_licence(manifest: Manifest) -> None:
    text = (EXAMPLES / "LICENCES.md").read_text(encoding="utf-8")
    assert all(f"`{row.content}`" in text for row in manifest.rows)


def test_the_script_makes_what_is_shipped(
    manifest: Manifest, tmp_path: Path, load_script: Callable[[str], ModuleType]
) -> None:
    pytest.importorskip("sklearn")
    script = load_script("make_examples")
    script.main(tmp_path)
    again = read_manifest(tmp_path / "manifest.csv")
    for made, shipped in zip(again.rows, manifest.rows, strict=True):
        assert (made.image, made.reference, made.mask) == (shipped.image, shipped.reference, shipped.mask)
        assert made.mos == pytest.approx(shipped.mos, abs=0.2)
        pixels = [np.asarray(open_rgb(table.resolve(made.image)), float) for table in (again, manifest)]
        assert np.abs(pixels[0] - pixels[1]).mean() < 1  # another Pillow may round otherwise
