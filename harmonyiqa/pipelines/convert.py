"""``harmonyiqa convert``: OpenGVLab's own checkpoint layout -> transformers'."""

from pathlib import Path


def convert(checkpoint: str, out: str, tokenizer: str | None = None, revision: str | None = None) -> None:
    """Turn an OpenGVLab InternVL2, 2.5, 3 or 3.5 checkpoint into transformers' own layout; no remote code is run.

    Language models: InternLM2, Qwen2 (2.5), Qwen3. Every tensor is accounted for; values do not change. Memory: about
    the largest file of the checkpoint.

    Args:
        checkpoint: A folder with config.json, safetensors and tokenizer files, or a hub id.
        out: The folder to write.
        tokenizer: Take the tokenizer from this folder or hub id, where the checkpoint's own cannot be read.
        revision: The checkpoint's hub revision.

    Raises:
        UserError: if the checkpoint is of another kind or family, or a file or tensor is missing, extra or damaged.
    """
    from harmonyiqa.model.convert.stream import convert as run
    from harmonyiqa.model.hub import fetch

    done = run(
        fetch(checkpoint, revision),
        Path(out),
        None if tokenizer is None else fetch(tokenizer),
    )
    left = f", {', '.join(done.dropped)} left out (tied to the embedding)" if done.dropped else ""
    print(
        f"{done.tensors} tensors, {done.parameters:,} parameters, {done.shards} file(s), language model "
        f"{done.llm}{left}\nmodel: {done.out}"
    )
