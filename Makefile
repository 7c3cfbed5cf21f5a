# Newcomers need two commands, `make demo` and `make test`; the others are for contributors.
# All of them use the environment .venv in this checkout and change no other.

# The first Python of version 3.11 or newer; `make test PYTHON=/path/to/python` uses another.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; break; }; done)
# Additional flags for pip, for example an index with CPU builds of torch (CONTRIBUTING.md).
PIP_FLAGS ?=
# Flags for pytest: `make test PYTEST_FLAGS="-k gates -x"`.
PYTEST_FLAGS ?= -n 2

VENV := .venv
BIN := $(VENV)/bin

# Compiled programs are reused by later commands.
export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/.cache/jax
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS ?= 0.2

.DEFAULT_GOAL := help
.PHONY: help demo chat serve test test-slow test-soak test-real test-browser bench docs lint format \
	constraints newest wheel clean

help:  ## list these commands
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

demo: $(VENV)/.installed  ## train and compare a fine-tuned model and ConKD on a synthetic corpus, without any data
	$(BIN)/python -m conkd_jax.demo

chat: $(VENV)/.installed  ## talk to the system that `make demo` trained
	$(BIN)/python -m conkd_jax.chat --workdir=runs/dialogpt_hard-demo-seed0

serve: $(VENV)/.installed-serve  ## open the system that `make demo` trained in a browser
	$(BIN)/python -m conkd_jax.serve --workdir=runs/dialogpt_hard-demo-seed0

test: $(VENV)/.installed-test  ## the default tests
	$(BIN)/python -m pytest $(PYTEST_FLAGS)

test-slow: $(VENV)/.installed-test  ## kills, several processes, training that has to learn
	$(BIN)/python -m pytest $(PYTEST_FLAGS) -m "slow and not real_data"

test-soak: $(VENV)/.installed-test  ## what takes minutes each: hundreds of kills, thousands of steps
	$(BIN)/python -m pytest $(PYTEST_FLAGS) -m "soak and not real_data"

test-real: $(VENV)/.installed-test  ## tests on the raw files in CONKD_RAW_DIR
	$(BIN)/python -m pytest $(PYTEST_FLAGS) -m real_data

test-browser: $(VENV)/.installed-browser  ## the page of conkd-serve in the Chromium of this machine
	$(BIN)/python -m pytest $(PYTEST_FLAGS) -m browser

bench: $(VENV)/.installed-test  ## measure this project beside its peers: half an hour on two idle cores
	$(BIN)/python -m benchmarks

docs: $(VENV)/.installed-docs  ## the documentation as a site, into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

lint: $(VENV)/.installed-test $(VENV)/.installed-lint  ## ruff and pyright
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: $(VENV)/.installed-lint  ## format, and fix what ruff can fix
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

constraints: $(VENV)/.installed-test  ## write constraints.txt: the versions that the tests run with
	$(BIN)/python .ci/constraints.py > constraints.txt.new
	mv constraints.txt.new constraints.txt

# pip warns that these are not the versions that pyproject.toml names: that is what is tried.
newest: $(VENV)/.installed-test  ## replace jax, flax and what belongs to them by their newest releases
	$(BIN)/python -m pip install $(PIP_FLAGS) --upgrade jax jaxlib flax optax orbax-checkpoint \
		chex grain array_record ml_dtypes numpy

wheel: $(VENV)/.installed  ## build dist/: the package as an index gets it, checked
	$(BIN)/python -m pip install $(PIP_FLAGS) build twine
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/python -m twine check --strict dist/*

clean:  ## remove the environment and the caches, but not artifacts and runs
	rm -rf $(VENV) .cache .pytest_cache .ruff_cache .hypothesis

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "expected Python 3.11 or newer, found none. \
	Install one, or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# One stamp for each set of packages: a change of pyproject.toml makes it out of date.
$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install $(PIP_FLAGS) --editable .
	@touch $@

$(VENV)/.installed-serve: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install $(PIP_FLAGS) --editable '.[serve]'
	@touch $(VENV)/.installed $@

$(VENV)/.installed-docs: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install $(PIP_FLAGS) --editable '.[docs]'
	@touch $(VENV)/.installed $@

$(VENV)/.installed-test: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install $(PIP_FLAGS) --editable '.[test]'
	@touch $(VENV)/.installed $(VENV)/.installed-serve $(VENV)/.installed-docs $@

$(VENV)/.installed-browser: pyproject.toml $(VENV)/.installed-test
	$(BIN)/python -m pip install $(PIP_FLAGS) --editable '.[test,browser]'
	@touch $@

$(VENV)/.installed-lint: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install $(PIP_FLAGS) --editable '.[lint]'
	@touch $(VENV)/.installed $@
