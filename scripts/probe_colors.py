"""How much of a photo's colours is left at each place in a model: a linear probe.

    python scripts/probe_colors.py PHOTOS --model bundled

A model that is to judge colours must first carry them. From the vision embeddings, the vision encoder, the projector
and the LLM's last layer (image tokens of the full-reference question), least squares predict the mean CIELAB colour of
the patches that each token stands for: of 70% of the tokens learned, of the others measured. Prints JSON: root of the
mean squared error in CIELAB units, and the share of variance explained.
"""

import json
from typing import Any

import torch
from jsonargparse import auto_cli
from PIL import Image
from torch import nn
from torch.nn import functional as F

from harmonyiqa import HarmonyIQA
from harmonyiqa.color import srgb_to_lab
from harmonyiqa.synthesize.bank import build_bank
from harmonyiqa.synthesize.batch import BatchMaker

BATCH = 32


def main(photos: str, model: str | None = None, split: str = "test", batches: int = 60) -> None:
    """Measure one model of one square tile.

    Args:
        photos: photos and region maps, as for `harmonyiqa data synthesize`.
        model: a model folder. Default: the bundled model.
        split: which photos.
        batches: of 32 composites, each with its photo.
    """
    scorer = HarmonyIQA.from_pretrained(model)
    core, inputs, tile = scorer.backbone.model, scorer.inputs, scorer.settings.tile_size
    maker = BatchMaker(build_bank(photos, split, tile), tile)
    states: dict[str, list[torch.Tensor]] = {}
    vision = core.vision_tower
    watched = {
        "vision embeddings": vision.embeddings,
        "vision encoder": vision,
        "projector": core.multi_modal_projector,
    }
    for name, module in watched.items():
        module.register_forward_hook(_Keep(states.setdefault(name, [])))
    colors, last = [], []
    blank = Image.new("RGB", (tile, tile))
    processor = inputs.image_processor
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (processor.image_mean, processor.image_std))
    for number in range(batches):
        made = maker.batch(number, BATCH)
        pictures = torch.stack([made.reference, made.image], 1)
        batch = inputs.collate([scorer.prepare(blank, blank)] * BATCH)
        with torch.inference_mode():
            hidden = core(
                input_ids=batch.input_ids,
                attention_mask=batch.attention_mask,
                pixel_values=((pictures - mean) / std).flatten(0, 1),
            ).last_hidden_state
        last.append(hidden[batch.input_ids == inputs.image_token_id])
        colors.append(srgb_to_lab(pictures.flatten(0, 1).movedim(1, -1)).movedim(-1, 1))
    lab = torch.cat(colors)
    patches = tile // scorer.backbone.config.vision_config.patch_size[0]
    side = int(inputs.tokens_per_tile**0.5)
    found = {}
    for name, kept in {**states, "LLM": last}.items():
        tokens = torch.cat(kept)
        if name.startswith("vision"):
            found[name] = probe(tokens[:, 1:].flatten(0, 1), _cells(lab, patches, patches))
        else:
            found[name] = probe(tokens.reshape(-1, tokens.shape[-1]), _cells(lab, patches, side))
    print(
        json.dumps(
            {"model": scorer.name, "composites": BATCH * batches, "tokens": side**2, **found}, indent=1
        )
    )


class _Keep:
    """A forward hook that keeps what a module returns."""

    def __init__(self, kept: list[torch.Tensor]) -> None:
        self.kept = kept

    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        self.kept.append(output if isinstance(output, torch.Tensor) else output[0])


def _cells(lab: torch.Tensor, patches: int, side: int) -> torch.Tensor:
    """(N, 3, T, T) -> (N * side * side, 3 (patches / side)^2): the mean colours of each token's patches."""
    within = patches // side
    cells = F.adaptive_avg_pool2d(lab, patches).unflatten(3, (side, within)).unflatten(2, (side, within))
    return cells.permute(0, 2, 4, 1, 3, 5).reshape(len(lab) * side**2, -1)


def probe(tokens: torch.Tensor, colors: torch.Tensor) -> dict[str, float]:
    """Least squares from (N, width) to (N, C), learned on the first 70%, measured on the rest."""
    cut = int(0.7 * len(tokens))
    x = torch.cat([tokens, torch.ones(len(tokens), 1)], 1).double()
    y = colors.double()
    weights = torch.linalg.lstsq(x[:cut], y[:cut]).solution
    error = x[cut:] @ weights - y[cut:]
    explained = 1 - error.var(0).mean() / y[cut:].var(0).mean()
    return {"rms": round(float(error.pow(2).mean().sqrt()), 2), "explained": round(float(explained), 3)}


if __name__ == "__main__":
    auto_cli(main, as_positional=True)
