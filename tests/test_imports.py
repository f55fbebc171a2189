"""Imports run downward only, so that any room can be read knowing nothing of those above it."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "harmonyiqa"
# top to bottom; what stands on one line is one floor and may not see its neighbours
FLOORS = [
    ["cli"],
    ["serve", "rate"],
    ["pipelines"],
    ["report"],
    ["evaluate"],
    ["baselines"],
    ["scoring"],
    ["train"],
    ["model", "harmonize"],
    ["synthesize"],
    ["data"],
    ["color"],
    ["metrics"],
    ["prompts"],
    ["images"],
    ["config"],
    ["files", "network"],
    ["errors"],
]
FLOOR_OF = {room: depth for depth, rooms in enumerate(FLOORS) for room in rooms}


def _rooms_imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            names = [node.module]
        found |= {n.split(".")[1] for n in names if n.startswith("harmonyiqa.")}
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_run_downward(path: Path) -> None:
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if room == "__init__":
        return  # the public face
    for other in _rooms_imported(path) - {room}:
        assert FLOOR_OF[other] > FLOOR_OF[room], f"{path.name} ({room}) imports {other}, which lies above it"
