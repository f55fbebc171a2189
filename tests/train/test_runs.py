"""What the trainings share beside the Trainer."""

import os
import subprocess
import sys

import pytest

# grows by 200 MB, gives it back, and says how much of that the process still has
SCRIPT = """
import torch
from harmonyiqa.train.runs import keep_memory
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1])
if {keep}:
    keep_memory()
before = resident()
tensor = torch.ones(200 * 2**18)
grown = resident() - before
del tensor
print((resident() - before) / grown)
"""


@pytest.mark.skipif(
    sys.platform != "linux" or "glibc" not in os.confstr("CS_GNU_LIBC_VERSION"), reason="glibc on Linux"
)
@pytest.mark.parametrize("keep", [False, True])
def test_memory_of_large_tensors_is_kept_when_asked(keep: bool) -> None:
    printed = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(keep=keep)], capture_output=True, text=True, check=True
    ).stdout
    kept = float(printed)
    assert kept > 0.9 if keep else kept < 0.1
