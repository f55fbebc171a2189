"""The benchmark of the service compares it with the engine on the same files."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


@pytest.mark.slow
def test_service_and_engine_score_the_same_files(
    tiny_scorer_folder: Path, load_script: Callable[[str], ModuleType]
) -> None:
    script = load_script("benchmark_serve")
    found = script.benchmark(str(tiny_scorer_folder), clients=[1, 4], images=8, size=48, threads=1, repeats=1)
    assert list(found["service"]) == ["1", "4"]
    one, four = found["service"].values()
    assert one["images_a_call"] == 1
    assert 1 <= four["images_a_call"] <= 4
    assert found["engine"]["images_per_second"] > 0
    for each in (one, four):
        assert each["largest_difference"] < 1e-5
        assert 0 < each["p50_ms"] <= each["p99_ms"]
