# Everything that a checkout needs: Python 3.11+ with venv, and a package index. No root, no container, no Redis.
# A target sets up what it uses: .venv is made once and brought up to date when pyproject.toml or the lock changes.

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
SEED ?=
RATE ?=
MINUTES ?= 3
SERVER ?= valkey
BIN := $(VENV)/bin
STAMP := $(VENV)/.handoff-installed
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input

.DEFAULT_GOAL := help
.PHONY: help run soak test long crash lint bench rolling chaos matrix fuzz lock setup

help: ## show this table
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

run: $(STAMP) ## start everything here (server, ingress, worker), send sample events, show what becomes of them
	@$(BIN)/handoff dev $(ARGS)

# Three processes, for many tests wait, each with servers of its own and whole files at a time;
# one that dies is not replaced, for xdist would wait for ever. ARGS="-n0" is one process.
test: $(STAMP) ## run every test; ARGS="-k name" for some
	@$(BIN)/python -m pytest -n3 --dist=loadfile --no-loadscope-reorder --max-worker-restart=0 $(ARGS)

long: $(STAMP) ## the tests that show more of the same, and take too long for each time
	@$(BIN)/python -m pytest -n2 --dist=loadfile --max-worker-restart=0 -m long $(ARGS)

# The short form of it is part of `make test`.
crash: $(STAMP) ## kill a process at every named point in turn, each time it comes to it; some minutes
	@CRASH_EVERY=1 $(BIN)/python -m pytest -n2 --dist=loadfile tests/unit/test_crash_points.py \
		$(wildcard tests/integration/test_crash_*.py) tests/property/test_crash_lives.py $(ARGS)

lint: $(STAMP) ## ruff (rules and format) and mypy
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet || { echo "some files are not formatted: $(BIN)/ruff format" >&2; exit 1; }
	@$(BIN)/mypy

fuzz: $(STAMP) ## bad input for MINUTES= (10) from SEED= on, to all that reads it
	@MINUTES="$(MINUTES)" SEED="$(SEED)" $(BIN)/python -m tests.fuzz $(ARGS)

bench: $(STAMP) ## measure throughput and latency on this machine
	@$(BIN)/python -m tests.bench $(ARGS)

soak: $(STAMP) ## an hour at RATE=60 events a second with faults, say what grew; MINUTES=5 is a short one
	@$(BIN)/python -m tests.soak $(if $(SEED),--seed $(SEED)) $(if $(RATE),--rate $(RATE)) --server $(SERVER) \
		$(if $(filter command line environment,$(origin MINUTES)),--minutes $(MINUTES)) $(ARGS)

chaos: $(STAMP) ## break everything for MINUTES=3, say which invariants held; SEED= repeats a run, SERVER=redis
	@$(BIN)/python -m tests.chaos $(if $(SEED),--seed $(SEED)) --minutes $(MINUTES) --server $(SERVER) $(ARGS)
rolling: $(STAMP) ## restart every process in turn under load; ARGS="--signal KILL" for crashes
	@$(BIN)/python -m tests.rolling.restarts $(ARGS)

# Every fault of the server, on every pool and kind of server. ARGS="--rounds 1 --fault half-open" is a part of it.
matrix: $(STAMP) ## put workers through every fault of their server, and time how they come back (an hour)
	@$(BIN)/python -m tests.matrix $(ARGS)

setup: $(STAMP) ## make or refresh the virtual environment, nothing else

# --universal: one file for Python 3.11 to 3.13 on Linux and macOS. Nothing of the machine it was made on goes in.
lock: $(STAMP) ## choose the newest allowed versions again and write requirements.lock
	@$(PIP) install -qq uv
	@$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --extra dev --generate-hashes \
		--no-annotate --no-header --no-emit-index-url --no-emit-find-links pyproject.toml -o requirements.lock

$(STAMP): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "handoff needs Python 3.11 or newer, and $(PYTHON) is not: name one, as in make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
		echo "$(PYTHON) lacks venv or ensurepip: install it (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@echo "Installing requirements.lock into $(VENV) (about a minute the first time)" >&2
	@$(PIP) install -qq --require-hashes -r requirements.lock
	@$(PIP) install -qq --no-deps --editable .
	@touch $@
