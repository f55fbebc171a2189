"""Export: merged adapters score the same, and nothing reaches the hub without a complete card."""

from pathlib import Path

import pytest
import torch

from harmonyiqa import HarmonyIQA
from harmonyiqa.config import StartSettings, TrainableSettings
from harmonyiqa.errors import UserError
from harmonyiqa.model import publish
from harmonyiqa.model.storage import start

CARD = """---
library_name: harmonyiqa
license: other
---
# A model

| layout | adapter, on somebody/else |

""" + "\n\n".join(f"## {name}\n\nText of {name}." for name in publish.SECTIONS)


@pytest.fixture
def adapted(bundled) -> HarmonyIQA:
    model = start(StartSettings(), TrainableSettings(), 2).eval()
    torch.manual_seed(1)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_B" in name or "multi_modal_projector" in name:
                p.add_(torch.randn_like(p) * 0.05)
    return model


def test_merged_scores_are_those_of_the_adapters(adapted, noise, tmp_path) -> None:
    before = [adapted.score(noise), adapted.score(noise, reference=noise)]
    adapted.save_pretrained(tmp_path / "merged", merge=True)
    merged = HarmonyIQA.from_pretrained(tmp_path / "merged")
    assert merged.settings.layout == "full"
    assert (merged.adapters, merged.settings.base) == (None, "")
    assert [merged.score(noise), merged.score(noise, reference=noise)] == pytest.approx(before, abs=1e-4)
    plain = HarmonyIQA.from_pretrained()
    assert abs(plain.score(noise) - before[0]) > 1e-2  # the adapters do something
    assert [adapted.score(noise), adapted.score(noise, reference=noise)] == before  # and it stays as it was


class Hub:
    """Stands for the hub's API; keeps what it was given."""

    def __init__(self) -> None:
        Hub.files = {}

    def create_repo(self, repo_id: str, **options: object) -> None:
        Hub.repo = (repo_id, options)

    def upload_folder(self, folder_path: Path, **_: object) -> str:
        Hub.files = {p.name: p.read_bytes() for p in Path(folder_path).iterdir()}
        return "https://hub/somebody/model"


@pytest.mark.parametrize("merge", [False, True])
def test_what_reaches_the_hub_is_the_saved_model_with_its_card(adapted, monkeypatch, merge) -> None:
    monkeypatch.setattr(publish, "HfApi", Hub)
    adapted.card = CARD
    assert adapted.push_to_hub("somebody/model", license="cc-by-nc-4.0", merge=merge).endswith("model")
    assert Hub.repo == ("somebody/model", {"private": True, "exist_ok": True})
    card = Hub.files["README.md"].decode()
    assert card.startswith("---\nlibrary_name: harmonyiqa\nlicense: cc-by-nc-4.0\n---")
    assert "## Licence\n\ncc-by-nc-4.0.\n\n## Limits" in card
    assert ("adapter_model.safetensors" in Hub.files) is not merge
    assert ("model.safetensors" in Hub.files) is merge
    assert ("| layout | full |" in card) is merge
    assert not any(name.endswith((".bin", ".pt", ".py")) for name in Hub.files)


def test_no_model_is_published_without_a_complete_card(adapted, monkeypatch) -> None:
    monkeypatch.setattr(publish, "HfApi", Hub)
    with pytest.raises(UserError, match=r"has no README\.md"):
        adapted.push_to_hub("somebody/model", license="mit")
    adapted.card = CARD.replace("## Data", "## Dates")
    with pytest.raises(UserError, match="no section '## Data'"):
        adapted.push_to_hub("somebody/model", license="mit")
