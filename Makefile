# Two commands for a newcomer, `make demo` and `make test`; the rest is for contributors.
# Everything happens in .venv of this checkout: no other environment is touched.

# The first Python from 3.11 on; `make test PYTHON=/path/to/python` names another.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; break; }; done)
# More flags for pip, for example an index of CPU builds of torch (CONTRIBUTING.md).
PIP_FLAGS ?=
# More flags for pytest: `make test PYTEST_FLAGS="-k gates -x"`.
PYTEST_FLAGS ?= -n 2

VENV := .venv
BIN := $(VENV)/bin

# XLA's compilations are kept between commands.
export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/.cache/jax
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS ?= 0.2

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-real lint format clean

help:  ## list these commands
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

demo: $(VENV)/.installed  ## the whole pipeline on a synthetic corpus: no download, no data
	$(BIN)/python -m conkd_jax.train --config=configs/dialogpt_hard.py:demo

test: $(VENV)/.installed-test  ## the default tests
	$(BIN)/python -m pytest $(PYTEST_FLAGS)

test-slow: $(VENV)/.installed-test  ## kills, several processes, training that has to learn
	$(BIN)/python -m pytest $(PYTEST_FLAGS) -m "slow and not real_data"

test-real: $(VENV)/.installed-test  ## tests on the raw files in CONKD_RAW_DIR
	$(BIN)/python -m pytest $(PYTEST_FLAGS) -m real_data

lint: $(VENV)/.installed-test $(VENV)/.installed-lint  ## ruff and pyright
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: $(VENV)/.installed-lint  ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove the environment and the caches; artifacts and runs stay
	rm -rf $(VENV) .cache .pytest_cache .ruff_cache .hypothesis

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed and no python3 here is. \
	Install one, or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# One stamp for each set of packages, older than pyproject.toml when that has changed.
$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install $(PIP_FLAGS) --editable .
	@touch $@

$(VENV)/.installed-test: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install $(PIP_FLAGS) --editable '.[test]'
	@touch $(VENV)/.installed $@

$(VENV)/.installed-lint: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install $(PIP_FLAGS) --editable '.[lint]'
	@touch $(VENV)/.installed $@
