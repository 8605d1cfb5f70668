# Both `make demo` and `make test` build their own environment. PYTHON may name another Python 3.10.
PYTHON ?= $(shell command -v python3.10 >/dev/null 2>&1 && python3.10 --version >/dev/null 2>&1 && echo python3.10 || echo python3)
VENV := .venv
BIN := $(VENV)/bin
# One worker per core, and one thread in each: many small operations gain nothing from more.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

.PHONY: demo test test-all search lint docs bench clean

demo: $(VENV)/installed
	$(BIN)/netx-export demo --out demo

test: $(VENV)/installed lint
	$(PYTEST) -m "not slow"

test-all: $(VENV)/installed lint
	$(PYTEST)

search: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/python tests/search/search.py

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/installed-docs
	$(BIN)/python -m mkdocs build --strict --quiet
	@echo "Open site/index.html"

bench: $(VENV)/installed-bench
	$(BIN)/python -m benchmarks

$(VENV)/installed-bench: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[bench]"
	@touch $@

$(VENV)/installed-docs: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[docs]"
	@touch $@

$(VENV)/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version.split()[0]; sys.exit(None if sys.version_info[:2] == (3, 10) else f"Lava needs Python 3.10, and $(PYTHON) is Python {v}. Install Python 3.10, or name it: make PYTHON=/path/to/python3.10")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[demo,dev]"
	@touch $@

clean:
	rm -rf $(VENV) demo site .mypy_cache .pytest_cache .ruff_cache
