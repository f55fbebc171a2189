"""``harmonyiqa score`` for launchers: every process scores its share, the first one prints and writes.

accelerate launch --num_processes 4 scripts/score_folder.py PATH... --out scores.csv
torchrun --nproc_per_node 2 scripts/score_folder.py PATH... --out scores.csv

The arguments are those of ``harmonyiqa score``; without a launcher it is the same command.
"""

import sys

from harmonyiqa.cli import main

if __name__ == "__main__":
    sys.exit(main(["score", *sys.argv[1:]]))
