# Both `make demo` and `make test` build their own environment. PYTHON may name another Python 3.10.
PYTHON ?= $(shell command -v python3.10 >/dev/null 2>&1 && python3.10 --version >/dev/null 2>&1 && echo python3.10 || echo python3)
VENV := .venv
BIN := $(VENV)/bin
# One worker per core, and one thread in each: many small operations gain nothing from more.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

# Which third of the support table's slow rows runs on Lava in `make test-third`: another one each day.
LAVA_THIRD ?= $(shell echo $$(($$(date -u +%s) / 86400 % 3)))

.PHONY: demo test test-third test-all search mutants lint docs bench clean

demo: $(VENV)/installed
	$(BIN)/netx-export demo --out demo

test: $(VENV)/installed lint
	$(PYTEST) -m "not slow"

test-third: $(VENV)/installed
	@echo "The support table's slow rows on Lava: third $(LAVA_THIRD) of 0, 1 and 2. LAVA_THIRD=$(LAVA_THIRD) repeats it."
	LAVA_THIRD=$(LAVA_THIRD) $(PYTEST) -m "slow and lava" tests/netx/test_support.py

test-all: $(VENV)/installed lint
	$(PYTEST)

search: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/python tests/search/search.py

mutants: $(VENV)/installed-mutants
	$(BIN)/python -m tools.mutants

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache --no-logo

docs: $(VENV)/installed-docs
	OMP_NUM_THREADS=1 $(BIN)/python -m tools.tutorials
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "Open site/index.html in a browser, or run: $(BIN)/python -m http.server --directory site"

bench: $(VENV)/installed-bench
	$(BIN)/python -m benchmarks

$(VENV)/installed-bench: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[bench]"
	@touch $@

$(VENV)/installed-mutants: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[mutants]"
	@touch $@

$(VENV)/installed-docs: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[docs]"
	@touch $@

$(VENV)/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version.split()[0]; sys.exit(None if sys.version_info[:2] == (3, 10) else f"Lava needs Python 3.10, and $(PYTHON) is Python {v}. Install Python 3.10, or name it: make PYTHON=/path/to/python3.10")'
	$(PYTHON) -m venv $(VENV)
	@echo "Installing Lava and what it needs into $(VENV): about 6 GB, which takes some minutes."
	$(BIN)/python -m pip install --disable-pip-version-check --editable ".[demo,dev]"
	@touch $@

clean:
	rm -rf $(VENV) demo site .mypy_cache .pytest_cache .ruff_cache
