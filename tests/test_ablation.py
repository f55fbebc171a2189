"""Five rows are trained as the paper's table IV has them; what is finished is not trained again."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

from harmonyiqa.errors import UserError

CONFIG = """
stage: {stage}
out: unused
start: {{model: {model}, max_tiles: 1}}
data: {{manifest: {manifest}, mode: nr, workers: 0}}
optim: {{learning_rate: 0.01, batch_size: 8, precision: fp32, gradient_checkpointing: false}}
validation: {{max_images: 4}}
"""


@pytest.fixture
def ablation(load_script):
    return load_script("run_ablation")


@pytest.mark.slow
def test_five_rows_resuming(ablation, bundled, grey_manifest, tmp_path, monkeypatch, capsys) -> None:
    for stage in (1, 2):
        text = CONFIG.format(stage=stage, model="bundled", manifest=grey_manifest)
        (tmp_path / f"{stage}.yaml").write_text(text)
    arguments = (str(tmp_path / "1.yaml"), str(tmp_path / "2.yaml"), str(tmp_path / "runs"))
    trained = []
    train = ablation.train
    monkeypatch.setattr(
        ablation,
        "train",
        lambda run, resume: (trained.append((Path(run.out).name, resume)), train(run, resume)),
    )
    # the sentences of a model that learned for one step hold no score: those rows say so in the table
    monkeypatch.setattr(
        "harmonyiqa.prompts.Prompt.parse_score", lambda self, sentence: float(len(sentence) % 97)
    )
    ablation.main(*arguments, max_steps=1, bootstrap=10)
    shown = (tmp_path / "runs/ablation.md").read_text()
    assert capsys.readouterr().out.endswith(shown)
    assert [name for name, _ in trained] == [name.lower().replace(" ", "_") for name in ablation.ROWS]
    assert all(f"| {name} " in shown for name in ablation.ROWS)
    runs = tmp_path / "runs"

    def adapted(name: str) -> set[str]:
        tensors = load_file(runs / name / "model/adapter_model.safetensors")
        return {part for part in ("vision_tower", "language_model") if any(f".{part}." in n for n in tensors)}

    assert adapted("lora_vision") == {"vision_tower"}
    assert adapted("lora_llm") == {"language_model"}
    assert adapted("all_and_score_head") == {"vision_tower", "language_model"}
    table = json.loads((runs / "ablation.json").read_text())
    assert [r["predictor"] for r in table["results"]] == list(ablation.ROWS)

    trained.clear()
    (runs / "lora_llm/probes.json").unlink()  # as if cut at its end
    ablation.main(*arguments, max_steps=1, bootstrap=10)
    assert trained == [("lora_llm", True)]
    assert (runs / "ablation.md").read_text() == shown
    with pytest.raises(UserError, match="lora_vision was trained with another max_steps"):
        ablation.main(*arguments, max_steps=2, bootstrap=10)


def test_each_row_differs_from_the_last_by_one_part(ablation) -> None:
    rows = list(ablation.ROWS.values())
    assert rows[2] == (1, "lora", "lora", False)
    assert rows[3] == (*rows[2][:3], True)
    assert rows[4] == (2, *rows[3][1:])
