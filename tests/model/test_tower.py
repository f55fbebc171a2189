import pytest
import torch
from torch import nn
from torch.nn import functional as F

from harmonyiqa import HarmonyIQA
from harmonyiqa.config import LoraSettings, StartSettings, TrainableSettings
from harmonyiqa.model.backbone import IMAGENET_MEAN, IMAGENET_STD
from harmonyiqa.model.lora import set_trainable
from harmonyiqa.model.storage import start
from harmonyiqa.model.tiny import make_tiny_model
from harmonyiqa.model.tower import InvertedResidual, SameConv, Stem, StemVisionConfig, load_imagenet_weights

STAGES = ((3, 1, 1, 8, 1), (3, 2, 2, 12, 2), (5, 2, 2, 16, 1))


@pytest.fixture
def config() -> StemVisionConfig:
    return StemVisionConfig(hidden_size=24, stem_width=8, stem_stages=STAGES, stem_taps=(1, 2))


def test_a_model_with_a_stem_is_saved_and_loaded_like_any_other(tmp_path, noise) -> None:
    checkpoint = make_tiny_model(tmp_path / "c", stem=True)
    model = start(StartSettings(str(checkpoint), max_tiles=1), TrainableSettings("full", "full"), 2).eval()
    model.save_pretrained(tmp_path / "m")
    again = HarmonyIQA.from_pretrained(tmp_path / "m")
    assert again.backbone.config.vision_config.stem_taps == [1, 2, 4, 6]
    assert again.score(noise) == model.score(noise)


def test_lora_finds_the_layers_above_the_stem(tmp_path) -> None:
    checkpoint = make_tiny_model(tmp_path / "c", stem=True)
    model = start(
        StartSettings(str(checkpoint), max_tiles=1),
        TrainableSettings("lora", "frozen", lora=LoraSettings(rank=2)),
        2,
    )
    names = [name for name, _ in model.named_parameters() if "lora_" in name]
    assert names
    assert all(".vision_tower.encoder.layer." in name for name in names)


def test_the_stem_can_rest_while_the_layers_above_it_learn(tmp_path) -> None:
    checkpoint = make_tiny_model(tmp_path / "c", stem=True)
    switches = TrainableSettings("full", "full", stem=False)
    model = start(StartSettings(str(checkpoint), max_tiles=1), switches, 2)
    set_trainable(model, switches, 2)
    resting = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert resting == {name for name, _ in model.named_parameters() if ".stem." in name}
    assert resting


def test_on_a_cpu_channels_are_filtered_in_float32() -> None:
    """Their gradients in bfloat16 take several times as long there."""
    block = InvertedResidual(8, 8, 5, 1, 2)
    x = torch.randn(2, 8, 16, 16)
    seen = {}
    for name in ("depthwise", "project"):
        block.get_submodule(name).register_forward_hook(lambda _m, _x, y, n=name: seen.update({n: y.dtype}))
    with torch.autocast("cpu", torch.bfloat16):
        block(x).sum().backward()
    assert seen == {"depthwise": torch.float32, "project": torch.bfloat16}
    block.bfloat16()(x.bfloat16())  # a model that is in bfloat16 as a whole stays there
    assert seen["depthwise"] == torch.bfloat16


def test_the_stem_changes_every_token_but_the_first(tmp_path) -> None:
    checkpoint = make_tiny_model(tmp_path / "c", stem=True)
    model = start(StartSettings(str(checkpoint), max_tiles=1), TrainableSettings("full", "full"), 2)
    embeddings = model.backbone.model.vision_tower.embeddings
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        nn.init.normal_(embeddings.stem.projection.weight)
        before = embeddings(pixels)
        embeddings.stem.projection.weight.zero_()
        changed = (embeddings(pixels) - before).abs().amax(-1)
    assert (changed[:, 0] == 0).all()
    assert (changed[:, 1:] > 1e-3).all()


@pytest.mark.parametrize(("kernel", "stride", "side"), [(3, 1, 8), (3, 2, 8), (5, 1, 8), (5, 2, 8)])
def test_padding_is_tensorflows(kernel, stride, side) -> None:
    """SAME: ceil(side / stride) outputs, and where the padding is odd the greater half to the right and below."""
    conv = SameConv(1, 1, kernel, stride)
    x = torch.randn(1, 1, side, side)
    total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
    padded = F.pad(x, (total // 2, total - total // 2) * 2)
    torch.testing.assert_close(conv(x), F.conv2d(padded, conv.weight, conv.bias, stride))


def test_released_weights_give_the_released_networks_maps(config) -> None:
    """Against the network as released: batch normalisation, and pixels as (x - 127) / 128."""
    torch.manual_seed(0)
    weights: dict[str, torch.Tensor] = {}

    def norm(channels: int, name: str) -> nn.BatchNorm2d:
        layer = nn.BatchNorm2d(channels, eps=1e-3).eval()
        for tensor in (layer.weight, layer.running_var):
            nn.init.uniform_(tensor, 0.5, 2)
        for tensor in (layer.bias, layer.running_mean):
            nn.init.normal_(tensor)
        weights.update({f"{name}.{k}": v for k, v in layer.state_dict().items()})
        return layer

    def conv(like: nn.Conv2d, name: str) -> nn.Conv2d:
        layer = SameConv(
            like.in_channels, like.out_channels, like.kernel_size[0], like.stride[0], like.groups
        )
        assert layer.bias is not None
        nn.init.zeros_(layer.bias)
        weights[f"{name}.weight"] = layer.weight.detach()
        return layer

    stem = Stem(config)
    first, first_norm = conv(stem.first, "_conv_stem"), norm(config.stem_width, "_bn0")
    image = torch.rand(2, 3, 32, 32)
    x = F.relu6(first_norm(first((255 * image - 127) / 128)))
    blocks = [block for stage in stem.stages for block in stage]
    for i, block in enumerate(blocks):
        assert isinstance(block, InvertedResidual)
        name, y = f"_blocks.{i}.", x
        if block.expand is not None:
            layer = conv(block.expand, name + "_expand_conv")
            y = F.relu6(norm(layer.out_channels, name + "_bn0")(layer(y)))
        layer = conv(block.depthwise, name + "_depthwise_conv")
        y = F.relu6(norm(layer.out_channels, name + "_bn1")(layer(y)))
        layer = conv(block.project, name + "_project_conv")
        y = norm(layer.out_channels, name + "_bn2")(layer(y))
        x = x + y if block.skip else y

    load_imagenet_weights(stem, weights, IMAGENET_MEAN, IMAGENET_STD)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    found = F.relu6(stem.first((image - mean) / std))
    for stage in stem.stages:
        found = stage(found)
    # at the edges the two pad with different greys
    inner = (slice(None), slice(None), slice(2, -2), slice(2, -2))
    torch.testing.assert_close(found[inner], x[inner], rtol=1e-3, atol=1e-3)


def test_a_missing_released_tensor_is_an_error(config) -> None:
    with pytest.raises(KeyError, match="_bn0"):
        load_imagenet_weights(
            Stem(config), {"_conv_stem.weight": torch.zeros(8, 3, 3, 3)}, IMAGENET_MEAN, IMAGENET_STD
        )
