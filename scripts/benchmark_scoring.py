"""How many images a second does scoring manage, and how do others do it? Prints a table, then JSON.

python scripts/benchmark_scoring.py                       # the bundled model, 512 px JPEGs, two threads
python scripts/benchmark_scoring.py --model small         # random weights, a real vocabulary
python scripts/benchmark_scoring.py --model FOLDER --images 64 --workers 1
python scripts/benchmark_scoring.py --model InternVL2-8B --device cuda --dtype bfloat16 --size 448 --images 512
python scripts/benchmark_scoring.py --model InternVL2-8B --device cuda --dtype bfloat16 --size 896 --aspect 1.5 \
    --max_tiles 6 --images 64                             # six tiles and a thumbnail

Contenders take turns in every round and a ratio is the median over rounds, so that a busy machine disturbs all alike;
`--clock cpu` compares processor time. All of them get the same prepared images: what differs is the model call.
"""

import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any, Literal

import numpy as np
import PIL
import torch
import transformers
from jsonargparse import auto_cli
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode
from transformers import InternVLForConditionalGeneration

import harmonyiqa
from harmonyiqa import HarmonyIQA
from harmonyiqa.baselines.metrics import METRICS
from harmonyiqa.config import ModelSettings, StartSettings, TrainableSettings
from harmonyiqa.images import open_rgb
from harmonyiqa.model.architectures import known_architecture
from harmonyiqa.model.backbone import image_processor, tokens_per_tile
from harmonyiqa.model.inputs import IMAGE_TOKEN, Example, Inputs
from harmonyiqa.model.storage import start
from harmonyiqa.model.tiny import make_tiny_model, make_tokenizer
from harmonyiqa.prompts import load_prompt
from harmonyiqa.scoring.engine import predict
from harmonyiqa.scoring.forward import Forward
from harmonyiqa.scoring.items import items_from_paths
from harmonyiqa.scoring.plan import Shape, find_budget, plan, shape_of

IMAGES_PER_REFERENCE = 9  # HarmonyIQAD: nine algorithms harmonize each composite
REFERENCES = 4
_MOS_STD = 13.11  # HarmonyIQAD's, for random weights


def benchmark(
    model: str = "bundled",
    images: int = 192,
    size: int = 512,
    aspect: float = 1.0,
    max_tiles: int = 1,
    tokens: int | None = None,
    workers: int = 0,
    threads: int = 2,
    repeats: int = 3,
    alone: int = 4,
    device: str = "cpu",
    dtype: Literal["float32", "bfloat16"] = "float32",
    metrics: str = "psnr,ssim,ciede2000,fsim,brisque",
    clock: Literal["wall", "cpu"] = "wall",
    start_up: bool = True,
) -> dict[str, Any]:
    """Score a folder of made-up JPEGs, time each part by itself, and time other ways of asking the same model.

    Args:
        model: "bundled", a folder or a hub id; "small" or a published size (InternVL2-8B, InternVL3-1B) for random
            weights.
        images: How many images.
        size: Their height in pixels.
        aspect: Their width is so many times the height.
        max_tiles: Tiles an image at most, for random weights.
        tokens: Tokens a model call; default: what the engine finds.
        workers: Processes that decode images; 0 decodes between the model calls.
        threads: CPU threads of the model.
        repeats: Rounds, of which the median counts.
        alone: How many images a round are put to the model one at a time.
        device: Where the model runs.
        dtype: Of the weights.
        metrics: Metrics of `harmonyiqa baselines` to time on the same images, by comma; one whose library is not
            installed is left out.
        clock: "wall", or "cpu" for processor time.
        start_up: Time a fresh Python up to its first score too, by the wall; not for random weights.

    Returns:
        Images per second from files to scores, milliseconds an image of each part, the contenders, and what it ran on.
    """
    torch.set_num_threads(threads)
    place = torch.device(device)
    timer = _Timer(place, clock)
    with tempfile.TemporaryDirectory() as folder:
        scorer = _load(model, place, getattr(torch, dtype), max_tiles, Path(folder))
        pictures = Path(folder, "pictures")
        pictures.mkdir()
        _write_images(pictures, images, round(size * aspect), size)
        items = items_from_paths([pictures])
        paths = sorted(pictures.iterdir())
        forward = Forward(scorer)
        budget = tokens or find_budget(forward, scorer)
        example = scorer.prepare(open_rgb(paths[0]))
        tiles = len(example.pixel_values)
        batch_size = len(plan(scorer.inputs, [Shape(tiles)] * images, budget)[0])
        paths = paths[:batch_size]
        opened = [open_rgb(path) for path in paths]
        examples = [scorer.prepare(picture) for picture in opened]
        parts = timer.rounds(
            {
                "decode": lambda: [open_rgb(path) for path in paths],
                "prepare": lambda: [scorer.prepare(picture) for picture in opened],
                "forward": lambda: forward.score(examples),
                "end_to_end": lambda: predict(scorer, items, workers=workers),
            },
            repeats,
        )
        each = {name: median(parts[name]) / len(paths) for name in ("decode", "prepare", "forward")}
        whole = median(parts["end_to_end"]) / images
        reading = each["forward"] + each["decode"]
        contenders = _contenders(scorer, forward, examples, alone)
        with_reference, difference = _references(scorer, opened, budget)
        result = {
            "images_per_second": round(1 / whole, 1),
            "share_of_forward_and_decode": round(reading / whole, 3),
            "share_of_forward_decode_and_prepare": round((reading + each["prepare"]) / whole, 3),
            **{f"{name}_ms": round(1000 * seconds, 2) for name, seconds in each.items()},
            "contenders": _compare(contenders, timer, repeats),
            "nine_images_a_reference": {
                **_compare(with_reference, timer, repeats),
                "largest_difference_of_scores": difference,
            },
            "metrics": _metrics(metrics, opened, timer),
            **_flops(forward, examples, each["forward"], place, getattr(torch, dtype), timer),
        }
        if start_up and _is_saved(model):
            result["start_up_seconds"] = round(_start_up(model, paths[0]), 1)
    return {
        **result,
        "peak_rss_mib": _peak_rss_mib(),
        "model": scorer.name,
        "parameters": sum(p.numel() for p in scorer.parameters()),
        "tokens_per_image": len(example.question) + len(scorer.inputs.answer),
        "tokens_per_call": budget,
        "images_per_call": batch_size,
        "settings": {
            "images": images,
            "size": size,
            "aspect": aspect,
            "tiles": tiles,
            "workers": workers,
            "threads": threads,
            "repeats": repeats,
            "device": device,
            "dtype": dtype,
            "clock": clock,
        },
        "machine": f"{platform.machine()}, {os.cpu_count()} cores"
        + (f", {torch.cuda.get_device_name(place)}" if place.type == "cuda" else ""),
        "versions": {
            "harmonyiqa": harmonyiqa.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "pillow": PIL.__version__,
        },
    }


@dataclass(frozen=True)
class Contender:
    """A way of scoring: run it, and so many images are done."""

    run: Callable[[], Any]
    images: int


def _contenders(
    scorer: HarmonyIQA, forward: Forward, examples: Sequence[Example], alone: int
) -> dict[str, Contender]:
    """This package's call, and what others do with the same model. The first is what ratios refer to."""
    inputs, backbone = scorer.inputs, scorer.backbone
    batch = inputs.collate(examples).to(scorer.device)
    prompts = [
        inputs.collate([example]).to(scorer.device) for example in examples[: min(alone, len(examples))]
    ]
    # a trained model ends after the sentence; random weights would go on, so both stop where it would end
    sentence = len(inputs.answer) + len(inputs.tokenizer(inputs.prompt.score_text(63.4)).input_ids) + 1
    generate = partial(
        backbone.generate,
        do_sample=False,
        max_new_tokens=sentence,
        min_new_tokens=sentence,
        pad_token_id=inputs.end_id,
    )
    asked = len(inputs.answer)  # the model writes the sentence itself

    def ask(one: Any) -> torch.Tensor:
        return generate(
            input_ids=one.input_ids[:, :-asked],
            attention_mask=one.attention_mask[:, :-asked],
            pixel_values=one.pixel_values,
        )

    return {
        "this package": Contender(lambda: forward.score(examples), len(examples)),
        "the same without reuse": Contender(
            partial(Forward(scorer, reuse=False).score, examples), len(examples)
        ),
        "plain path: last hidden states of all tokens": Contender(
            lambda: scorer.predict(batch), len(examples)
        ),
        "batched forward, logits of all tokens": Contender(
            torch.inference_mode()(lambda: backbone(**vars(batch), use_cache=False).logits[:, -1]),
            len(examples),
        ),
        "batched generate": Contender(lambda: ask(batch), len(examples)),
        "generate, one image at a time": Contender(lambda: [ask(one) for one in prompts], len(prompts)),
    }


def _references(
    scorer: HarmonyIQA, pictures: Sequence[Image.Image], budget: int
) -> tuple[dict[str, Contender], float]:
    """Nine images a reference, with it shared and not; and how far the scores differ at most."""
    tiles = [scorer.inputs.cut(picture) for picture in pictures]
    names = [group for group in range(REFERENCES) for _ in range(IMAGES_PER_REFERENCE)]
    examples = [
        scorer.inputs.ask(tiles[index % len(tiles)], tiles[name % len(tiles)])
        for index, name in enumerate(names)
    ]
    shapes = [shape_of(example, name) for example, name in zip(examples, names, strict=True)]
    calls = plan(scorer.inputs, shapes, budget)

    def run(reuse: bool) -> torch.Tensor:
        forward = Forward(scorer, reuse=reuse, reference_bytes=0)  # or a later round would find the first's
        found = torch.empty(len(examples))
        for call in calls:
            known = [names[i] for i in call]
            found[call] = forward.score([examples[i] for i in call], known).cpu()
        return found

    ways = {
        "this package": Contender(partial(run, True), len(examples)),
        "the same without reuse": Contender(partial(run, False), len(examples)),
    }
    return ways, float((run(True) - run(False)).abs().max())


def _compare(contenders: dict[str, Contender], timer: "_Timer", repeats: int) -> dict[str, dict[str, float]]:
    """Of each: images a second, and how many times as long the first is faster (the median of the rounds)."""
    seconds = timer.rounds({name: c.run for name, c in contenders.items()}, repeats)
    each = {name: [value / contenders[name].images for value in values] for name, values in seconds.items()}
    first = next(iter(each.values()))
    found = {}
    for name, values in each.items():
        found[name] = {
            "images_per_second": round(1 / median(values), 2),
            "ratio": round(median(b / a for a, b in zip(first, values, strict=True)), 2),
        }
        if name in timer.peak_mib:
            found[name]["peak_mib"] = timer.peak_mib[name]
    return found


def _metrics(names: str, pictures: Sequence[Image.Image], timer: "_Timer") -> dict[str, float]:
    """Images a second of other metrics, each image against the next where one needs a reference."""
    pixels = [np.asarray(picture) for picture in pictures[:8]]
    found = {}
    for name in filter(None, names.split(",")):
        metric = METRICS[name]
        if find_spec({"scikit-image": "skimage"}.get(metric.library, metric.library)) is None:
            continue
        try:
            score = metric.load()
        except Exception as error:  # weights that cannot be fetched, whatever library says so in its own way
            print(f"{name} of {metric.library} is left out: {str(error).splitlines()[0]}", file=sys.stderr)
            continue

        def run(metric: Any = metric, score: Any = score) -> None:
            for image, other in zip(pixels, pixels[1:] + pixels[:1], strict=True):
                score(image, other if metric.needs_reference else None)

        [seconds] = timer.rounds({name: run}, 1).values()
        found[f"{name} ({metric.library})"] = round(len(pixels) / seconds[0], 2)
    return found


def _flops(
    forward: Forward,
    examples: Sequence[Example],
    seconds: float,
    device: torch.device,
    dtype: torch.dtype,
    timer: "_Timer",
) -> dict[str, float]:
    """What the call computes (attention and matrix products, counted), beside what the device can do."""
    with FlopCounterMode(display=False) as counter:
        forward.score(examples)
    side = 1024 if device.type == "cpu" else 8192
    matrix = torch.randn(side, side, device=device, dtype=dtype)
    many = 10
    [times] = timer.rounds({"matmul": lambda: [matrix @ matrix for _ in range(many)]}, 5).values()
    peak = 2 * side**3 * many / median(times)
    each = counter.get_total_flops() / len(examples)
    return {
        "gflop_per_image": round(each / 1e9, 3),
        "matmul_gflops": round(peak / 1e9),
        "share_of_matmul_peak": round(each / seconds / peak, 3),
    }


class _Timer:
    """Times runs in turns.

    Attributes:
        peak_mib: of each name, memory on the device at its peak.
    """

    def __init__(self, device: torch.device, clock: Literal["wall", "cpu"]) -> None:
        self._device = device
        self._now = time.perf_counter if clock == "wall" else time.process_time
        self.peak_mib: dict[str, int] = {}

    def rounds(self, runs: dict[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
        """Seconds of each in each round, after one round to warm up."""
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        for turn in range(repeats + 1):
            for name, run in runs.items():
                with self._memory(name):
                    start = self._now()
                    run()
                    if self._device.type == "cuda":
                        torch.cuda.synchronize(self._device)
                    if turn:
                        seconds[name].append(self._now() - start)
        return seconds

    @contextmanager
    def _memory(self, name: str) -> Iterator[None]:
        if self._device.type != "cuda":
            yield
            return
        torch.cuda.reset_peak_memory_stats(self._device)
        yield
        self.peak_mib[name] = torch.cuda.max_memory_allocated(self._device) // 2**20


def _load(name: str, device: torch.device, dtype: torch.dtype, max_tiles: int, folder: Path) -> HarmonyIQA:
    if name == "small":
        checkpoint = make_tiny_model(
            folder / "small",
            tile_size=224,
            patch_size=14,
            vision_width=192,
            vision_layers=6,
            llm_width=256,
            llm_layers=6,
            head_size=32,
            vocabulary=50304,
        )
        start_settings = StartSettings(str(checkpoint), max_tiles=max_tiles)
        model = start(start_settings, TrainableSettings("full", "full"), stage=2)
        model.name = "small, random weights"
        model.settings.mos_std = _MOS_STD
        model.backbone.to(dtype)  # the head stays float32
        return model.eval().to(device)
    known = known_architecture(name)
    if _is_saved(name) or known is None:
        return HarmonyIQA.from_pretrained(None if name == "bundled" else name, device=device, dtype=dtype)
    size, config = known
    prompt = load_prompt("harmony_v1")
    tokenizer = make_tokenizer(prompt)
    config.image_token_id = tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
    transformers.utils.logging.disable_progress_bar()
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            backbone = InternVLForConditionalGeneration(config).eval()
    finally:
        torch.set_default_dtype(before)
    processor = image_processor(config.vision_config.image_size[0], max_tiles)
    inputs = Inputs(tokenizer, processor, prompt, tokens_per_tile(config))
    settings = ModelSettings(stage=2, max_tiles=max_tiles, mos_std=_MOS_STD)
    return HarmonyIQA(backbone, inputs, settings, f"{size}, random weights").eval()


def _is_saved(name: str) -> bool:
    """Whether there are weights of that name: the bundled ones, a folder's or a hub's."""
    return name != "small" and (Path(name).exists() or known_architecture(name) is None)


def _write_images(folder: Path, count: int, width: int, height: int) -> None:
    """Smooth colour with a little grain: about the bytes a pixel of a photo."""
    random = np.random.default_rng(0)
    for index in range(count):
        coarse = Image.fromarray(random.integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float32)
        grain = random.normal(0, 4, (height, width, 1))
        image = Image.fromarray(np.clip(smooth + grain, 0, 255).astype(np.uint8))
        image.save(folder / f"{index:05}.jpg", quality=92)


def _start_up(model: str, image: Path) -> float:
    """Seconds from nothing to the first score, in a Python of its own."""
    name = "" if model == "bundled" else repr(model)
    code = f"from harmonyiqa import HarmonyIQA; HarmonyIQA.from_pretrained({name}).score({str(image)!r})"
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - start


def _peak_rss_mib() -> int:
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit // 2**20


def table(result: dict[str, Any]) -> str:
    """The contenders as text."""
    lines = [
        f"{result['model']}: {result['images_per_second']} images/s from files to scores; an image takes decode "
        f"{result['decode_ms']} ms, prepare {result['prepare_ms']} ms, forward {result['forward_ms']} ms"
    ]
    groups = (
        ("no reference", "contenders"),
        (f"{IMAGES_PER_REFERENCE} images a reference", "nine_images_a_reference"),
    )
    for title, key in groups:
        lines.append(f"\n{title:<48} images/s   times as long")
        for name, row in result[key].items():
            if isinstance(row, dict):
                lines.append(f"  {name:<46} {row['images_per_second']:>8} {row['ratio']:>12}")
    if result["metrics"]:
        lines.append("\nother metrics, same images")
        lines += [f"  {name:<46} {speed:>8}" for name, speed in result["metrics"].items()]
    return "\n".join(lines)


if __name__ == "__main__":
    found = auto_cli(benchmark)
    print(table(found), file=sys.stderr)
    print(json.dumps(found, indent=2))
