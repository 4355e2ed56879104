# Everything that a person does with this checkout. Needs make and Python 3.11 to 3.13.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTEST_ARGS ?=
# Two workers suit two cores; the broker is shared between them.
PYTEST_WORKERS ?= 2
PIP_COMPILE = .venv-lock/bin/pip-compile --quiet --generate-hashes --strip-extras --no-header \
	--no-emit-index-url --no-emit-find-links --no-emit-trusted-host --allow-unsafe

.PHONY: chromium help install venv demo test test-core mutants lint format check bench faults compiled \
	lock clean

help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## Make .venv with everything pinned (does nothing when up to date)

venv: install ## The same as install

$(STAMP): requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; (3, 11) <= sys.version_info < (3, 14) or sys.exit( \
		f"Flowstate needs Python 3.11 to 3.13; {sys.executable} is {sys.version.split()[0]}." \
		" Try: make PYTHON=/path/to/python3.12")'
	@echo "Installing into $(VENV) (the first time takes a minute or two) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--require-hashes -r requirements-dev.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--no-deps --no-build-isolation -e .
	@touch $@

demo: $(STAMP) ## Run the whole system on this machine (KILL=decide kills that role, SEED=7)
	@$(BIN)/flowstate demo $(if $(KILL),--kill $(KILL)) $(if $(SEED),--seed $(SEED))

test: $(STAMP) ## All tests but the fault runs, with a real broker
	@$(BIN)/python -m pytest -n $(PYTEST_WORKERS) --dist loadgroup -m "not faults or faults_short" $(PYTEST_ARGS)

chromium: ## Install Chromium for the browser tests, where this machine lets us (Debian, as root)
	@command -v chromium >/dev/null 2>&1 || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null \
		&& { apt-get -qq update; DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes \
		--no-install-recommends chromium fonts-dejavu-core >/dev/null; }; } \
		|| echo "No Chromium here, and none could be installed: browser tests will be skipped."

test-core: $(STAMP) ## The decision core alone: pure, seconds
	@$(BIN)/python -m pytest tests/core $(PYTEST_ARGS)

mutants: $(STAMP) ## Break the core on purpose and see its tests notice (MINUTES=30 SEED=1)
	@$(BIN)/python -m tests.mutants --minutes $(or $(MINUTES),30) --seed $(or $(SEED),1)

lint: $(STAMP) ## Lint and formatting, changing nothing
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: $(STAMP) ## Format, and mend what the linter can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

check: lint ## What must pass before a change: format, types, lint, tests
	@$(BIN)/mypy
	@$(MAKE) --no-print-directory test

bench: $(STAMP) ## Measure throughput and latency, hours (BENCH="--quick decide": a look)
	@$(BIN)/python -m benchmarks $(BENCH)

faults: $(STAMP) ## Kill, stop and damage things, then check the ledgers (SEED=7, ONLY=2, FRESH=1)
	@$(if $(SEED),SEED=$(SEED)) $(if $(ONLY),ONLY=$(ONLY)) $(if $(FRESH),,RESUME=1) \
		$(BIN)/python -m pytest -n 2 --dist loadgroup -m faults tests/faults $(PYTEST_ARGS)

compiled: $(STAMP) ## Compile rules, sinks and codec into build/compiled (run with PYTHONPATH=build/compiled)
	@rm -rf build/compiled && mkdir -p build/compiled
	@cp -r streams schemas flowstate.toml build/compiled/
	@deploy/compile.sh build/compiled $(BIN)/mypyc
	@cd build/compiled && PYTHONPATH=. $(abspath $(BIN))/python -c \
		'import streams.core.decide as rules; print("compiled:", rules.__file__)'

lock: ## Pin everything again: both requirements files and Kafka's jars
	@test -x .venv-lock/bin/pip-compile || { $(PYTHON) -m venv .venv-lock && \
		.venv-lock/bin/pip install --quiet pip-tools; }
	@$(PIP_COMPILE) -o requirements.lock requirements.in
	@$(PIP_COMPILE) -o requirements-dev.lock requirements-dev.in
	@$(MAKE) --no-print-directory install
	@$(BIN)/python -m streams.local.jars

clean: ## Remove the venv, caches and what runs left behind
	@rm -rf $(VENV) .venv-lock .flowstate build dist .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
