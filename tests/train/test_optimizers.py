"""Which weights Muon takes, and that its steps are those of torch's own Muon and AdamW."""

from pathlib import Path

import pytest
import torch
from torch import nn

from harmonyiqa.model.backbone import load_backbone
from harmonyiqa.model.tiny import make_tiny_model
from harmonyiqa.train.optimizers import muon


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Linear(24, 32)
        self.pointwise = nn.Conv2d(32, 16, 1)
        self.depthwise = nn.Conv2d(32, 32, 5, groups=32)
        self.head = nn.Linear(32, 1)
        self.words = nn.Embedding(40, 32)
        self.rests = nn.Linear(32, 32).requires_grad_(False)


def test_matrices_go_to_muon_and_the_rest_to_adamw() -> None:
    model = Small()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    optimizer = muon(model, learning_rate=1e-3, weight_decay=0.1, decayed=["words.weight", "head.weight"])
    groups = [
        ({names[id(p)] for p in group["params"]}, group["use_muon"], group["weight_decay"])
        for group in optimizer.param_groups
    ]
    assert groups == [
        ({"matrix.weight", "pointwise.weight"}, True, 0.1),
        ({"words.weight", "head.weight"}, False, 0.1),
        (
            {"matrix.bias", "pointwise.bias", "depthwise.weight", "depthwise.bias", "head.bias"},
            False,
            0.0,
        ),
    ]


def test_a_tied_head_of_a_language_model_stays_with_adamw(tmp_path: Path) -> None:
    make_tiny_model(tmp_path / "model")
    model = load_backbone(tmp_path / "model", max_tiles=1, dtype=torch.float32).model
    taken = {id(p) for p in muon(model, learning_rate=1e-3).param_groups[0]["params"]}
    assert id(model.get_input_embeddings().weight) not in taken
    assert id(model.get_output_embeddings().weight) not in taken
    assert taken


@pytest.mark.parametrize("name", ["matrix.weight", "head.weight", "matrix.bias"])
def test_steps_are_those_of_torch(name: str) -> None:
    torch.manual_seed(0)
    model, twin = Small(), Small()
    twin.load_state_dict(model.state_dict())
    ours = muon(model, learning_rate=1e-2, weight_decay=0.1, decayed=["head.weight"])
    parameter, other = model.get_parameter(name), twin.get_parameter(name)
    theirs: torch.optim.Optimizer
    if name == "matrix.weight":
        theirs = torch.optim.Muon([other], lr=1e-2, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    else:
        theirs = torch.optim.AdamW([other], lr=1e-2, weight_decay=0.1 if name == "head.weight" else 0)
    before = parameter.detach().clone()
    for _ in range(3):
        parameter.grad = torch.randn_like(parameter)
        other.grad = parameter.grad.clone()
        ours.step()
        theirs.step()
    assert (parameter - before).abs().max() > 1e-3
    torch.testing.assert_close(parameter, other, atol=2e-4, rtol=1e-2)  # Muon computes in bfloat16
