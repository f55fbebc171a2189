"""The commands of the README and of some docs are ones that exist, with options that exist."""

import importlib
import re
import shlex
from pathlib import Path

import pytest

from harmonyiqa import cli

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
LINES = [
    line.split("#")[0].strip()
    for file in ("README.md", "docs/full_size.md", "docs/gpu.md", "docs/serve.md")
    for block in re.findall(r"```bash\n(.*?)```", (ROOT / file).read_text(encoding="utf-8"), re.S)
    for line in block.splitlines()
]


@pytest.mark.parametrize("line", [line for line in LINES if re.match(r"(\.venv/bin/)?harmonyiqa ", line)])
def test_a_command_of_the_readme_parses(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    words = shlex.split(line)[1:]
    name = " ".join(words[:2]) if " ".join(words[:2]) in cli.COMMANDS else words[0]
    command = cli.COMMANDS[name]
    module, _, attribute = command.function.partition(":")
    build = cli._PARSERS.get(name, cli._parser)
    parser, _ = build(name, command, getattr(importlib.import_module(module), attribute))
    parser.parse_args(words[len(name.split()) :])  # exits on an unknown word


@pytest.mark.parametrize("line", [line for line in LINES if "scripts/" in line])
def test_a_script_of_the_readme_exists_with_its_config(line: str) -> None:
    for word in shlex.split(line):
        if word.startswith(("scripts/", "configs/")):
            assert (ROOT / word).is_file(), word


def test_make_does_what_the_readme_says() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for line in LINES:
        if line.startswith(".venv/bin/harmonyiqa score"):
            assert line.replace(".venv/bin", "$(BIN)") in makefile, line
    assert "make test" in (ROOT / ".ci/run").read_text(encoding="utf-8")
    assert "make test" in LINES


def test_the_tree_names_every_room_and_no_other() -> None:
    tree = README.split("```\nharmonyiqa/\n")[1].split("```")[0]
    named = {m[1].rstrip("/") for m in re.finditer(r"^  (\S+) ", tree, re.M)}
    rooms = {p.name for p in (ROOT / "harmonyiqa").iterdir() if not p.name.startswith("_")}
    assert named == rooms - {"errors.py", "files.py", "py.typed"}
