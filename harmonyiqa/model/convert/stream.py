"""Read an OpenGVLab checkpoint and write a native one, one shard in memory at a time."""

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from transformers import GenerationConfig, PreTrainedTokenizerBase

from harmonyiqa.errors import UserError
from harmonyiqa.model.backbone import image_processor
from harmonyiqa.model.convert.layout import EMBEDDING, LM_HEAD, Layout, expected, native, read_layout
from harmonyiqa.model.convert.tokenizer import load_tokenizer
from harmonyiqa.model.inputs import IMAGE_TOKEN

_SINGLE, _INDEX = "model.safetensors", "model.safetensors.index.json"


@dataclass(frozen=True)
class Conversion:
    """What was written.

    Attributes:
        out: the native checkpoint.
        llm: the language model's kind in transformers.
        tensors: tensors written.
        parameters: numbers in them.
        shards: files they are in.
        dropped: tensors of the source that a tied model has no place for (checked to be equal to the embedding).
    """

    out: Path
    llm: str
    tensors: int
    parameters: int
    shards: int
    dropped: list[str]


def convert(checkpoint: Path, out: Path, tokenizer: Path | None = None) -> Conversion:
    """Turn a checkpoint in OpenGVLab's layout into transformers' own, byte for byte the same every time.

    Names and shapes of all tensors are checked from the file headers before a byte is written; then shard after shard
    is read, renamed, split and written, so that the largest shard is what has to fit into memory. Values and their
    types do not change. `out` appears when it is complete.

    Args:
        checkpoint: folder with `config.json`, safetensors and tokenizer files.
        out: folder to write; must not hold anything yet.
        tokenizer: folder to take the tokenizer from instead.

    Raises:
        UserError: the checkpoint is of another kind, a file is missing or damaged, or a tensor is missing, extra or
            misshapen; it is named.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is there already: choose a folder that is not")
    layout = read_layout(_config(checkpoint), str(checkpoint))
    shards = _shards(checkpoint)
    dropped = _check(checkpoint, shards, layout)
    tokens = load_tokenizer(tokenizer or checkpoint, layout.llm, layout.config.text_config.vocab_size)
    layout.config.image_token_id = tokens.convert_tokens_to_ids(IMAGE_TOKEN)

    out.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        weight_map, size, parameters = _write_shards(checkpoint, shards, aside, layout, dropped)
        if len(shards) > 1:
            index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(weight_map.items()))}
            (aside / _INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
        _write_rest(aside, layout, tokens)
        for file in (aside, *aside.iterdir()):
            file.chmod(0o755 if file.is_dir() else 0o644)
        aside.replace(out)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return Conversion(out, layout.llm, len(weight_map), parameters, len(shards), dropped)


def _config(checkpoint: Path) -> dict[str, Any]:
    path = checkpoint / "config.json"
    if not path.is_file():
        raise UserError(f"{checkpoint} has no config.json: not a checkpoint folder")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is damaged: {error}") from error


def _shards(checkpoint: Path) -> dict[str, list[str]]:
    """The tensors of each file, in order."""
    index = checkpoint / _INDEX
    if not index.is_file():
        if not (checkpoint / _SINGLE).is_file():
            raise UserError(f"{checkpoint} has neither {_SINGLE} nor {_INDEX}; only safetensors are read")
        with _open(checkpoint / _SINGLE) as file:
            return {_SINGLE: sorted(file.keys())}
    try:
        listed: dict[str, str] = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError) as error:
        raise UserError(f"{index} is damaged: {error}") from error
    shards: dict[str, list[str]] = {}
    for name in sorted(set(listed.values())):
        if Path(name).name != name or not (checkpoint / name).is_file():
            raise UserError(f"{checkpoint} has no {name}, which {_INDEX} lists")
        with _open(checkpoint / name) as file:
            shards[name] = sorted(file.keys())
    found = Counter(name for names in shards.values() for name in names)
    twice = [name for name, count in found.items() if count > 1]
    if twice:
        raise UserError(f"{checkpoint}: tensor {twice[0]} is in two files")
    odd = sorted(listed.keys() ^ found.keys())
    if odd:
        where = "the files do not hold it" if odd[0] in listed else f"{_INDEX} does not list it"
        raise UserError(f"{checkpoint}: tensor {odd[0]}: {where} ({len(odd)} such in all)")
    return shards


def _check(checkpoint: Path, shards: dict[str, list[str]], layout: Layout) -> list[str]:
    """Hold names and shapes against the model's; returns what a tied model leaves out."""
    wanted = expected(layout.config)
    found: dict[str, torch.Size] = {}
    dropped = []
    for shard, names in shards.items():
        with _open(checkpoint / shard) as file:
            for name in names:
                blank = torch.empty(file.get_slice(name).get_shape(), device="meta")
                made = native(name, blank, layout)
                if LM_HEAD in made and layout.config.tie_word_embeddings:
                    dropped.append(name)
                    continue
                unknown = made.keys() - wanted.keys()
                if not made or unknown:
                    raise UserError(
                        f"{checkpoint}: tensor {name} is extra: the model of config.json has no place for it"
                    )
                for target, piece in made.items():
                    if piece.shape != wanted[target]:
                        raise UserError(
                            f"{checkpoint}: tensor {name} has shape {tuple(blank.shape)}; {target} would have "
                            f"{tuple(piece.shape)} and must have {tuple(wanted[target])}"
                        )
                found |= {target: piece.shape for target, piece in made.items()}
    missing = sorted(wanted.keys() - found.keys())
    if missing:
        raise UserError(
            f"{checkpoint}: nothing becomes {missing[0]}: its tensor is missing ({len(missing)} in all)"
        )
    return dropped


def _write_shards(
    checkpoint: Path, shards: dict[str, list[str]], out: Path, layout: Layout, dropped: list[str]
) -> tuple[dict[str, str], int, int]:
    """Each file becomes one file. Returns where each tensor is, bytes and parameters in all."""
    weight_map: dict[str, str] = {}
    size = parameters = 0
    for number, (shard, names) in enumerate(shards.items(), 1):
        target = _SINGLE if len(shards) == 1 else f"model-{number:05}-of-{len(shards):05}.safetensors"
        tensors: dict[str, torch.Tensor] = {}
        with _open(checkpoint / shard) as file:
            for name in names:
                tensor = _read(file, name, checkpoint / shard)
                if name in dropped:
                    _must_equal_embedding(name, tensor, checkpoint, shards, layout)
                else:
                    tensors |= {n: piece.contiguous() for n, piece in native(name, tensor, layout).items()}
        save_file(tensors, out / target, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(tensors, target)
        size += sum(t.nbytes for t in tensors.values())
        parameters += sum(t.numel() for t in tensors.values())
    return weight_map, size, parameters


def _must_equal_embedding(
    name: str, head: torch.Tensor, checkpoint: Path, shards: dict[str, list[str]], layout: Layout
) -> None:
    """A tied model has one tensor for both: nothing may be lost by writing one."""
    other = EMBEDDING[layout.llm]
    shard = next(shard for shard, names in shards.items() if other in names)
    with _open(checkpoint / shard) as file:
        if not torch.equal(_read(file, other, checkpoint / shard), head):
            raise UserError(
                f"{checkpoint}: {name} differs from {other}, though config.json ties them (tie_word_embeddings)"
            )


def _write_rest(out: Path, layout: Layout, tokenizer: PreTrainedTokenizerBase) -> None:
    layout.config.save_pretrained(out)
    tokenizer.save_pretrained(out)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    GenerationConfig(eos_token_id=end, pad_token_id=tokenizer.pad_token_id).save_pretrained(out)
    image_processor(layout.config.vision_config.image_size[0], layout.max_tiles).save_pretrained(out)


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except SafetensorError as error:
        raise UserError(f"{path} is damaged: {error}") from error


def _read(file: Any, name: str, path: Path) -> torch.Tensor:
    try:
        return file.get_tensor(name)
    except (SafetensorError, RuntimeError, ValueError) as error:
        raise UserError(f"{path}: tensor {name} cannot be read: {error}") from error
