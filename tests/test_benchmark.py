"""The scoring benchmark runs on a small model and compares what it says it compares."""

from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def script(load_script) -> ModuleType:
    return load_script("benchmark_scoring")


@pytest.mark.slow
def test_every_way_is_timed_and_none_changes_the_scores(script: ModuleType, tiny_scorer_folder: Path) -> None:
    found = script.benchmark(
        model=str(tiny_scorer_folder),
        images=3,
        size=48,
        threads=1,
        repeats=1,
        alone=1,
        metrics="psnr,niqe",
        start_up=False,
    )
    ways = found["contenders"]
    assert next(iter(ways)) == "this package"
    assert ways["this package"]["ratio"] == 1
    assert {name.split(",")[0] for name in ways} >= {
        "the same without reuse",
        "batched forward",
        "batched generate",
        "generate",
    }
    assert ways["generate, one image at a time"]["ratio"] > 1
    assert all(row["images_per_second"] > 0 for row in ways.values())
    assert found["nine_images_a_reference"]["largest_difference_of_scores"] < 1e-4
    assert found["gflop_per_image"] > 0
    assert next(iter(found["metrics"])) == "psnr (scikit-image)"
    assert "this package" in script.table(found)


def test_the_rivals_end_where_a_trained_model_would(script: ModuleType, scorer, noise) -> None:
    """Or a loop that never ends would flatter us."""
    example = scorer.prepare(script.Image.fromarray(noise))
    ways = script._contenders(scorer, script.Forward(scorer), [example], alone=1)
    [ids] = ways["generate, one image at a time"].run()
    sentence = (
        f"{scorer.inputs.prompt.answer}{scorer.inputs.prompt.score_text(63.4)}{scorer.inputs.prompt.end}"
    )
    new = len(ids[0]) - len(example.question)
    assert new == len(scorer.inputs.tokenizer(sentence).input_ids)
