import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from harmonyiqa import HarmonyIQA
from harmonyiqa.config import LoraSettings, StartSettings, TrainableSettings
from harmonyiqa.errors import UserError
from harmonyiqa.model.storage import start
from harmonyiqa.model.tiny import make_tiny_model

FILES = [
    "settings.json",
    "prompt.yaml",
    "model.safetensors",
    "config.json",
    "trained.safetensors",
    "tokenizer.json",
]


def _shake(model: HarmonyIQA) -> None:
    """Adapters and projector away from their first values, as training would."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_B" in name or "multi_modal_projector" in name:
                p.add_(torch.randn_like(p) * 0.05)


def test_a_reloaded_full_model_scores_bit_equal(tiny_scorer_folder, noise, tmp_path) -> None:
    model = HarmonyIQA.from_pretrained(tiny_scorer_folder)
    model.save_pretrained(tmp_path / "again")
    again = HarmonyIQA.from_pretrained(tmp_path / "again")
    assert again.score(noise) == model.score(noise)
    assert again.score(noise, reference=noise) == model.score(noise, reference=noise)
    assert again.settings.mos_mean == 50


def test_a_score_does_not_depend_on_where_in_its_file_a_weight_lies(
    tiny_scorer_folder, noise, tmp_path
) -> None:
    scores = []
    for spaces in (0, 8, 16):
        folder = shutil.copytree(tiny_scorer_folder, tmp_path / f"{spaces}")
        data = (folder / "model.safetensors").read_bytes()
        header = 8 + int.from_bytes(data[:8], "little")
        (folder / "model.safetensors").write_bytes(
            (header - 8 + spaces).to_bytes(8, "little") + data[8:header] + b" " * spaces + data[header:]
        )
        model = HarmonyIQA.from_pretrained(folder)
        assert all(weight.data_ptr() % 64 == 0 for weight in model.state_dict().values())
        scores.append(model.score(noise))
    assert scores[0] == scores[1] == scores[2]


@pytest.mark.parametrize("stage", [1, 2])
def test_a_reloaded_adapter_scores_bit_equal(bundled, noise, tmp_path, stage) -> None:
    model = start(StartSettings(), TrainableSettings(lora=LoraSettings(rank=2)), stage).eval()
    _shake(model)
    model.save_pretrained(tmp_path / "a")
    again = HarmonyIQA.from_pretrained(tmp_path / "a")
    assert again.settings.layout == "adapter"
    assert again.settings.base.startswith("bundled@")
    batch = model.collate([model.prepare(_picture(noise))])
    if stage == 2:
        assert again.score(noise) == model.score(noise)
    else:
        assert again.predict_text(batch) == model.predict_text(batch)
        assert torch.equal(again._hidden(**vars_of(batch)), model._hidden(**vars_of(batch)))


def vars_of(batch):
    return {"ids": batch.input_ids, "mask": batch.attention_mask, "pixels": batch.pixel_values}


def _picture(noise):
    from PIL import Image

    return Image.fromarray(noise)


def test_an_adapter_holds_only_what_was_trained_and_no_path(bundled, tmp_path) -> None:
    start(StartSettings(), TrainableSettings(), 2).save_pretrained(tmp_path / "a")
    names = {p.name for p in (tmp_path / "a").iterdir()}
    assert names == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "trained.safetensors",
        "settings.json",
        "prompt.yaml",
    }
    assert all("lora_" in name for name in load_file(tmp_path / "a/adapter_model.safetensors"))
    own = load_file(tmp_path / "a/trained.safetensors")
    assert {n.split(".")[0] for n in own} == {"score_head", "backbone"}
    for file in ("settings.json", "adapter_config.json"):
        assert str(bundled) not in (tmp_path / "a" / file).read_text()


def test_adapters_on_a_local_base_are_merged(tiny_checkpoint, noise, tmp_path) -> None:
    model = start(StartSettings(str(tiny_checkpoint), max_tiles=1), TrainableSettings(), 2).eval()
    _shake(model)
    model.save_pretrained(tmp_path / "m")
    again = HarmonyIQA.from_pretrained(tmp_path / "m")
    assert again.settings.layout == "full"
    assert again.settings.lora is None
    assert again.score(noise) == pytest.approx(model.score(noise), abs=1e-4)


def test_an_adapter_of_another_bundled_model_is_refused(bundled, tmp_path, monkeypatch) -> None:
    start(StartSettings(), TrainableSettings(), 2).save_pretrained(tmp_path / "a")
    other = tmp_path / "other"
    shutil.copytree(bundled, other)
    tensors = load_file(other / "model.safetensors")
    save_file({n: t + 1 for n, t in tensors.items()}, other / "model.safetensors", metadata={"format": "pt"})
    monkeypatch.setattr("harmonyiqa.model.storage.BUNDLED", other)
    with pytest.raises(UserError, match="another bundled model"):
        HarmonyIQA.from_pretrained(tmp_path / "a")


def test_stage_2_goes_on_with_stage_1s_adapters(bundled, tmp_path) -> None:
    first = start(StartSettings(), TrainableSettings(), 1)
    _shake(first)
    first.save_pretrained(tmp_path / "one")
    second = start(StartSettings(str(tmp_path / "one")), TrainableSettings(), 2)
    for (name, p), (_, q) in zip(
        first.named_parameters(), second.backbone.named_parameters(prefix="backbone"), strict=True
    ):
        assert torch.equal(p, q), name
    assert second.score_head is not None
    with pytest.raises(UserError, match="same settings in both stages"):
        start(StartSettings(str(tmp_path / "one")), TrainableSettings("frozen"), 2)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named_or_described(tiny_scorer_folder, tmp_path, name) -> None:
    shutil.copytree(tiny_scorer_folder, tmp_path / "m")
    (tmp_path / "m" / name).unlink()
    with pytest.raises(UserError) as caught:
        HarmonyIQA.from_pretrained(tmp_path / "m")
    assert str(tmp_path / "m") in str(caught.value)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"\x00junk" + data[5:]])
def test_a_damaged_file_is_one_clear_line(tiny_scorer_folder, tmp_path, name, damage) -> None:
    shutil.copytree(tiny_scorer_folder, tmp_path / "m")
    path = tmp_path / "m" / name
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError) as caught:
        HarmonyIQA.from_pretrained(tmp_path / "m")
    assert str(tmp_path / "m") in str(caught.value)


def test_a_missing_or_extra_tensor_is_named(tiny_scorer_folder, tmp_path) -> None:
    shutil.copytree(tiny_scorer_folder, tmp_path / "m")
    for file, name in (
        ("trained.safetensors", "score_head.linear_2.bias"),
        ("model.safetensors", "lm_head_2"),
    ):
        path = tmp_path / "m" / file
        tensors = load_file(path)
        removed = {n: t for n, t in tensors.items() if n != name}
        changed = removed if name in tensors else {**tensors, name: torch.zeros(2)}
        save_file(changed, path, metadata={"format": "pt"})
        with pytest.raises(UserError, match=name):
            HarmonyIQA.from_pretrained(tmp_path / "m")
        save_file(tensors, path, metadata={"format": "pt"})


def test_another_kind_of_model_is_refused_by_name(tmp_path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m/config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(UserError, match="'llama' model, not transformers' native 'internvl'"):
        start(StartSettings(str(tmp_path / "m")), TrainableSettings(), 1)


def test_a_folder_that_is_not_there_is_no_hub_id() -> None:
    for name in ("./nowhere", "nowhere", "/no/such/folder"):
        with pytest.raises(UserError, match="there is no model folder"):
            HarmonyIQA.from_pretrained(name)


def test_a_hub_model_without_network_is_one_line() -> None:
    with pytest.raises(UserError, match="cannot get model nobody/nothing"):
        HarmonyIQA.from_pretrained("nobody/nothing", local_files_only=True)


def test_half_precision_is_stored_and_loads_as_float32_on_the_cpu(
    tiny_scorer_folder, noise, tmp_path
) -> None:
    model = HarmonyIQA.from_pretrained(tiny_scorer_folder)
    expected = model.score(noise)
    model.backbone.to(torch.float16)
    model.save_pretrained(tmp_path / "half")
    half = HarmonyIQA.from_pretrained(tmp_path / "half")
    assert half.settings.dtype == "float16"
    assert half.backbone.dtype == torch.float32
    assert half.score(noise) == pytest.approx(expected, abs=0.1)
    size = (tmp_path / "half/model.safetensors").stat().st_size
    assert size < 0.6 * (tiny_scorer_folder / "model.safetensors").stat().st_size


def test_stage_2_can_begin_with_another_models_head(bundled, noise, tmp_path) -> None:
    model = start(StartSettings(head="bundled"), TrainableSettings(lora=LoraSettings(rank=2)), 2).eval()
    assert model.score(noise) == pytest.approx(HarmonyIQA.from_pretrained().score(noise), abs=1e-4)
    wider = StartSettings(str(make_tiny_model(tmp_path / "w", llm_width=64)), max_tiles=1, head="bundled")
    with pytest.raises(UserError, match="no score head for hidden states of size 64"):
        start(wider, TrainableSettings(), 2)
