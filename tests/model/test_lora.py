"""Which weights learn, for each switch; and that gradient reaches every one of them."""

import pytest
import torch
from PIL import Image

from harmonyiqa.config import LoraSettings, StartSettings, TrainableSettings
from harmonyiqa.errors import UserError
from harmonyiqa.model.harmonyiqa import HarmonyIQA
from harmonyiqa.model.lora import set_trainable
from harmonyiqa.model.storage import start

SWITCHES = [
    TrainableSettings("lora", "frozen", False),
    TrainableSettings("frozen", "lora", False),
    TrainableSettings("lora", "lora", False),
    TrainableSettings("lora", "lora", True),
    TrainableSettings("frozen", "frozen", True),
    TrainableSettings("full", "full", True),
    TrainableSettings("full", "lora", False),
]


def _step(model: HarmonyIQA, noise) -> None:
    picture = Image.fromarray(noise)
    examples = [model.prepare(picture), model.prepare(picture, picture)]
    collate = model.inputs.collate_sentences if model.settings.stage == 1 else model.inputs.collate_scores
    model.train()
    model(**collate(examples, [63.4, 30.0]))["loss"].backward()


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("stage", [1, 2])
@pytest.mark.parametrize("switches", SWITCHES, ids=lambda s: f"{s.vision}-{s.llm}-{s.projector}")
def test_gradient_reaches_every_trainable_tensor(
    tiny_checkpoint, noise, switches, stage, checkpointing
) -> None:
    torch.manual_seed(0)
    model = start(StartSettings(str(tiny_checkpoint), max_tiles=1), switches, stage)
    set_trainable(model, switches, stage)
    if checkpointing:
        model.backbone.gradient_checkpointing_enable({"use_reentrant": False})
    for name, p in model.named_parameters():
        if "lora_B" in name:  # zero at the start, which hides lora_A from the gradient
            torch.nn.init.normal_(p, std=0.02)
    _step(model, noise)
    for name, p in model.named_parameters():
        reached = p.grad is not None and p.grad.abs().sum() > 0
        # softmax does not see a shift of all scores of a query: its key bias has no gradient by nature
        if not name.endswith("k_proj.bias"):
            assert reached == p.requires_grad, name


@pytest.mark.parametrize(
    ("switches", "expected"),
    [
        (TrainableSettings("lora", "frozen", False), {"vision_tower"}),
        (TrainableSettings("frozen", "lora", False), {"language_model"}),
        (TrainableSettings("lora", "lora", False), {"vision_tower", "language_model"}),
    ],
)
def test_each_switch_places_adapters_in_its_tower_only(tiny_checkpoint, switches, expected) -> None:
    model = start(StartSettings(str(tiny_checkpoint), max_tiles=1), switches, 1)
    adapted = {name.split(".")[2] for name, _ in model.named_parameters() if "lora_A" in name}
    assert adapted == expected


def test_adapters_sit_on_every_linear_layer_of_a_block(tiny_checkpoint) -> None:
    model = start(StartSettings(str(tiny_checkpoint), max_tiles=1), TrainableSettings(), 1)
    names = [n for n, _ in model.named_parameters() if "lora_A" in n and ".0." in n]
    layers = {n.rpartition(".lora_A")[0].rpartition(".")[2] for n in names}
    assert layers == {
        *("q_proj", "k_proj", "v_proj", "projection_layer", "fc1", "fc2"),
        *("o_proj", "gate_proj", "up_proj", "down_proj"),
    }


def test_rank_and_scale_are_the_settings(tiny_checkpoint) -> None:
    lora = LoraSettings(rank=3, alpha=12)
    model = start(StartSettings(str(tiny_checkpoint), max_tiles=1), TrainableSettings(lora=lora), 1)
    a = next(p for n, p in model.named_parameters() if "lora_A" in n)
    assert a.shape[0] == 3
    assert model.backbone.model.language_model.layers[0].self_attn.q_proj.scaling["default"] == 4


def test_nothing_to_train_is_refused(tiny_checkpoint) -> None:
    switches = TrainableSettings("frozen", "frozen", False)
    model = start(StartSettings(str(tiny_checkpoint), max_tiles=1), switches, 1)
    with pytest.raises(UserError, match="nothing to train"):
        set_trainable(model, switches, 1)
