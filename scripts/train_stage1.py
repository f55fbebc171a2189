"""Stage 1: the score sentence, by cross-entropy.

    accelerate launch scripts/train_stage1.py --config configs/tiny_stage1.yaml [--any.setting value] [--resume]

The same settings and the same code as `harmonyiqa train`.
"""

import sys

from harmonyiqa.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:], "--only_stage", "1"]))
