# make sweep and make test set up everything on a machine with Python 3.11-3.13 and make, and run.
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo $$p && break; done)

.PHONY: sweep test test-all test-faults lint bench paper lock clean help

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

sweep: $(VENV)/.installed  ## the headline sweep: trains, draws the figures, prints the table
	$(BIN)/goldfish reproduce forgetting

test: lint  ## linters and the tests that protect a change, in a few minutes
	$(BIN)/pytest -m 'not slow and not faults'

test-all: lint  ## linters and all tests; of the fault injection the fast part
	$(BIN)/pytest

test-faults: $(VENV)/.installed  ## what takes long: all of the fault injection, every CUDA kernel under sanitizers; an hour or more
	$(BIN)/pytest -m 'not sample' tests/faults tests/test_security.py
	$(BIN)/pytest -m faults tests/engines tests/benchmarks

lint: $(VENV)/.installed  ## ruff and mypy
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

bench: $(VENV)/.installed  ## this project beside its peers, into benchmarks/results, then docs/performance_table.md
	$(BIN)/goldfish bench --update-results
	$(BIN)/goldfish bench --render

# Python compiles a module when it is first imported; to compile all of them at once takes as long as all else.
$(VENV)/.installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "goldfish needs Python 3.11, 3.12 or 3.13; none found (set PYTHON=…)"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt --editable '.[dev]'
	touch $@

paper: $(VENV)/.installed  ## every figure, caption and verdict in one PDF, from the results that are kept
	$(BIN)/goldfish paper

# By hand, after a change of dependencies. What is pinned stays pinned where it still fits; UPGRADE=--upgrade takes the
# newest of everything.
lock:  ## write constraints.txt anew: one set of versions for every Python and platform
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile --quiet --no-config --no-python-downloads \
		--python $(BIN)/python --python-version 3.11 --universal --all-extras --no-annotate $(UPGRADE) \
		pyproject.toml --output-file constraints.txt

clean:  ## remove the environment and the caches; keeps mlruns, mlflow.db and outputs
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache build dist
