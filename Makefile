# Every target works as the first command on a fresh clone: it makes .venv when that is missing or out of date.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export HF_HUB_OFFLINE := 1
export OMP_NUM_THREADS ?= 2

comma := ,
space := $(subst ,, )
READERS := containers pairs reading records row_files row_records shapes turns values
EXACT := */undertow/store/artifacts.py,*/undertow/store/disk.py,*/undertow/store/fingerprints.py,*/undertow/data/rows.py,*/undertow/data/filters.py,$(subst $(space),$(comma),$(READERS:%=*/undertow/data/%.py))

.PHONY: help demo test fuzz test-all check docs bench clean
.DEFAULT_GOAL := help

help: ## Show the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /: /'

$(READY): pyproject.toml constraints/cpu.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	PIP_CONSTRAINT=$(CURDIR)/constraints/cpu.txt $(BIN)/python -m pip install --quiet torch
	PIP_CONSTRAINT=$(CURDIR)/constraints/cpu.txt $(BIN)/python -m pip install --quiet --editable '.[all,dev]'
	touch $@

demo: $(READY) ## Pass a trait through plain numbers, and show it
	$(BIN)/undertow demo --workers 2

test: $(READY) ## Quick tests with the coverage gates
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow and not gpu and not real" -n 2 -q --cov --cov-fail-under=90
	$(BIN)/coverage report --fail-under=100 --include='*/undertow/stats/*,$(EXACT)'

fuzz: $(READY) ## 100,000 inputs over the HTTP surface, every file reader, adapters and chat templates (2,000 in `make test`)
	UNDERTOW_FUZZ=100000 $(BIN)/python -m pytest -q tests/unit/test_fuzz_readers.py tests/unit/monitor/test_fuzz.py \
		tests/unit/models/test_adapters_fuzz.py tests/unit/models/test_chat_templates.py

test-all: $(READY) ## Every test and the quick tier of every recipe, with the extras that have large packages
	PIP_CONSTRAINT=$(CURDIR)/constraints/cpu.txt $(BIN)/python -m pip install --quiet --editable '.[all,dev,docs,ray,trl]'
	$(BIN)/python -m pytest -q -m "not gpu"

check: $(READY) ## Format, lint, types, imports, sizes, names
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/python scripts/check_sizes.py src tests benchmarks scripts
	$(BIN)/python scripts/check_names.py src/undertow

docs: $(READY) ## The documentation site, into docs/_build/html; a broken link fails
	PIP_CONSTRAINT=$(CURDIR)/constraints/cpu.txt $(BIN)/python -m pip install --quiet --editable '.[all,dev,docs]'
	$(BIN)/python -m sphinx -q -W --keep-going -b html -d docs/_build/doctrees docs docs/_build/html

bench: $(READY) ## Measurements against peers, each a ratio within one run
	for file in benchmarks/*.py; do $(BIN)/python $$file || exit 1; done

clean: ## Remove the environment and every cache
	rm -rf $(VENV) .pytest_cache .ruff_cache .coverage .import_linter_cache
