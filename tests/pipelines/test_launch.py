"""Two processes under torchrun do what one does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harmonyiqa.pipelines.score import score

SCRIPT = Path(__file__).parents[2] / "scripts" / "score_folder.py"


@pytest.mark.slow
def test_two_processes_give_the_scores_of_one_in_its_order(
    tiny_scorer_folder: Path, pictures: Path, tmp_path: Path
) -> None:
    (pictures / "c.png").write_text("text")
    one, two = tmp_path / "one.csv", tmp_path / "two.csv"
    score([str(pictures)], model=str(tiny_scorer_folder), out=str(one), batch_size=2)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    arguments = [str(pictures), "--model", str(tiny_scorer_folder), "--out", str(two), "--batch_size", "2"]
    done = subprocess.run(
        [*torchrun, str(SCRIPT), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=180,
        check=False,
    )
    assert done.returncode == 1, done.stderr  # c.png failed, as in one process
    assert two.read_bytes() == one.read_bytes()
    assert done.stdout.count("6 scored, 1 failed") == 1  # only the first process prints
