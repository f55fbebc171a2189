"""Put a model on the hub, never without a card that says what it is."""

import re
import tempfile
from pathlib import Path

from huggingface_hub import HfApi

from harmonyiqa.errors import UserError
from harmonyiqa.model.harmonyiqa import HarmonyIQA
from harmonyiqa.model.storage import CARD, save

SECTIONS = ("Intended use", "Data", "Prompt", "Metrics", "Licence", "Limits")


def push(
    model: HarmonyIQA, repo_id: str, *, license: str, private: bool, merge: bool, revision: str | None
) -> str:
    """Save the model aside and upload the folder; see `HarmonyIQA.push_to_hub`."""
    card = complete_card(model.card, license, merged=merge or not model.settings.base)
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder) / "model"
        save(model, saved, merge=merge)
        (saved / CARD).write_text(card, encoding="utf-8")
        hub = HfApi()
        hub.create_repo(repo_id, private=private, exist_ok=True)
        done = hub.upload_folder(
            repo_id=repo_id,
            folder_path=saved,
            revision=revision,
            commit_message=f"HarmonyIQA, stage {model.settings.stage}",
        )
    return str(done)


def complete_card(card: str | None, license: str, *, merged: bool) -> str:
    """The card of a training run with its licence named.

    Args:
        card: what `harmonyiqa train` wrote beside the model.
        license: the hub's name of the licence.
        merged: whether the model is saved whole; the card's line on its layout is made to say so.

    Raises:
        UserError: there is no card, or it lacks a section.
    """
    if card is None:
        raise UserError(
            f"the model has no {CARD}: take the model folder of a training run, or write a card with the sections "
            f"{', '.join(SECTIONS)}"
        )
    missing = [name for name in SECTIONS if not re.search(rf"^## {name}$", card, re.M)]
    if missing:
        raise UserError(f"{CARD} has no section '## {missing[0]}': the hub's readers need it")
    card = re.sub(r"^license: .*$", f"license: {license}", card, count=1, flags=re.M)
    card = re.sub(r"(^## Licence\n\n).*?(?=\n\n## )", rf"\g<1>{license}.", card, flags=re.M | re.S)
    return re.sub(r"^\| layout \|.*$", "| layout | full |", card, flags=re.M) if merged else card
