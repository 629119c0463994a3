# `make demo` and `make test` need Python 3.11, 3.12 or 3.13, git and make; everything else is installed into .venv.
PYTHON ?= python3.11
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

# A file of tests goes to one of the workers as a whole, so that what its tests share is made once. Three are for two cores: tests
# of processes, browsers and measurements often wait.
WORKERS ?= -n 3 --dist loadfile --no-loadscope-reorder

.PHONY: demo test fast docs constraints install clean

demo: install
	$(BIN)/autoopt run studies/digits

test: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m pytest $(WORKERS) --durations 20 $(PYTEST)

# What a change is tried against first: what needs no TensorFlow, no browser and no search for real (tests/conftest.py says which).
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
	@command -v $(PYTHON) >/dev/null || { echo "autoopt needs Python 3.11, 3.12 or 3.13; name yours: make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv .venv
	$(PIP) --editable '.[dev,micro,npu,pictures]'
	@touch $@

# Whether the pinned versions still are to be had and fit together.
constraints:
	$(PYTHON) -m pip install --quiet --dry-run --ignore-installed --disable-pip-version-check --constraint constraints.txt '.[dev,micro,npu,pictures,docs]'

clean:
	rm -rf .venv site studies/*/out
