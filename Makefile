# Two commands: `make run` and `make test`. Set-up happens by itself, in .venv, .venv-mpc and node_modules.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# More than cores: processes under test wait for each other a good part of the time.
WORKERS ?= 3
# SPU runs on Python 3.11 and numpy 1 alone, so scheme mpc has an environment of its own.
PYTHON_MPC ?= $(or $(shell command -v python3.11),$(PYTHON))
VENV_MPC := .venv-mpc
BIN_MPC := $(VENV_MPC)/bin

export HANSA_ANVIL := $(CURDIR)/node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil

.PHONY: help setup setup-mpc test-mpc run cluster test docs lint chromium bench chaos processes kill attestation-flips contract clean

help:
	@echo "make run     set up, then train digits among eight members, two of them hostile, and audit it"
	@echo "make cluster anvil and ten members in processes of their own train digits, shown live"
	@echo "make test    set up, then run all tests"
	@echo "make setup-mpc  an environment for scheme mpc: SPU on Python 3.11; make test-mpc runs its tests"
	@echo "make docs    the pages as a site, in build/site; needs no network to be read"
	@echo "make lint    format check, linter, types, import contracts"
	@echo "make chromium  install Debian's Chromium by apt, for tests of the report's page"
	@echo "make bench   benchmarks (minutes)"
	@echo "make chaos   real nodes under seeded faults, SEEDS=1000"
	@echo "make processes  real processes under faults, REPEAT=20"
	@echo "make kill    kill and resume whole runs, SEEDS=20"
	@echo "make attestation-flips  flip every bit of two genuine quotes; none may pass"
	@echo "make contract  compile Federation.vy into the shipped artefact"

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Hansa needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[torch,secagg,tee,flower,tensorboard,mlflow,docs,dev]'
	touch $@

setup-mpc: $(VENV_MPC)/.ready

# Without Python 3.11 there is no .ready, and what needs scheme mpc is skipped and says so.
$(VENV_MPC)/.ready: pyproject.toml constraints-mpc.txt
	@if ! $(PYTHON_MPC) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))'; then \
	  echo "SPU needs Python 3.11, $(PYTHON_MPC) is $$($(PYTHON_MPC) -V): scheme mpc is left out (PYTHON_MPC=... names another)"; \
	else $(PYTHON_MPC) -m venv $(VENV_MPC) \
	  && $(BIN_MPC)/pip install --quiet --disable-pip-version-check --constraint constraints-mpc.txt --editable '.[mpc,dev]' \
	  && touch $@; fi

# anvil is needed by tests and benchmarks only; where npm is missing, those tests skip and say so.
node_modules/.ready: package.json package-lock.json
	@if command -v npm >/dev/null; then npm ci --no-audit --no-fund && mkdir -p node_modules && touch $@; \
	else echo "npm is not installed: tests against anvil will be skipped"; fi

run: setup
	@rm -rf runs/make-run
	$(BIN)/hansa run examples/digits --out runs/make-run
	$(BIN)/hansa audit runs/make-run

cluster: setup node_modules/.ready
	$(BIN)/python examples/cluster

test: setup node_modules/.ready
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder
	$(MAKE) --no-print-directory test-mpc

test-mpc: setup-mpc node_modules/.ready
	@if test -e $(VENV_MPC)/.ready; then $(BIN_MPC)/python -m pytest -n 2 --dist loadfile tests/mpc; \
	else echo "SKIPPED tests/mpc: no Python 3.11"; fi

docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet
	@echo "build/site/index.html"

# Tests of the report's page need a browser; where there is none and none can be installed, they skip and say so.
chromium:
	@if test -x /usr/bin/chromium; then :; \
	elif command -v apt-get >/dev/null && test "$$(id -u)" = 0; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null; \
	else echo "Chromium is not installed, and only root can install it by apt: tests of the page will be skipped"; fi

lint: setup
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup node_modules/.ready
	$(BIN)/python benchmarks/aggregation.py
	$(BIN)/python benchmarks/round.py
	$(BIN)/python benchmarks/selection.py
	$(BIN)/python benchmarks/asynchronous.py
	$(BIN)/python benchmarks/scale.py
	$(BIN)/python benchmarks/tee.py
	$(BIN)/python benchmarks/secagg.py
	@if test -e $(VENV_MPC)/.ready; then $(BIN_MPC)/python benchmarks/mpc.py; fi

chaos: setup
	$(BIN)/python -m tests.chaos --seeds $(or $(SEEDS),1000) --processes 2
	$(BIN)/python -m tests.chaos --seeds $(or $(SEEDS),1000) --processes 2 --scheme secagg
	$(BIN)/python -m tests.chaos --seeds $(or $(SEEDS),1000) --processes 2 --scheme tee

processes: setup node_modules/.ready
	$(BIN)/python -m tests.chaos.processes --repeat $(or $(REPEAT),20)

attestation-flips: setup
	$(BIN)/python -m tests.flips

kill: setup
	$(BIN)/python benchmarks/kill.py --seeds $(or $(SEEDS),20)

contract: setup
	$(BIN)/python -m hansa.ledger.compile

clean:
	rm -rf $(VENV) $(VENV_MPC) node_modules runs build dist
