"""Every tensor of an OpenGVLab checkpoint is accounted for, the same bytes every time; what does not fit is named."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Qwen2Config, Qwen2Model, Qwen3Config, Qwen3Model

from harmonyiqa import cli
from harmonyiqa.errors import UserError
from harmonyiqa.model.backbone import load_backbone
from harmonyiqa.model.convert import stream
from harmonyiqa.model.convert.stream import convert


def _tensors(folder: Path) -> dict[str, torch.Tensor]:
    return {name: t for file in sorted(folder.glob("*.safetensors")) for name, t in load_file(file).items()}


def _config(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text())


def _change(folder: Path, **changes: Any) -> None:
    config = _config(folder)
    for key, value in changes.items():
        section, _, name = key.rpartition("__")
        (config[section] if section else config)[name] = value
    (folder / "config.json").write_text(json.dumps(config))


def _load(folder: Path):
    return load_backbone(folder, max_tiles=6, dtype=torch.float32).model


def test_wqkv_rows_are_queries_then_key_then_value_of_each_group(make_opengvlab, tmp_path) -> None:
    """Row numbers as values: (2 groups, 2 queries + key + value, 16 rows)."""
    folder = make_opengvlab(shards=1)
    tensors = _tensors(folder)
    name = "language_model.model.layers.0.attention.wqkv.weight"
    tensors[name] = torch.arange(128).float()[:, None].expand(-1, 64).contiguous()
    save_file(tensors, folder / "model.safetensors")
    convert(folder, tmp_path / "native")
    native = _tensors(tmp_path / "native")

    def rows(part: str) -> list[int]:
        weight = native[f"language_model.model.layers.0.self_attn.{part}_proj.weight"]
        return weight[:, 0].int().tolist()

    assert rows("q") == [*range(0, 32), *range(64, 96)]
    assert rows("k") == [*range(32, 48), *range(96, 112)]
    assert rows("v") == [*range(48, 64), *range(112, 128)]


@pytest.mark.parametrize(
    ("kind", "config_class", "model_class"),
    [("Qwen2ForCausalLM", Qwen2Config, Qwen2Model), ("Qwen3ForCausalLM", Qwen3Config, Qwen3Model)],
)
def test_qwen_computes_what_transformers_own_class_does(
    make_opengvlab, tmp_path, kind, config_class, model_class
) -> None:
    folder = make_opengvlab(kind, scaled_rope=False)
    if kind == "Qwen3ForCausalLM":
        _change(folder, llm_config__head_dim=16)
    convert(folder, tmp_path / "native")
    llm = {k: v for k, v in _config(folder)["llm_config"].items() if k not in ("architectures", "bias")}
    theirs = model_class(config_class(**llm)).eval()
    prefix = "language_model.model."
    theirs.load_state_dict(
        {n.removeprefix(prefix): t for n, t in _tensors(folder).items() if n.startswith(prefix)}
    )
    ids = torch.arange(20)[None]
    native = _load(tmp_path / "native")
    torch.testing.assert_close(
        native.model.language_model(input_ids=ids).last_hidden_state, theirs(input_ids=ids).last_hidden_state
    )
    assert native.config.text_config.tie_word_embeddings is False
    head = _tensors(folder)["language_model.lm_head.weight"]
    assert torch.equal(native.lm_head.weight, head)


@pytest.mark.parametrize("shards", [1, 3])
def test_converting_twice_is_byte_equal(make_opengvlab, tmp_path, shards) -> None:
    folder = make_opengvlab(shards=shards)
    for out in ("a", "b"):
        convert(folder, tmp_path / out)
    files = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert files == sorted(p.name for p in (tmp_path / "b").iterdir())
    assert len([f for f in files if f.endswith(".safetensors")]) == shards
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file


def test_names_on_disk_are_those_that_transformers_writes(make_opengvlab, tmp_path) -> None:
    convert(make_opengvlab(), tmp_path / "native")
    _load(tmp_path / "native").save_pretrained(tmp_path / "again")
    assert _tensors(tmp_path / "native").keys() == _tensors(tmp_path / "again").keys()


def test_one_shard_at_a_time_is_in_memory(make_opengvlab, tmp_path, monkeypatch) -> None:
    folder = make_opengvlab(shards=4)
    sizes = []

    def note(tensors: dict[str, torch.Tensor], path: Path, metadata: dict[str, str]) -> None:
        sizes.append(sum(t.nbytes for t in tensors.values()))
        save_file(tensors, path, metadata)

    monkeypatch.setattr(stream, "save_file", note)
    convert(folder, tmp_path / "native")
    whole = sum(t.nbytes for t in _tensors(folder).values())
    largest = max(sum(t.nbytes for t in load_file(f).values()) for f in folder.glob("*.safetensors"))
    assert sum(sizes) == whole  # nothing is lost, nothing made up
    assert max(sizes) == largest


def test_stored_types_and_values_do_not_change(make_opengvlab, tmp_path) -> None:
    folder = make_opengvlab(shards=1)
    tensors = {n: t.bfloat16() for n, t in _tensors(folder).items()}
    save_file(tensors, folder / "model.safetensors")
    convert(folder, tmp_path / "native")
    native = _tensors(tmp_path / "native")
    assert {t.dtype for t in native.values()} == {torch.bfloat16}
    key = "language_model.model.layers.1."
    assert torch.equal(native[key + "mlp.up_proj.weight"], tensors[key + "feed_forward.w3.weight"])
    assert torch.equal(native[key + "mlp.gate_proj.weight"], tensors[key + "feed_forward.w1.weight"])
    assert _config(tmp_path / "native")["dtype"] == "bfloat16"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda t: t.pop("vision_model.encoder.layers.1.ls2"), r"layer\.1\.lambda_2: its tensor is missing"),
        (
            lambda t: t.update({"language_model.lora.weight": torch.zeros(2)}),
            r"language_model\.lora\.weight is extra",
        ),
        (
            lambda t: t.update({"vision_model.encoder.layers.7.ls1": torch.zeros(32)}),
            r"layers\.7\.ls1 is extra",
        ),
        (lambda t: t.update({"mlp1.1.bias": torch.zeros(65)}), r"mlp1\.1\.bias has shape \(65,\)"),
        (
            lambda t: t.update({"language_model.model.layers.0.attention.wqkv.weight": torch.zeros(127, 64)}),
            r"wqkv\.weight has shape \(127, 64\); it needs 128 rows",
        ),
        (
            lambda t: t.update({"vision_model.encoder.layers.0.attn.qkv.bias": torch.zeros(90)}),
            r"qkv\.bias has shape \(90,\)",
        ),
    ],
)
def test_a_missing_extra_or_misshapen_tensor_is_named_and_nothing_is_written(
    make_opengvlab, tmp_path, edit, message
) -> None:
    folder = make_opengvlab(shards=1)
    tensors = _tensors(folder)
    edit(tensors)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(UserError, match=message):
        convert(folder, tmp_path / "native")
    assert [p.name for p in tmp_path.iterdir()] == ["opengvlab"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "llava"}, "'llava' model"),
        ({"model_type": "internvl"}, "own layout already"),
        ({"llm_config__architectures": ["Phi3ForCausalLM"]}, "language model is Phi3ForCausalLM"),
        ({"llm_config__architectures": ["InternLM3ForCausalLM"]}, "language model is InternLM3ForCausalLM"),
        ({"llm_config__architectures": ["LlamaForCausalLM"]}, "language model is LlamaForCausalLM"),
        ({"ps_version": "v1"}, "ps_version is 'v1'"),
        ({"select_layer": -4}, "select_layer is -4"),
        ({"force_image_size": 64}, "force_image_size 64 differs"),
        ({"llm_config__rope_theta": None}, r"no llm_config\.rope_theta"),
        ({"vision_config": None}, "no vision_config"),
    ],
)
def test_what_cannot_be_converted_is_refused_by_name(make_opengvlab, tmp_path, changes, message) -> None:
    folder = make_opengvlab(shards=1)
    _change(folder, **changes)
    with pytest.raises(UserError, match=message):
        convert(folder, tmp_path / "native")


def test_broken_files_are_named(make_opengvlab, tmp_path) -> None:
    folder = make_opengvlab(shards=2)
    shard = folder / "model-00002-of-00002.safetensors"
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"00002-of-00002\.safetensors is damaged"):
        convert(folder, tmp_path / "native")
    shard.unlink()
    with pytest.raises(UserError, match=r"has no model-00002-of-00002\.safetensors"):
        convert(folder, tmp_path / "native")
    shard.write_bytes((folder / "model-00001-of-00002.safetensors").read_bytes())
    with pytest.raises(UserError, match="is in two files"):
        convert(folder, tmp_path / "native")
    (folder / "model.safetensors.index.json").unlink()
    with pytest.raises(UserError, match="only safetensors are read"):
        convert(folder, tmp_path / "native")
    (folder / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config\.json is damaged"):
        convert(folder, tmp_path / "native")


def test_a_tied_head_is_left_out_only_if_it_is_the_embedding(make_opengvlab, tmp_path) -> None:
    folder = make_opengvlab("Qwen2ForCausalLM", tied=True, scaled_rope=False, shards=1)
    tensors = _tensors(folder)
    tensors["language_model.lm_head.weight"] = tensors["language_model.model.embed_tokens.weight"].clone()
    save_file(tensors, folder / "model.safetensors")
    assert convert(folder, tmp_path / "native").dropped == ["language_model.lm_head.weight"]
    native = _load(tmp_path / "native")
    assert native.lm_head.weight is native.model.language_model.embed_tokens.weight
    tensors["language_model.lm_head.weight"][0, 0] += 1
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(UserError, match="differs from"):
        convert(folder, tmp_path / "other")


def test_the_command_writes_a_model_that_scores(make_opengvlab, tmp_path, noise, capsys) -> None:
    from PIL import Image

    from harmonyiqa.config import StartSettings, TrainableSettings
    from harmonyiqa.model.storage import start

    folder, out = make_opengvlab(), tmp_path / "native"
    assert cli.main(["convert", str(folder), str(out)]) == 0
    assert "language model llama" in capsys.readouterr().out
    model = start(StartSettings(str(out), max_tiles=2), TrainableSettings(), 2).eval()
    assert isinstance(model.score(Image.fromarray(noise)), float)
    assert cli.main(["convert", str(folder), str(out)]) == 2  # never over what is there
    assert "is there already" in capsys.readouterr().err
    assert cli.main(["score", "x.jpg", "--model", str(folder)]) == 2


def test_the_original_layout_is_refused_with_the_way_out(make_opengvlab) -> None:
    with pytest.raises(UserError, match="harmonyiqa convert"):
        _load(make_opengvlab())


def test_another_language_model_is_refused_by_name(make_opengvlab, tmp_path) -> None:
    convert(make_opengvlab(), tmp_path / "native")
    _change(tmp_path / "native", text_config__model_type="mistral")
    with pytest.raises(UserError, match="language model is of kind 'mistral'"):
        _load(tmp_path / "native")
