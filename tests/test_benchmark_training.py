"""The benchmark for GPUs runs on a small model without one: every variant trains, every figure is there."""

import pytest

from harmonyiqa.errors import UserError
from harmonyiqa.model.backbone import read_config
from harmonyiqa.model.tiny import make_tiny_model


@pytest.fixture
def benchmark(load_script):
    return load_script("benchmark_training")


@pytest.mark.slow
def test_every_variant_of_a_step_is_measured(benchmark, tiny_checkpoint, tmp_path, monkeypatch) -> None:
    sizes = read_config(tiny_checkpoint)
    monkeypatch.setattr(benchmark, "known_architecture", lambda name: ("small", sizes))
    found = benchmark.steps("small", str(tmp_path), max_tiles=2, mode="fr", repeats=1)
    variants = {(s["stage"], s["quantize"], s["gradient_checkpointing"]) for s in found["steps"]}
    assert len(found["steps"]) == len(variants) == 8
    assert all(0 < step["share_of_peak"] < 1 for step in found["steps"])
    written = tmp_path / "small/model.safetensors"
    made = written.stat().st_mtime_ns
    again = benchmark.random_checkpoint("small", tmp_path, benchmark.pick_device("cpu"))
    assert (again, written.stat().st_mtime_ns) == (tmp_path / "small", made)


def test_moves_of_a_score_are_those_of_the_number_format(benchmark, tmp_path) -> None:
    # on processors with bfloat16 bitsandbytes packs 4-bit weights in blocks of 64 inputs, and fails below
    checkpoint = make_tiny_model(tmp_path / "tiny", llm_width=64)
    moves = benchmark.precision(str(checkpoint), images=2, max_tiles=2)["moves"]
    assert moves["float32"]["against_float32"] == 0
    assert moves["float32"]["batch"] < 1e-3
    assert moves["bfloat16"]["against_float32"] > 0
    assert moves["nf4"]["against_float32"] != moves["bfloat16"]["against_float32"]


def test_a_name_without_sizes_is_refused(benchmark, tmp_path) -> None:
    with pytest.raises(UserError, match="its sizes are not known by name"):
        benchmark.random_checkpoint("nobody/nothing", tmp_path, benchmark.pick_device("cpu"))
