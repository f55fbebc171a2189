"""The wheel works outside the repository: prompts, configs, splits and the bundled model are inside."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_an_unpacked_wheel_scores_without_the_repository(tmp_path: Path, noise) -> None:
    from PIL import Image

    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    Image.fromarray(noise).save(tmp_path / "a.png")
    code = (
        "import harmonyiqa, harmonyiqa.cli as cli, pathlib\n"
        "from harmonyiqa.data.readers.harmonyiqad import read_methods\n"
        "from harmonyiqa.data.split_files import shipped_splits\n"
        "assert str(pathlib.Path(harmonyiqa.__file__)).startswith(SITE), harmonyiqa.__file__\n"
        "assert pathlib.Path(cli.find_config('tiny_stage1.yaml')).is_file()\n"
        "assert (len(read_methods()), len(shipped_splits())) == (9, 20)\n"
        "raise SystemExit(cli.main(['score', 'a.png']))"
    ).replace("SITE", repr(str(tmp_path / "site")))
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "1 scored, 0 failed" in done.stdout
