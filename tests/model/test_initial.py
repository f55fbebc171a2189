"""What the first weights promise before any training."""

import numpy as np
import pytest
import torch
from PIL import Image

from harmonyiqa.config import StartSettings, TrainableSettings
from harmonyiqa.model.storage import start
from harmonyiqa.model.tiny import make_tiny_model


@pytest.fixture(scope="module", params=[(64, 0.5), (128, 1.0)], ids=["4 tokens", "64 tokens"])
def model(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare")
    tile_size, downsample_ratio = request.param
    make_tiny_model(
        folder,
        tile_size=tile_size,
        patch_size=16,
        vision_width=64,
        llm_width=64,
        head_size=32,
        downsample_ratio=downsample_ratio,
        compare=True,
    )
    model = start(StartSettings(str(folder), max_tiles=1), TrainableSettings("full", "full"), 2).eval()
    model.backbone.set_attn_implementation("eager")
    return model


def _picture(seed: int) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((64, 64), Image.Resampling.BICUBIC)


def _run(model, image, reference):
    batch = model.collate([model.prepare(image, reference)])
    with torch.no_grad():
        out = model.backbone.model(
            input_ids=batch.input_ids,
            pixel_values=batch.pixel_values,
            output_attentions=True,
            output_hidden_states=True,
            use_cache=False,
        )
    places = (batch.input_ids[0] == model.inputs.image_token_id).nonzero().flatten()
    half = len(places) // 2
    return out, places[:half], places[half:]


def test_an_image_token_looks_at_its_twin_in_the_reference(model) -> None:
    out, reference, image = _run(model, _picture(0), _picture(1))
    attention = out.attentions[0][0].mean(0)[image][:, reference]
    assert attention.diagonal().min() > 0.9


def test_what_remains_grows_with_the_difference(model) -> None:
    plain = _picture(0)
    sizes = []
    for shift in (0, 20, 60):
        warmer = np.asarray(plain).astype(int) + np.array([shift, 0, -shift])
        shifted = Image.fromarray(warmer.clip(0, 255).astype(np.uint8))
        layer = model.backbone.model.language_model.layers[0]
        kept = []
        handle = layer.post_attention_layernorm.register_forward_pre_hook(
            lambda _, args, kept=kept: kept.append(args[0])
        )
        _, _, image = _run(model, shifted, plain)
        handle.remove()
        sizes.append(kept[0][0, image, 16:].norm().item())  # the first 16 dimensions are reserved
    assert sizes == sorted(sizes)
    assert sizes[2] > 2 * sizes[0]
