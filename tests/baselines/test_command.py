"""From a manifest to predictions files: parallel, resumed, inside the mask, and what cannot be scored."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harmonyiqa.baselines import command
from harmonyiqa.baselines.command import baselines, score_rows
from harmonyiqa.baselines.full_reference import psnr
from harmonyiqa.baselines.metrics import METRICS, Metric
from harmonyiqa.data.manifest import Row, read_manifest, write_manifest
from harmonyiqa.data.predictions import read_predictions
from harmonyiqa.errors import UserError


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 250, (18, 14, 3), dtype=np.uint8)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    for name, seed in (("a", 0), ("b", 1)):
        Image.fromarray(noise(seed)).save(tmp_path / f"{name}.png")
    Image.fromarray(noise(2)[:5]).save(tmp_path / "short.png")
    mask = np.zeros((18, 14), dtype=np.uint8)
    mask[3:9, 2:12] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    rows = [
        Row(image="a.png", reference="b.png", mask="mask.png", mos=1, split="test"),
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
    assert errors[0] == "short.png is 14 x 5, its reference b.png 14 x 18; they must be of one size"
    assert "gone.png" in errors[1]
    assert errors[2] == "b.png has no reference; these metrics compare with one"


def test_inside_the_mask_only_the_mask_counts(manifest: Path) -> None:
    image, reference = noise(0), noise(1)
    inside = image[3:9, 2:12], reference[3:9, 2:12]
    changed = reference.copy()
    changed[3:9, 2:12] = inside[0]
    rows = score_rows(read_manifest(manifest), ["psnr_foreground", "ssim_foreground"])
    assert rows["psnr_foreground"][0].score == pytest.approx(psnr(*inside))
    # of so small an image the crop is the whole, with the reference outside the mask
    assert rows["ssim_foreground"][0].score == pytest.approx(METRICS["ssim"].load()(changed, reference))
    assert rows["psnr_foreground"][1].error.startswith("short.png is 14 x 5")


def test_a_crop_is_grown_inside_a_large_image(monkeypatch: pytest.MonkeyPatch) -> None:
    from harmonyiqa.baselines import metrics

    monkeypatch.setattr(metrics, "SMALLEST", 8)
    image = np.arange(40 * 30 * 3, dtype=np.uint16).reshape(40, 30, 3).astype(np.uint8)
    mask = np.zeros((40, 30), dtype=np.float32)
    mask[38:, 2:14] = 1
    crop, reference = metrics.foreground(METRICS["ssim"], image, None, mask)
    assert reference is None
    assert (crop == image[32:40, 2:14]).all()
    with pytest.raises(UserError, match="the mask is empty"):
        metrics.foreground(METRICS["ssim"], image, None, 0 * mask)
    with pytest.raises(UserError, match="the mask is 30 x 4, the image 30 x 40"):
        metrics.foreground(METRICS["ssim"], image, None, mask[:4])


def test_the_command_writes_one_file_a_metric(manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = manifest.parent / "base"
    assert baselines(str(manifest), str(out), split="test", region="both", metrics="psnr, mse") == 1
    assert "1 scored, 2 failed (first: short.png is 14 x 5" in capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir()) == sorted(
        f"{name}{region}.csv" for name in ("psnr", "mse") for region in ("", "_foreground")
    )
    for path in out.iterdir():
        rows = read_predictions(path)
        assert [row.image for row in rows] == ["a.png", "short.png", "gone.png"]
        assert {row.model for row in rows} == {path.stem}


@pytest.mark.slow
def test_processes_give_the_same_in_the_same_order(manifest: Path) -> None:
    rows = read_manifest(manifest)
    assert score_rows(rows, ["psnr", "ssim"], workers=2) == score_rows(rows, ["psnr", "ssim"])


def test_a_cut_run_goes_on_where_it_stopped_and_tries_failures_again(
    manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored = []

    def stop(image: np.ndarray, reference: np.ndarray) -> float:
        scored.append(image.shape)
        if len(scored) == 2:
            raise KeyboardInterrupt
        return float(len(scored))

    for name in ("c", "d"):
        Image.fromarray(noise(7)).save(manifest.parent / f"{name}.png")
    rows = [Row(f"{name}.png", "b.png") for name in ("a", "gone", "c", "d")]
    write_manifest(rows, manifest)
    monkeypatch.setitem(METRICS, "stop", Metric("scikit-image", lambda: stop))
    out = manifest.parent / "base"
    with pytest.raises(KeyboardInterrupt):
        baselines(str(manifest), str(out), metrics="stop")
    journal = next(out.iterdir())
    journal.write_text(journal.read_text() + '["d.png", "b.p')  # cut in the middle of a line
    baselines(str(manifest), str(out), metrics="stop")
    assert len(scored) == 4  # a once, c twice, d once
    assert [row.score for row in read_predictions(out / "stop.csv")] == [1, None, 3, 4]
    assert not journal.exists()


def test_weights_that_cannot_be_had_are_a_row_that_says_so(
    manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load():
        raise OSError("no route to the\nweights")

    monkeypatch.setitem(METRICS, "deep", Metric("scikit-image", load, needs_reference=False))
    rows = score_rows(read_manifest(manifest), ["deep", "psnr"])
    assert {row.error for row in rows["deep"]} == {"deep cannot be loaded: OSError: no route to the weights"}
    assert {row.reference for row in rows["deep"]} == {None}
    assert rows["psnr"][0].score is not None


def test_a_metric_that_fails_or_returns_nonsense_on_one_image(
    manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(METRICS, "nan", Metric("scikit-image", lambda: lambda *_: float("nan")))
    rows = score_rows(read_manifest(manifest).split("test"), ["nan", "ssim"])
    assert rows["nan"][0].error == "a.png: nan returned nan, which is no score"


def test_what_is_not_known_or_not_installed_is_refused_before_any_work(
    manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="metric 'sim' is unknown; choose from mse, psnr"):
        baselines(str(manifest), str(manifest.parent), metrics="psnr,sim")
    with pytest.raises(UserError, match="workers 0 must be at least 1"):
        baselines(str(manifest), str(manifest.parent), workers=0)
    monkeypatch.setattr(command, "_missing", lambda library: "No module" if library == "piq" else None)
    with pytest.raises(UserError, match=r"'fsim' needs piq, .* \(No module\): pip install 'harmonyiqa"):
        baselines(str(manifest), str(manifest.parent), metrics="psnr,fsim")
    assert "fsim" not in command._chosen("all")
    assert "niqe" in command._chosen("all")


@pytest.mark.parametrize("name", [n for n, m in METRICS.items() if m.library == "piq"])
def test_piqs_metrics_score_a_larger_change_lower(name: str) -> None:
    """Those that compare; weights that cannot be fetched skip."""
    pytest.importorskip("torchvision")
    pytest.importorskip("piq")
    metric = METRICS[name]
    try:
        score = metric.load()
    except OSError as error:
        pytest.skip(f"no weights: {error}")
    grid = np.indices((192, 192)).sum(axis=0)[..., None]
    image = (127 + 60 * np.sin(grid / 9 + np.arange(3)) + 30 * np.sin(grid / 2)).astype(np.uint8)
    scores = [
        score(
            np.clip(image + change * np.random.default_rng(0).normal(0, 1, image.shape), 0, 255).astype(
                np.uint8
            ),
            image if metric.needs_reference else None,
        )
        for change in (0, 8, 40)
    ]
    assert np.isfinite(scores).all()
    if metric.needs_reference:
        assert scores == sorted(scores, reverse=True)
