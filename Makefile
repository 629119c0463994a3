# `make demo` and `make test` need Python 3.11, git and make; everything else is installed into .venv.
PYTHON ?= python3.11
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test fast docs install clean

demo: install
	$(BIN)/autoopt run studies/digits

test: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest $(PYTEST)

# What a change is tried against: without the tests that search for a minute or more.
fast: PYTEST = -m "not slow"
fast: test

# The pages of docs/, as a folder that any browser opens: site/index.html.
docs: .venv/documented
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --clean

.venv/documented: .venv/installed
	$(PIP) --editable '.[docs]'
	@touch $@

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "autoopt needs Python 3.11; name yours: make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv .venv
	$(PIP) --editable '.[dev,micro,npu,pictures]'
	@touch $@

clean:
	rm -rf .venv site studies/*/out
