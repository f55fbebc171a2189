"""A saved model is a folder, in one of two layouts.

- ``full``: every weight. ``model.safetensors`` and ``config.json`` are a native InternVL checkpoint.
- ``adapter``: what was trained on top of a base that everybody can get again (a hub id with its revision, or the
  bundled model by hash). ``adapter_model.safetensors`` is peft's, ``trained.safetensors`` holds projector and head.

Both hold ``settings.json`` and ``prompt.yaml``; a full model its tokenizer and, if trained, its heads.
"""

import json
import shutil
import tempfile
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from transformers import InternVLForConditionalGeneration

from harmonyiqa import __version__
from harmonyiqa.config import ModelSettings, StartSettings, TrainableSettings
from harmonyiqa.errors import UserError
from harmonyiqa.files import sha256_of
from harmonyiqa.model.backbone import Attention, Quantize, load_backbone, tokens_per_tile
from harmonyiqa.model.harmonyiqa import HarmonyIQA
from harmonyiqa.model.hub import fetch
from harmonyiqa.model.inputs import Inputs
from harmonyiqa.model.lora import add_adapters
from harmonyiqa.prompts import load_prompt

BUNDLED = Path(__file__).parent / "bundled"
SETTINGS, PROMPT, CARD = "settings.json", "prompt.yaml", "README.md"
ADAPTER, TRAINED = "adapter_model.safetensors", "trained.safetensors"
HEADS = ("score_head.", "map_head.")
_PROJECTOR = "backbone.model.multi_modal_projector."
_ALIGNMENT = 64  # bytes, torch's own on a CPU


def save(model: HarmonyIQA, folder: str | Path, *, merge: bool = False) -> None:
    """Write a model, aside and then renamed into place.

    With adapters on a base that others can get, the layout is ``adapter``. On any other base (a local folder) the
    adapters are merged and the layout is ``full``, since a path of one machine means nothing on the next.

    Args:
        model: what to save; it stays as it is.
        folder: where; what stood there is replaced.
        merge: merge the adapters into the weights in any case.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        _write(model, aside, merge)
        aside.chmod(0o755)  # mkdtemp makes it, and safetensors its files, for the owner alone
        for file in aside.iterdir():
            file.chmod(0o644)
        if folder.exists():
            shutil.rmtree(folder)
        aside.replace(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _write(model: HarmonyIQA, folder: Path, merge: bool) -> None:
    settings = replace(
        model.settings, dtype=str(model.backbone.dtype).removeprefix("torch."), package_version=__version__
    )
    own = {name: p for name, p in model.state_dict().items() if name.startswith(HEADS)}
    if model.adapters is not None and settings.base and not merge:
        settings.layout = "adapter"
        config = deepcopy(model.adapters.peft_config["default"])
        config.base_model_name_or_path = settings.base  # peft wrote this machine's path
        config.save_pretrained(folder)
        save_file(get_peft_model_state_dict(model.adapters), folder / ADAPTER)
        own |= {name: p for name, p in model.state_dict().items() if name.startswith(_PROJECTOR)}
    else:
        settings = replace(settings, layout="full", base="", lora=None, lora_vision=False, lora_llm=False)
        _merged(model).save_pretrained(folder)
        model.inputs.tokenizer.save_pretrained(folder)
    if own:
        save_file({name: p.contiguous() for name, p in own.items()}, folder / TRAINED)
    model.inputs.prompt.save(folder / PROMPT)
    (folder / SETTINGS).write_text(json.dumps(settings.to_dict(), indent=2) + "\n", encoding="utf-8")


def _merged(model: HarmonyIQA) -> InternVLForConditionalGeneration:
    """The backbone with its adapters added to the weights, in a copy."""
    backbone, adapters = model.backbone, model.adapters
    if getattr(backbone, "is_quantized", False):  # the adapters belong to what the 4 or 8 bits stand for
        backbone = load_backbone(
            backbone.name_or_path, max_tiles=model.settings.max_tiles, dtype=backbone.dtype
        ).model
        backbone.model.multi_modal_projector.load_state_dict(
            model.backbone.model.multi_modal_projector.state_dict()
        )
        if adapters is not None and model.settings.lora is not None:
            state = get_peft_model_state_dict(adapters)
            adapters = add_adapters(
                backbone, model.settings.lora, vision=model.settings.lora_vision, llm=model.settings.lora_llm
            )
            set_peft_model_state_dict(adapters, state)
            return adapters.merge_and_unload()
    return backbone if adapters is None else deepcopy(adapters).merge_and_unload()


def load(
    name_or_path: str | Path | None = None,
    *,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    revision: str | None = None,
    local_files_only: bool = False,
    quantize: Quantize = "none",
    attention: Attention = "sdpa",
) -> HarmonyIQA:
    """Load a saved model; see `HarmonyIQA.from_pretrained`, and `load_backbone` for the last two.

    A quantised model stays where bitsandbytes put it: on the current GPU, or the CPU where there is none.
    """
    folder, name = _locate(name_or_path, revision, local_files_only)
    settings = _read_settings(folder)
    device = torch.device(device or "cpu")
    dtype = dtype or (torch.float32 if device.type == "cpu" else getattr(torch, settings.dtype))
    base, base_revision = folder, None
    if settings.layout == "adapter":
        base, base_revision = _base_of(settings, folder)
    backbone = load_backbone(
        base,
        max_tiles=settings.max_tiles,
        dtype=dtype,
        revision=base_revision,
        local_files_only=local_files_only,
        quantize=quantize,
        attention=attention,
    )
    adapters: PeftModel | None = None
    if settings.lora is not None:
        adapters = add_adapters(
            backbone.model, settings.lora, vision=settings.lora_vision, llm=settings.lora_llm
        )
        _load_adapters(adapters, folder / ADAPTER)
    prompt = load_prompt(_present(folder / PROMPT))
    inputs = Inputs(
        backbone.tokenizer, backbone.image_processor, prompt, tokens_per_tile(backbone.model.config)
    )
    model = HarmonyIQA(backbone.model, inputs, settings, name, adapters)
    card = folder / CARD
    model.card = card.read_text(encoding="utf-8") if card.is_file() else None
    if settings.has_score_head or settings.map_cells or settings.layout == "adapter":
        _load_own(model, folder / TRAINED)
    _align(model if quantize != "none" else model.to(device))
    return model.eval()


def _align(model: HarmonyIQA) -> None:
    """Move weights that lie askew, where their file happens to have them: a score's last bits follow the place."""
    for weight in (*model.parameters(), *model.buffers()):
        if weight.data_ptr() % _ALIGNMENT:
            weight.data = weight.data.clone()


def start(settings: StartSettings, trainable: TrainableSettings, stage: Literal[1, 2]) -> HarmonyIQA:
    """The model that a training stage begins with: loaded, adapters placed, for stage 2 with a head.

    Raises:
        UserError: the model already has adapters in other places than `trainable` asks for, `settings.head` is of
            another size, or a quantised LLM is to be trained in full.
    """
    if settings.quantize != "none" and trainable.llm == "full":
        raise UserError(
            f"start.quantize {settings.quantize!r} freezes the LLM's weights: set trainable.llm to lora or frozen"
        )
    dtype = getattr(torch, settings.dtype)
    lora = {"vision": trainable.vision == "lora", "llm": trainable.llm == "lora"}
    folder = BUNDLED if settings.model == "bundled" else Path(settings.model)
    if (folder / SETTINGS).exists():
        model = load(
            folder if settings.model != "bundled" else None,
            dtype=dtype,
            quantize=settings.quantize,
            attention=settings.attention,
        )
        if settings.model == "bundled":
            model.settings.base = _bundled_id()
    else:
        backbone = load_backbone(
            settings.model,
            max_tiles=settings.max_tiles,
            dtype=dtype,
            revision=settings.revision,
            quantize=settings.quantize,
            attention=settings.attention,
        )
        prompt = load_prompt(settings.prompt)
        inputs = Inputs(
            backbone.tokenizer, backbone.image_processor, prompt, tokens_per_tile(backbone.model.config)
        )
        config = backbone.model.config
        model_settings = ModelSettings(
            base="" if Path(settings.model).exists() else settings.model,
            base_revision=settings.revision,
            prompt=f"{prompt.name} v{prompt.version}",
            tile_size=config.vision_config.image_size[0],
            max_tiles=settings.max_tiles,
        )
        model = HarmonyIQA(backbone.model, inputs, model_settings, settings.model)
    if model.settings.lora is not None:
        placed = {"vision": model.settings.lora_vision, "llm": model.settings.lora_llm}
        if placed != lora or model.settings.lora != trainable.lora:
            raise UserError(
                f"{settings.model} has adapters {placed} with {model.settings.lora}; trainable asks for {lora} with "
                f"{trainable.lora}: use the same settings in both stages"
            )
    elif any(lora.values()):
        model._adapters = (add_adapters(model.backbone, trainable.lora, **lora),)
        model.settings = replace(
            model.settings, lora=trainable.lora, lora_vision=lora["vision"], lora_llm=lora["llm"]
        )
    if stage == 1:
        model.score_head = None
    elif settings.head is not None:
        _take_heads(settings.head, model)
    elif model.score_head is None:
        model.add_score_head()
    model.settings = replace(model.settings, stage=stage)
    return model


def base_of(model: str, revision: str | None = None) -> tuple[Path | str, str | None]:
    """Where the config.json of a start model is, and its revision: its own folder, or that of the adapters' base."""
    folder = BUNDLED if model == "bundled" else Path(model)
    if not (folder / SETTINGS).exists():
        return model, revision
    settings = _read_settings(folder)
    return _base_of(settings, folder) if settings.layout == "adapter" else (folder, None)


def _take_heads(name: str, model: HarmonyIQA) -> None:
    """Give a model the score head of another saved one, and its map head if it has one."""
    other = load(name)
    width = model.backbone.config.text_config.hidden_size
    if other.score_head is None or other.score_head.linear_1.in_features != width:
        raise UserError(f"{name} has no score head for hidden states of size {width}")
    model.score_head, model.map_head = other.score_head, other.map_head
    model.settings = replace(model.settings, map_cells=other.settings.map_cells)


def _bundled_id() -> str:
    return f"bundled@{sha256_of(_present(BUNDLED / 'model.safetensors'))}"


def _locate(
    name_or_path: str | Path | None, revision: str | None, local_files_only: bool
) -> tuple[Path, str]:
    """The folder, and the name that predictions carry."""
    if name_or_path is None or str(name_or_path) == "bundled":
        return BUNDLED, _bundled_id()[: len("bundled@") + 8]
    folder = fetch(name_or_path, revision, local_files_only=local_files_only)
    return folder, folder.resolve().name if Path(name_or_path).is_dir() else str(name_or_path)


def _read_settings(folder: Path) -> ModelSettings:
    path = _present(folder / SETTINGS)
    try:
        return ModelSettings.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (json.JSONDecodeError, UnicodeDecodeError, TypeError) as error:
        raise UserError(f"{path} is damaged: {error}") from error


def _present(path: Path) -> Path:
    if not path.is_file():
        raise UserError(
            f"the model folder {path.parent} has no {path.name}: no saved HarmonyIQA model, or a copy is incomplete"
        )
    return path


def _base_of(settings: ModelSettings, folder: Path) -> tuple[Path, str | None]:
    kind, _, digest = settings.base.partition("@")
    if kind != "bundled":
        return Path(settings.base), settings.base_revision
    if settings.base != _bundled_id():
        raise UserError(
            f"{folder} was trained on another bundled model ({digest[:8]}) than ships here ({_bundled_id()[8:16]}): "
            f"install harmonyiqa {settings.package_version}, or train it again"
        )
    return BUNDLED, None


def _load_tensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(_present(path))
    except UserError:
        raise
    except Exception as error:  # safetensors' own exception type is not exported for every kind of damage
        raise UserError(f"{path} is damaged: {error}") from error


def _load_adapters(adapters: PeftModel, path: Path) -> None:
    tensors = _load_tensors(path)
    expected = set(get_peft_model_state_dict(adapters))
    _same_names(expected, set(tensors), path)
    set_peft_model_state_dict(adapters, tensors)


def _load_own(model: HarmonyIQA, path: Path) -> None:
    """Projector and heads by name: every tensor must be there, and no other."""
    tensors = _load_tensors(path)
    target = dict(model.named_parameters())
    prefixes = (*HEADS, _PROJECTOR) if model.settings.layout == "adapter" else HEADS
    _same_names({n for n in target if n.startswith(prefixes)}, set(tensors), path)
    with torch.no_grad():
        for name, tensor in tensors.items():
            if target[name].shape != tensor.shape:
                raise UserError(
                    f"{path}: {name} has shape {tuple(tensor.shape)}, the model needs {tuple(target[name].shape)}"
                )
            target[name].copy_(tensor)


def _same_names(expected: set[str], found: set[str], path: Path) -> None:
    if expected != found:
        odd = sorted(expected ^ found)
        kind = "missing" if odd[0] in expected else "unknown"
        raise UserError(
            f"{path}: tensor {odd[0]} is {kind} ({len(odd)} in all); the file does not belong to this model"
        )
