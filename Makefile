# Two commands: `make score` and `make test`. The README says what they do without make.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: score test lint types clean

score: .venv/ready
	$(BIN)/harmonyiqa score examples/images --out results/examples_nr.csv --report results/examples_nr.html
	$(BIN)/harmonyiqa score examples/manifest.csv --out results/examples_fr.csv --report results/examples_fr.html

test: .venv/ready-dev lint types
	$(BIN)/python -m pytest

lint: .venv/ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/ready-dev
	$(BIN)/mypy

# constraints.txt names the versions that are tested together; without it pip takes the newest of everything
.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/ready-dev: .venv/ready
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv results build dist
