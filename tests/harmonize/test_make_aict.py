"""`scripts/make_aict.py`: what is stored is what was trained."""

from pathlib import Path

import torch

from harmonyiqa.config import AictSettings
from harmonyiqa.harmonize.network import AICT


def test_the_mean_of_networks_is_that_of_their_weights(load_script, tmp_path: Path) -> None:
    networks = []
    for seed in range(3):
        torch.manual_seed(seed)
        networks.append(AICT(AictSettings(low_resolution=16)))
        networks[-1].save_pretrained(tmp_path / str(seed))
    folders = [str(tmp_path / str(seed)) for seed in range(3)]
    load_script("make_aict").mean(str(tmp_path / "mean"), *folders)
    found = AICT.from_pretrained(tmp_path / "mean")
    assert found.config == networks[0].config
    for name, tensor in found.state_dict().items():
        parts = [network.state_dict()[name] for network in networks]
        assert torch.allclose(tensor.float(), torch.stack(parts).float().mean(0), atol=1e-6), name


def test_a_network_is_shipped_in_half_precision_and_keeps_the_card_that_is_there(
    load_script, tmp_path: Path
) -> None:
    network = AICT(AictSettings(low_resolution=16))
    network.save_pretrained(tmp_path / "run")
    for card in (None, "our card"):
        if card:
            (tmp_path / "out" / "README.md").write_text(card)
        load_script("make_aict").ship(str(tmp_path / "run"), str(tmp_path / "out"))
    assert (tmp_path / "out" / "README.md").read_text() == "our card"
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("run", "out")]
    assert sizes[1] < 0.51 * sizes[0]
    for name, tensor in AICT.from_pretrained(tmp_path / "out").state_dict().items():
        assert torch.allclose(tensor.float(), network.state_dict()[name].float(), atol=2e-3), name
