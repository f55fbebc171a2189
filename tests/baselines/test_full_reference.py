"""PSNR and CIEDE2000 by hand, by our own colour code, and what cannot be compared."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harmonyiqa.baselines.command import baselines, score_rows
from harmonyiqa.baselines.full_reference import METRICS, negative_ciede2000, psnr
from harmonyiqa.color import delta_e_2000, srgb_to_lab
from harmonyiqa.data.manifest import Row, read_manifest, write_manifest
from harmonyiqa.data.predictions import read_predictions
from harmonyiqa.errors import UserError


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 250, (9, 7, 3), dtype=np.uint8)


def test_psnr_by_hand() -> None:
    image = noise(0)
    assert psnr(image + np.uint8(5), image) == pytest.approx(20 * np.log10(255 / 5))
    assert psnr(image, image) == 100


def test_ciede2000_agrees_with_our_own_formula_and_is_negated() -> None:
    image, reference = noise(1), noise(2)
    expected = delta_e_2000(srgb_to_lab(image / 255), srgb_to_lab(reference / 255)).mean()
    assert negative_ciede2000(image, reference) == pytest.approx(-expected, abs=1e-3)
    assert negative_ciede2000(image, image) == 0


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_a_larger_change_scores_lower(metric) -> None:
    image = noise(3)
    scores = [metric(np.clip(image * gain, 0, 255).astype(np.uint8), image) for gain in (1.0, 0.9, 0.7, 0.4)]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == 4


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    for name, seed in (("a", 0), ("b", 1)):
        Image.fromarray(noise(seed)).save(tmp_path / f"{name}.png")
    Image.fromarray(noise(2)[:5]).save(tmp_path / "short.png")
    rows = [
        Row(image="a.png", reference="b.png", mos=1, split="test"),
        Row(image="short.png", reference="b.png", mos=2, split="test"),
        Row(image="gone.png", reference="b.png", mos=3, split="test"),
        Row(image="b.png", mos=4, split="train"),
    ]
    write_manifest(rows, tmp_path / "manifest.csv")
    return tmp_path / "manifest.csv"


def test_what_cannot_be_compared_is_an_error_row_and_the_rest_is_scored(manifest: Path) -> None:
    rows = score_rows(read_manifest(manifest), ["psnr"])["psnr"]
    assert rows[0].score == pytest.approx(psnr(noise(0), noise(1)))
    errors = [row.error or "" for row in rows[1:]]
    assert errors[0] == "short.png is 7 x 5, its reference b.png 7 x 9; they must be of one size"
    assert "gone.png" in errors[1]
    assert errors[2] == "b.png has no reference; these metrics compare with one"


def test_the_command_writes_one_file_a_metric(manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = manifest.parent / "base"
    assert baselines(str(manifest), str(out), split="test") == 1
    assert "1 scored, 2 failed" in capsys.readouterr().out
    for name in METRICS:
        rows = read_predictions(out / f"{name}.csv")
        assert [row.image for row in rows] == ["a.png", "short.png", "gone.png"]
        assert {row.model for row in rows} == {name}


def test_an_unknown_metric_is_refused_before_any_work(manifest: Path) -> None:
    with pytest.raises(UserError, match="metric 'ssim' is unknown; choose from psnr, ciede2000"):
        baselines(str(manifest), str(manifest.parent), metrics="psnr,ssim")
