"""The tokenizer of an OpenGVLab checkpoint as one that transformers reads by itself.

Qwen2's files are read as they are. InternLM2's tokenizer is a SentencePiece model beside Python code; the model file is
data, from which the same tokenizer is built here, and the code is never run.
"""

import json
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast, Qwen2Tokenizer
from transformers.convert_slow_tokenizer import import_protobuf
from transformers.tokenization_utils_base import generate_merges

from harmonyiqa.errors import UserError
from harmonyiqa.model.inputs import IMAGE_TOKEN

FILES = {"llama": ("tokenizer.model",), "qwen2": ("vocab.json", "merges.txt")}
FILES["qwen3"] = FILES["qwen2"]
_NEEDED = ("<img>", "</img>", IMAGE_TOKEN, "<|im_start|>", "<|im_end|>")
_NORMAL, _USER_DEFINED, _BPE = 1, 4, 2  # of SentencePiece's enumerations


def load_tokenizer(folder: Path, llm: str, vocabulary: int) -> PreTrainedTokenizerBase:
    """Read it from a checkpoint's files.

    Args:
        folder: of the checkpoint.
        llm: "llama", "qwen2" or "qwen3".
        vocabulary: rows of the model's embedding.

    Raises:
        UserError: files are missing, are no such tokenizer, or lack a token that InternVL needs.
    """
    config = _read_json(folder / "tokenizer_config.json")
    try:
        tokenizer = _read(folder, llm, config)
    except UserError:
        raise
    except Exception as error:  # damage shows as any of these, from three libraries
        raise UserError(
            f"{folder}: the tokenizer cannot be read: {str(error).splitlines()[0]}; {_WAY_OUT}"
        ) from error
    for token in _NEEDED:
        id_ = tokenizer.get_vocab().get(token)
        if id_ is None or id_ >= vocabulary:
            raise UserError(f"{folder}: its tokenizer has no token {token} for this model; {_WAY_OUT}")
    tokenizer.padding_side = "left"
    return tokenizer


_WAY_OUT = "give another with --tokenizer, such as that of the -hf checkpoint of the same family"


def _read(folder: Path, llm: str, config: dict[str, Any]) -> PreTrainedTokenizerBase:
    if (folder / "tokenizer.json").is_file():
        return PreTrainedTokenizerFast.from_pretrained(folder)
    missing = [name for name in FILES[llm] if not (folder / name).is_file()]
    if missing:
        raise UserError(f"{folder} has no {missing[0]}, so its tokenizer cannot be made; {_WAY_OUT}")
    if llm == "llama":
        return _from_sentencepiece(folder, config)
    return Qwen2Tokenizer.from_pretrained(folder)


def _from_sentencepiece(folder: Path, config: dict[str, Any]) -> PreTrainedTokenizerFast:
    """InternLM2's: byte-pair encoding with byte fallback, `<s>` in front."""
    proto = import_protobuf().ModelProto()  # protobuf alone will do; the sentencepiece library is not needed
    proto.ParseFromString((folder / "tokenizer.model").read_bytes())
    form, trainer = proto.normalizer_spec, proto.trainer_spec
    if trainer.model_type != _BPE or form.precompiled_charsmap or form.remove_extra_whitespaces:
        raise UserError(
            f"{folder / 'tokenizer.model'} is not a plain byte-pair model as InternLM2's; {_WAY_OUT}"
        )
    added = _added_tokens(folder, config)
    # a special token may take the place of a piece that was kept free for it
    pieces = [added[i].content if i in added else p.piece for i, p in enumerate(proto.pieces)]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    scores = {piece: p.score for piece, p in zip(pieces, proto.pieces, strict=True) if p.type == _NORMAL}
    for i, piece in enumerate(proto.pieces):
        if piece.type == _USER_DEFINED:  # never split
            added.setdefault(i, AddedToken(piece.piece, normalized=False))
    tokenizer = Tokenizer(
        models.BPE(
            vocabulary,
            generate_merges(vocabulary, scores),
            unk_token=trainer.unk_piece,
            fuse_unk=True,
            byte_fallback=trainer.byte_fallback,
        )
    )
    blank = normalizers.Replace(" ", "▁")
    front = [normalizers.Prepend("▁")] if form.add_dummy_prefix else []
    tokenizer.normalizer = normalizers.Sequence([*front, blank])
    strip = [decoders.Strip(" ", left=1)] if form.add_dummy_prefix else []
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    for id_, token in sorted(added.items()):
        tokenizer.add_tokens([token])
        if tokenizer.token_to_id(token.content) != id_:
            raise UserError(
                f"{folder}: added token {token.content} should have id {id_}, which the vocabulary does not allow"
            )
    special = {
        key: _content(config[key])
        for key in ("bos_token", "eos_token", "unk_token", "pad_token")
        if config.get(key)
    }
    bos = special.get("bos_token")
    if bos and config.get("add_bos_token", True):
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, tokenizer.token_to_id(bos))]
        )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


def _added_tokens(folder: Path, config: dict[str, Any]) -> dict[int, AddedToken]:
    """By id: from `tokenizer_config.json`, or the older `added_tokens.json`."""
    if config.get("added_tokens_decoder"):
        return {
            int(id_): AddedToken(
                token["content"],
                lstrip=token.get("lstrip", False),
                rstrip=token.get("rstrip", False),
                normalized=token.get("normalized", False),
                special=token.get("special", True),
            )
            for id_, token in config["added_tokens_decoder"].items()
        }
    older = _read_json(folder / "added_tokens.json")
    return {id_: AddedToken(content, normalized=False, special=True) for content, id_ in older.items()}


def _content(token: str | dict[str, Any]) -> str:
    return token if isinstance(token, str) else token["content"]


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is damaged: {error}") from error
