# facedistill: `make` alone shows this help.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup demo reproduce-table test test-all check format docs bench lock clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## create the virtual environment (.venv) from requirements.lock

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "facedistill needs Python 3.11 or newer; name one with make PYTHON=/path/to/python3.11 …"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock \
		$(if $(PYTHONDONTWRITEBYTECODE),--compile-bytecode) # otherwise each start would compile 3,000 modules, 19 s
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

demo: $(READY) ## fetch the pocket weights, train a student on rendered faces, evaluate, report (9 minutes on 2 cores with AMX, 34 on 2 virtual ones without)
	@$(BIN)/facedistill train experiment=demo

TABLE ?= pocket
reproduce-table: $(READY) ## run the missing rows of a table and render it: [TABLE=pocket] [BUDGET=images] [SEEDS=n] [SLOTS=n] [ROWS=a,b]
	@$(BIN)/facedistill reproduce $(TABLE) $(if $(BUDGET),--images $(BUDGET)) $(if $(SEEDS),--seeds $(SEEDS)) $(if $(SLOTS),--slots $(SLOTS)) $(if $(ROWS),--rows $(ROWS))

WORKERS ?= 2
# The longest files come first, so that the workers end together.
test: $(READY) ## the fast test suite, in [WORKERS=2] processes
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/smoke tests -m "not slow" -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test-all: $(READY) ## all tests, including slow ones
	@$(BIN)/python -m pytest

check: $(READY) ## format, lint, types, import contracts
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(READY) ## format the code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

docs: $(READY) ## build the documentation site, build/site/docs/index.html
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r docs/site/requirements.lock
	@$(BIN)/python docs/site/build.py

bench: $(READY) ## run the benchmarks and write benchmarks/results
	@for name in generator_exit data evaluation inference ekd_loss gkd_loss fuzz faults; do $(BIN)/python benchmarks/$$name.py || exit 1; done
	@$(BIN)/facedistill methods --measure --json | $(BIN)/python benchmarks/method_cost.py

lock: $(READY) ## update the pinned versions, with hashes and without index addresses
	@$(BIN)/uv pip compile --quiet --upgrade --generate-hashes --no-emit-index-url --universal \
		--python-version 3.11 --extra sweep --group dev pyproject.toml -o requirements.lock
	@$(BIN)/uv pip compile --quiet --upgrade --generate-hashes --no-emit-index-url --universal \
		--python-version 3.11 --constraint requirements.lock --group docs -o docs/site/requirements.lock

clean: ## delete the virtual environment and caches; runs and weights are kept
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache build *.egg-info
