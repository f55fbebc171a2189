"""The probes find a model's faults: adapters that do nothing, layers that no gradient reaches, one score for all."""

from dataclasses import replace

import pytest
import torch

from harmonyiqa import HarmonyIQA, cli
from harmonyiqa.config import StartSettings, TrainableSettings
from harmonyiqa.data.manifest import read_manifest
from harmonyiqa.model.probes import merge_difference, without_gradient
from harmonyiqa.model.storage import start
from harmonyiqa.pipelines.probes import run_probes, validate


@pytest.fixture
def adapted(tiny_checkpoint) -> HarmonyIQA:
    torch.manual_seed(0)
    model = start(StartSettings(str(tiny_checkpoint), max_tiles=1), TrainableSettings(), 2).eval()
    model.settings.mos_std = 40.0
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_B" in name:
                p.normal_(std=0.05)
    return model


@pytest.mark.parametrize("no_reference", [False, True])
def test_a_sound_model_passes_what_training_cannot_change(adapted, grey_manifest, no_reference) -> None:
    before = {name: p.detach().clone() for name, p in adapted.named_parameters()}
    found = run_probes(adapted, read_manifest(grey_manifest), no_reference=no_reference)
    by_name = {probe.name: probe for probe in found}
    assert len(found) == 7
    for name in ("adapters", "gradient", "merged adapters", "batch and padding"):
        assert by_name[name].passed, by_name[name].line()
    assert all(torch.equal(p, before[name]) for name, p in adapted.named_parameters())
    assert all(p.grad is None for p in adapted.parameters())


def test_faults_are_found(adapted, grey_manifest) -> None:
    with torch.no_grad():
        adapted.score_head.linear_2.weight.zero_()  # one score for everything
        for name, p in adapted.named_parameters():
            if "lora_B" in name and "vision_tower" in name:
                p.zero_()
    found = {p.name: p for p in run_probes(adapted, read_manifest(grey_manifest))}
    for name in ("adapters", "gradient", "black, white, noise, photos", "spread", "colour shift"):
        assert found[name].passed is False, found[name].line()


def test_two_photos_are_enough(adapted, grey_manifest) -> None:
    manifest = read_manifest(grey_manifest)
    few = replace(manifest, rows=manifest.rows[:2])
    found = {p.name: p for p in run_probes(adapted, few)}
    assert "noise" in found["black, white, noise, photos"].figure


def test_a_layer_cut_off_from_the_loss_is_named(adapted, noise) -> None:
    from PIL import Image

    picture = Image.fromarray(noise)
    examples = [adapted.prepare(picture), adapted.prepare(picture, picture)]
    assert without_gradient(adapted, examples, [40.0, 70.0])[0] == []
    layer = adapted.backbone.model.vision_tower.encoder.layer[0].mlp
    layer.register_forward_hook(lambda *given: given[2].detach())
    silent, _ = without_gradient(adapted, examples, [40.0, 70.0])
    assert all(".layer.0.mlp." in name for name in silent)
    assert {name.rsplit(".", 3)[1] for name in silent} == {"lora_A", "lora_B"}


def test_a_full_model_has_no_adapters_to_merge(scorer, noise) -> None:
    from PIL import Image

    assert merge_difference(scorer, [scorer.prepare(Image.fromarray(noise))]) is None


def test_validation_gives_each_correlation_an_interval(scorer, grey_manifest) -> None:
    result = validate(scorer, read_manifest(grey_manifest).split("val"))
    assert result is not None
    assert (result.images, result.contents) == (8, 8)
    for metric in ("srcc", "krcc", "plcc"):
        cell = result.cells[metric]
        assert cell.value is not None
        assert cell.low is not None
        assert cell.low - 1e-9 <= cell.value <= cell.high + 1e-9


def test_the_command_prints_a_line_a_probe(bundled, grey_manifest, capsys) -> None:
    words = ["evaluate", "--model", "bundled", "--manifest", str(grey_manifest), "--probes", "true"]
    assert cli.main([*words, "--bootstrap", "10"]) in (0, 1)
    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if line.startswith(("PASS", "FAIL", "n/a"))]) == 7
    without = ["evaluate", "--predictions", "p.csv", "--manifest", str(grey_manifest), "--probes", "true"]
    assert cli.main(without) == 2
    assert "--probes asks a model" in capsys.readouterr().err
