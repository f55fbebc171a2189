"""The command line as a user types it."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from harmonyiqa import cli
from harmonyiqa.config import AictOptimSettings, OptimSettings
from harmonyiqa.pipelines import score

ROOT = Path(__file__).parents[1]


def test_the_overview_lists_every_command(capsys) -> None:
    assert cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in cli.COMMANDS)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_help_from_its_signature(name, capsys) -> None:
    assert cli.main([*name.split(), "--help"]) == 0
    assert f"harmonyiqa {name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["scoer"], "no command 'scoer'"),
        (["data", "merge"], "no command 'data merge'"),
        (["score", "x.jpg", "--colour", "red"], "colour"),
        (["score", "nowhere"], "nowhere"),
        (["train", "--config", "nowhere.yaml"], "nowhere.yaml"),
        (["train", "--config", "configs/tiny_stage1.yaml", "--optim.lr", "1"], "optim.lr"),
        (["train", "--config", "configs/tiny_stage1.yaml", "--optim.epochs", "-1"], "epochs"),
        (["train", "--config", "configs/tiny_stage1.yaml", "--data.manifest", "no.csv"], "no.csv"),
        (
            ["train", "--config", "configs/tiny_stage1.yaml", "--resume", "--data.manifest", "no.csv"],
            "no.csv",
        ),
        (["train", "--config", "configs/aict_tiny.yaml", "--resume", "--data.manifest", "no.csv"], "no.csv"),
    ],
)
def test_wrong_usage_is_status_2_and_names_the_word(words, said, capsys, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    assert cli.main(words) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        (["--no_reference"], True),
        (["--no-reference"], True),
        (["--no_reference", "true"], True),
        (["--no_reference", "false"], False),
        ([], False),
    ],
)
def test_a_flag_may_stand_alone(words, asked, monkeypatch) -> None:
    given = []

    def source(paths, reference, *, no_reference, **_):
        given.append((paths, no_reference))
        raise ZeroDivisionError

    monkeypatch.setattr(score, "Source", source)
    with pytest.raises(ZeroDivisionError):
        cli.run("score", ["a.jpg", *words, "--batch_size", "2"])
    assert given == [(["a.jpg"], asked)]


def test_help_and_import_load_no_torch() -> None:
    code = (
        "import sys, harmonyiqa, harmonyiqa.cli\n"
        "harmonyiqa.cli.main(['--help'])\n"
        "heavy = {'torch', 'transformers', 'datasets', 'scipy', 'skimage', 'pandas'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("module", sorted({c.function.partition(":")[0] for c in cli.COMMANDS.values()}))
def test_a_commands_module_loads_no_torch(module) -> None:
    code = f"import sys, {module}\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda p: p.name)
def test_every_shipped_config_parses_and_names_its_command(path) -> None:
    words = ["--config", str(path)]
    parser, _ = cli._train_parser("train", cli.COMMANDS["train"], test_help_and_import_load_no_torch, words)
    settings = parser.instantiate(parser.parse_args(["--config", str(path)]))
    assert settings.stage == yaml.safe_load(path.read_text())["stage"]
    header = [line for line in path.read_text().splitlines() if line.startswith("#")]
    command = f"scripts/train_stage{settings.stage}.py --config configs/{path.name}"
    if path.name.startswith("bundled"):
        command = "python scripts/train_bundled.py PHOTOS"
    elif settings.stage == "aict":
        command = f"scripts/train_aict.py --config configs/{path.name}"
    assert any(command in line for line in header)
    assert isinstance(settings.optim, AictOptimSettings if settings.stage == "aict" else OptimSettings)


def test_a_shipped_config_is_found_by_name(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert (
        Path(cli.find_config("tiny_stage1.yaml")).read_text()
        == (ROOT / "configs/tiny_stage1.yaml").read_text()
    )
    assert cli.find_config("mine.yaml") == "mine.yaml"
    assert cli.main(["train", "--config", "tiny_stage1.yaml"]) == 2
    assert "work/tiny/manifest.csv does not exist" in capsys.readouterr().err


def test_the_training_scripts_are_their_stage(capsys) -> None:
    for stage, other in ((1, 2), (2, 1)):
        done = subprocess.run(
            [sys.executable, f"scripts/train_stage{stage}.py", "--config", f"configs/tiny_stage{other}.yaml"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2
        assert f"for stage {other}, this script trains stage {stage}" in done.stderr
