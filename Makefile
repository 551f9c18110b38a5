# Pomona. `make help` lists the targets; every target sets up what it needs in .venv first.
SHELL := /bin/sh
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys,venv,ensurepip; sys.exit(not (3,11) <= sys.version_info[:2] < (3,14))' >/dev/null 2>&1 && { echo $$p; break; }; done)
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# The CPU build where the index offers one under this pin; installed before anything that depends on it.
TORCH ?= torch==2.13.0
# More than the cores: tests of sockets, brokers and processes wait for much of their time.
WORKERS ?= 3
DATA ?=
export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help demo test check lint bench bench-full soak interop train setup-box setup-dev clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 to 3.13 with venv is needed (Debian: apt install python3-venv)" >&2; exit 1; }
	@echo "creating $(VENV) with $(PYTHON)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.box: pyproject.toml | $(VENV)/bin/python
	@echo "installing the box (a minute, once)"
	@$(PIP) --editable '.[demo]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	@echo "installing the box, the trainer and the development tools (some minutes, once)"
	@$(BIN)/python -c 'import torch' 2>/dev/null || $(PIP) '$(TORCH)'
	@$(PIP) --editable '.[demo,trainer,dev]'
	@touch $@ $(VENV)/.box

setup-box: $(VENV)/.box  ## install what a box and the demo need
setup-dev: $(VENV)/.dev  ## install everything for development

demo: $(VENV)/.box  ## three shops of one company and their network; DATA=FILE.csv.gz replays real sales in shadow
	@command -v mosquitto >/dev/null 2>&1 || test -x /usr/sbin/mosquitto || echo "mosquitto is not installed: using the embedded broker (Debian: apt install mosquitto)"
	@$(BIN)/pomona demo $(if $(DATA),--data '$(DATA)')

lint: $(VENV)/.dev  ## format, lint and types
	@$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy

check: lint  ## lint and the fast tests
	@$(BIN)/pytest -q -n $(WORKERS) -m 'not soak and not interop and not system'

test: $(VENV)/.dev  ## the whole test suite but the soak and Node interop
	@command -v mosquitto >/dev/null 2>&1 || test -x /usr/sbin/mosquitto || echo "mosquitto is not installed: its tests will say that they were skipped (Debian: apt install mosquitto)"
	@$(BIN)/pytest -n $(WORKERS) -m 'not soak and not interop'

# Installed anew only when a lock file changed.
tests/interop/node_modules/.package-lock.json: tests/interop/package-lock.json
	@command -v npm >/dev/null 2>&1 || { echo "Node 20 with npm is needed (Debian: apt install nodejs npm)" >&2; exit 1; }
	@cd tests/interop && npm ci --no-audit --no-fund --silent && touch node_modules/.package-lock.json

tests/interop/oldest/node_modules/.package-lock.json: tests/interop/oldest/package-lock.json
	@command -v npm >/dev/null 2>&1 || { echo "Node 20 with npm is needed (Debian: apt install nodejs npm)" >&2; exit 1; }
	@cd tests/interop/oldest && npm ci --no-audit --no-fund --silent && touch node_modules/.package-lock.json

STOCK := tests/interop/node_modules/.package-lock.json tests/interop/oldest/node_modules/.package-lock.json

interop: $(VENV)/.dev $(STOCK)  ## compare with stock Node peers (Node 20; pinned npm packages); LONG=1 for the long cases
	@$(BIN)/pytest -m 'interop$(if $(LONG),, and not soak)' $(if $(LONG),--timeout 1800) tests/interop

bench: $(VENV)/.dev  ## measure against the peers in the same run; writes build/bench.json (15 minutes at most)
	@$(BIN)/python tests/benchmarks/run.py --out build/bench.json

bench-full: $(VENV)/.dev  ## the same, cores of a million blocks, and the learning benchmarks
	@$(BIN)/python tests/benchmarks/run.py --full --out build/bench.json

soak: $(VENV)/.dev  ## the millions: crash states, policy outputs, kills (tens of minutes)
	@$(BIN)/pytest -n $(WORKERS) -m 'soak and not interop' --timeout 3600
	@for script in tests/sim/soak_guard.py tests/sim/soak_attackers.py tests/sim/soak_fuzz.py tests/sim/storage/soak_crash.py tests/system/soak_kills.py; do \
		echo "== $$script"; $(BIN)/python $$script || exit 1; done

train: $(VENV)/.dev  ## train the policy that the box ships with and compare it with the one in the repository
	@$(BIN)/pomona-trainer train

clean:  ## remove what was built
	@rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
