# Everything is set up in .venv at the first call; see README.md.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# What constraints.txt names up to the end of a section, by its hashes; and the program as it stands.
install = sed '/^\#@ end of $(1)/,$$d' constraints.txt > $(VENV)/$(1).txt && \
	$(PIP) install --require-hashes -r $(VENV)/$(1).txt && \
	$(PIP) install --no-deps --no-build-isolation -e .

.PHONY: vendor run test test-thorough test-shippers soak-destinations check lint format coverage bench bench-quick wheel clean lock
.DEFAULT_GOAL := run

$(VENV)/.made: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(call install,run)
	@touch $@

$(VENV)/.made-dev: $(VENV)/.made
	@$(call install,dev)
	@touch $@

$(VENV)/.made-bench: $(VENV)/.made-dev
	@$(call install,bench)
	@touch $@

run: $(VENV)/.made
	@exec $(BIN)/audit-gateway serve --demo $(ARGS)

test: $(VENV)/.made-dev
	@$(BIN)/python tests/setup_clients.py
	@$(BIN)/python -m pytest -n auto

test-thorough: $(VENV)/.made-dev
	@$(BIN)/python tests/setup_clients.py
	@TEST_EXAMPLES=thorough $(BIN)/python -m pytest -n auto

# The recipes of deploy/shippers/ with the programs that there are; names those that it has not run.
test-shippers: $(VENV)/.made-dev
	@$(BIN)/python tests/setup_shippers.py
	@$(BIN)/python -m pytest -n 0 -rs tests/shippers

# All receivers and shippers that there are, killed at random for minutes; prints what each has lost.
# ARGS=rounds: so many events and so many kills of each kind; ARGS=backlog: one that comes back after
# a million events; ARGS=poison: one event in a thousand that receivers refuse.
soak-destinations: $(VENV)/.made-dev
	@$(BIN)/python tests/setup_shippers.py
	@$(BIN)/python -u tests/shippers/soak.py $(ARGS)

check: $(VENV)/.made-dev format lint
	@$(BIN)/python -m pytest -n auto -m "not slow" tests/unit tests/contract tests/system/server tests/simulation

lint: $(VENV)/.made-dev
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy --no-error-summary

format: $(VENV)/.made-dev
	@$(BIN)/ruff format --quiet .

coverage: $(VENV)/.made-dev
	@$(BIN)/python -m coverage run -m pytest -n 0 tests/unit
	@$(BIN)/python -m coverage report

bench: $(VENV)/.made-bench
	@$(BIN)/python -m tests.benchmarks

bench-quick: $(VENV)/.made-bench
	@$(BIN)/python -m tests.benchmarks --quick

# The console's libraries, fetched anew and checked against their digests.
vendor: $(VENV)/.made-dev
	@$(BIN)/python -m tests.support.vendor

# What an earlier build has left would go into the wheel, too.
wheel: $(VENV)/.made
	@rm -rf build
	@$(PIP) wheel --no-deps --no-build-isolation --wheel-dir dist .

clean:
	@rm -rf $(VENV) build dist *.egg-info tests/system/clients/node_modules

lock: $(VENV)/.made
	@$(PIP) install uv
	@PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python tests/lock.py $(ARGS)
