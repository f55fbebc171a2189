"""Stage 2: the score head, by mean squared error; starts from what stage 1 wrote.

    accelerate launch scripts/train_stage2.py --config configs/tiny_stage2.yaml [--any.setting value] [--resume]

The same settings and the same code as `harmonyiqa train`.
"""

import sys

from harmonyiqa.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:], "--only_stage", "2"]))
