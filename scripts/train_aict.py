"""The harmonizer AICT, by foreground-normalised squared error.

    accelerate launch scripts/train_aict.py --config configs/aict_iharmony4.yaml [--any.setting value] [--resume]

The same settings and the same code as `harmonyiqa train`.
"""

import sys

from harmonyiqa.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
