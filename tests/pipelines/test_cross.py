"""Train on one set, test on another: every pair once, each step once."""

from pathlib import Path

import pytest
import yaml

from harmonyiqa.data.manifest import read_manifest, relocated, write_manifest
from harmonyiqa.errors import UserError
from harmonyiqa.pipelines import cross as module
from harmonyiqa.pipelines.cross import cross
from harmonyiqa.report.tables import read_results


@pytest.fixture
def stage(tmp_path: Path, tiny_checkpoint: Path) -> str:
    settings = {
        "stage": 2,
        "out": "replaced",
        "start": {"model": str(tiny_checkpoint), "max_tiles": 1},
        "data": {"manifest": "replaced.csv", "workers": 0},
        "optim": {"batch_size": 16, "precision": "fp32", "gradient_checkpointing": False},
        "max_steps": 2,
    }
    (tmp_path / "stage2.yaml").write_text(yaml.safe_dump(settings))
    return str(tmp_path / "stage2.yaml")


@pytest.fixture
def sets(tmp_path: Path, grey_manifest: Path) -> dict[str, str]:
    whole = read_manifest(grey_manifest)
    paths = {}
    for name, rows in (("live", slice(None)), ("csiq", slice(0, 24))):
        path = tmp_path / f"{name}.csv"
        write_manifest(relocated(whole, path)[rows], path)
        paths[name] = str(path)
    return paths


@pytest.mark.slow
def test_one_command_trains_tests_and_prints_and_goes_on_where_it_stopped(
    tmp_path: Path, stage: str, sets: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    out = tmp_path / "cross"
    arguments = ([sets["live"]], [sets["live"], sets["csiq"]], [stage], str(out))
    assert cross(*arguments, bootstrap=20) == 0
    printed = capsys.readouterr().out
    assert "| LIVE -> CSIQ | harmonyiqa " in printed
    assert "LIVE -> LIVE" not in printed
    found = [each for each in read_results(out / "cross.json") if each.predictor == "harmonyiqa"]
    assert [(each.subset, each.images) for each in found] == [("LIVE -> CSIQ", 24)]
    assert (out / "live" / "stage2" / "model" / "README.md").exists()

    monkeypatch.setattr("harmonyiqa.pipelines.train.train", lambda *_, **__: pytest.fail("trained twice"))
    monkeypatch.setattr("harmonyiqa.pipelines.evaluate.load_model", lambda *_: pytest.fail("scored twice"))
    assert cross(*arguments, bootstrap=20) == 0
    assert printed.endswith(capsys.readouterr().out)

    Path(sets["live"]).write_text(Path(sets["live"]).read_text() + "\n")
    Path(stage).write_text(Path(stage).read_text().replace("max_steps: 2", "max_steps: 3"))
    with pytest.raises(UserError, match=r"another max_steps, the content of .*live.csv: remove it"):
        cross(*arguments)


@pytest.mark.parametrize(
    ("train", "test", "stages", "message"),
    [
        (["live"], ["live"], ["tiny_stage2.yaml"], "sets live are trained and tested on alone"),
        (["live"], ["csiq"], ["nowhere.yaml"], "stage nowhere.yaml does not exist"),
        (["live"], ["csiq"], ["bad.yaml"], "stage bad.yaml: .*epochs"),
        (["live"], ["csiq"], ["tiny_stage2.yaml"] * 2, "stages: two files are for stage 2"),
        (["live"], ["csiq", "csiq"], ["tiny_stage2.yaml"], "set 'csiq' is given twice"),
        (["csiq"], ["live"], ["tiny_stage2.yaml"], "no row of split 'val'"),
    ],
)
def test_wrong_use_is_said_before_any_training(
    tmp_path: Path, sets: dict[str, str], monkeypatch, train, test, stages, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.yaml").write_text("stage: 2\nout: x\ndata: {manifest: m.csv}\noptim: {epochs: -1}\n")
    monkeypatch.setattr(module, "_train", lambda *_: pytest.fail("trained"))
    with pytest.raises(UserError, match=message):
        cross([sets[name] for name in train], [sets[name] for name in test], stages, "out")
