"""The card of a training run says everything that the hub's readers need, and can be published."""

from dataclasses import replace

from harmonyiqa.config import DataSettings, ModelSettings, PhotoSettings, TrainSettings
from harmonyiqa.evaluate.probes import adapters, spread
from harmonyiqa.evaluate.tables import Cell, Result
from harmonyiqa.model.publish import complete_card
from harmonyiqa.report.model_card import write_model_card

RUN = TrainSettings(2, "out", DataSettings("data/split.csv", mode="both"))
METRICS = {"steps": 10, "epochs": 1.0, "seconds": 90.0, "best_validation": {}}
ENVIRONMENT = {
    "harmonyiqa": "0.1.0",
    "packages": {"torch": "2", "transformers": "5"},
    "threads": 2,
    "accelerator": "none",
    "seed": 7,
    "manifest_sha256": "ab" * 32,
}


def _card(tmp_path, **options) -> str:
    settings = ModelSettings(
        layout="adapter", base="owner/base", base_revision="abc", stage=2, prompt="harmony v1"
    )
    settings.mos_kind = options.pop("mos_kind", "human")
    run = options.pop("run", RUN)
    write_model_card(tmp_path / "README.md", settings, run, METRICS, ENVIRONMENT, **options)
    return (tmp_path / "README.md").read_text()


def test_a_card_holds_metrics_with_intervals_probes_and_every_section(tmp_path) -> None:
    cells = {"srcc": Cell(0.712, 0.65, 0.77), "plcc": Cell(None, error="constant")}
    probes = [adapters(0, 4), spread([50.0, 50.0], [20.0, 80.0])]
    card = _card(tmp_path, evaluation=Result("this model", "All", 120, 40, cells), probes=probes)
    assert "| 0.712 [0.650, 0.770] | error" in card
    assert "120 images of split `val` (40 scenes)" in card
    assert "| adapters | pass | 0 of 4 add nothing |" in card
    assert "| spread | **fail** |" in card
    assert "base_model: owner/base" in card
    assert "on owner/base at abc" in card
    assert "SHA-256 abababababababab" in card
    assert "synthetic" not in card
    published = complete_card(card, "cc-by-nc-4.0", merged=False)
    assert "license: cc-by-nc-4.0" in published
    assert "name it before you publish" not in published


def test_a_card_without_scores_says_so_and_synthetic_labels_are_named(tmp_path) -> None:
    card = _card(tmp_path, mos_kind="synthetic", license="mit")
    assert "Too few images of split `val`" in card
    assert "are **synthetic**" in card
    assert "license: mit" in card
    assert "\n\n\n\n" not in card


def test_a_card_names_the_photos_that_composites_were_made_of(tmp_path) -> None:
    card = _card(tmp_path, run=replace(RUN, stage=0, photos=PhotoSettings("data/holiday", images=48000)))
    assert "48,000 composites made while it trained, of the photos of `holiday`" in card
    assert "`split.csv` (SHA-256 abababababababab), split `train`" not in card
    assert "holiday" not in _card(tmp_path)
