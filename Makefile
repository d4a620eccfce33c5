# The two commands of a newcomer: `make demo` and `make test`. Everything else is for contributors.
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test lint format clean

# The marker is written last, so that an interrupted install starts again.
$(VENV)/.installed: pyproject.toml constraints.txt
	command -v $(PYTHON) >/dev/null || { echo "fivenines needs Python 3.11 or newer: make PYTHON=python3 ..."; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(VENV)/.installed  ## the whole path on storyworld: a table, and runs in demo/ with one HTML report
	$(BIN)/fivenines demo demo

test: $(VENV)/.installed  ## every test; pytest prints its closing line last
	$(BIN)/python -m pytest

lint: $(VENV)/.installed  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf demo build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
