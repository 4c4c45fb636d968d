# `make help` lists what there is.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Published data kept beside the checkout are read in place.
ifndef RSACOMPARE_DATA
ifneq ($(wildcard ../shared/data/.),)
export RSACOMPARE_DATA := $(abspath ../shared/data)
endif
endif

# Workers are processes or threads of ours; each keeps to one BLAS thread.
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1
PYTEST = $(ONE_THREAD) $(BIN)/pytest
PAGES := reports/demo/index.html reports/kriegeskorte92/index.html

.PHONY: help
help:  ## this list
	@awk -F':.*## ' '/^[a-zA-Z0-9_\/.-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: report
report: $(VENV)/.installed  ## install, run the demo and the real study, say where the pages are
	$(BIN)/rsacompare demo --out reports/demo
	$(BIN)/rsacompare run analyses/kriegeskorte92.toml --out reports/kriegeskorte92 --if-available
	@echo; echo "Pages:"
	@for page in $(PAGES); do [ -f "$$page" ] && echo "  $(CURDIR)/$$page" || true; done

.PHONY: test
test: $(VENV)/.installed-test check  ## install what tests need, check style and types, run the fast tests
	$(PYTEST) -q -n 2 -m "not slow"

.PHONY: test-slow
test-slow: $(VENV)/.installed-test  ## the long tests: calibration and full sizes
	$(PYTEST) -q -n 2 --dist loadfile -m slow

.PHONY: studies
studies: $(VENV)/.installed  ## every study in analyses/
	@set -e; for study in analyses/*.toml; do name=$$(basename $$study .toml); \
	  echo "== $$name"; $(BIN)/rsacompare run $$study --out reports/$$name --if-available; done

.PHONY: bench
bench: $(VENV)/.installed-test  ## speed of each kernel against today's best library, under a minute
	$(BIN)/python tests/benchmarks/run.py

.PHONY: bench-full
bench-full: $(VENV)/.installed-test  ## the same at full size
	$(BIN)/python tests/benchmarks/run.py --full

.PHONY: calibration
calibration: $(VENV)/.installed-test  ## false-positive rates, coverage and power, 1000 simulations a row: one to two hours on two cores; resumes
	$(ONE_THREAD) $(BIN)/python analyses/calibration.py --simulations 1000 --jobs 2 --out reports/calibration

.PHONY: format
format: $(VENV)/.installed-test  ## rewrite the code in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: check
check: $(VENV)/.installed-test  ## style, types and import order; changes nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: clean
clean:  ## remove the environment and all caches; reports stay
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

data/README.md: rsacompare/datasets/registry.txt rsacompare/datasets/registry.py | $(VENV)/.installed-test  ## list of the data files, from the registry
	$(BIN)/python -m rsacompare.datasets.registry > $@

# -- environment: made once, installed again when pyproject.toml changes ---------------------------

$(VENV)/.made:
	@command -v $(PYTHON) > /dev/null || { \
	  echo "There is no $(PYTHON) here; rsacompare needs Python 3.11 or newer. If it has another name: make PYTHON=python3.12 …"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "rsacompare needs Python 3.11 or newer, but $(PYTHON) is $$($(PYTHON) --version 2>&1); if a newer one is installed: make PYTHON=python3.12 …"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2> /dev/null || { \
	  echo "$(PYTHON) cannot make virtual environments; install its venv module (Debian, Ubuntu: apt install python3-venv)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: pyproject.toml | $(VENV)/.made
	@echo "Installing into $(VENV), TensorFlow included: 0.6 GB to download, one to three minutes, this once"
	@$(BIN)/python -m pip install --quiet --editable '.[networks]' || { \
	  echo "Not installed with TensorFlow; going on without it (needed only to run networks, not to read activations)"; \
	  $(BIN)/python -m pip install --quiet --editable .; }
	@touch $@

$(VENV)/.installed-test: pyproject.toml | $(VENV)/.made
	@echo "Installing into $(VENV) what the tests need, TensorFlow and torch included: 0.8 GB to download, two to four minutes, this once"
	@$(BIN)/python -m pip install --quiet --editable '.[test]'
	@touch $@
