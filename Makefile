# The two commands of the README, each working as the only one on a fresh machine, and the check before a merge.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-slow check bench constraints clean

demo: $(STAMP)  ## Run the main job on the built-in dataset, with pictures.
	$(BIN)/ovvol-bench run --grouper slot_attention --labeler pacl --overlays

test: $(STAMP)  ## Run the tests, a process a core (slow ones: make test-slow).
	OMP_NUM_THREADS=1 $(BIN)/pytest -n logical

test-slow: $(STAMP)  ## Slow tests: trainings from the command line, DeepSpeed's among them.
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev,deepspeed]'
	$(BIN)/pytest -m slow

check: $(STAMP)  ## Formatting, lint, types, examples in docstrings, results and their tables.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest --doctest-modules ovvol_bench plugins baselines
	$(BIN)/ovvol-bench results check results

bench: $(STAMP)  ## Time the hot paths; ARGS: of pytest-benchmark, see benchmarks/README.md.
	OMP_NUM_THREADS=1 $(BIN)/pytest benchmarks --benchmark-enable --benchmark-only $(ARGS)

constraints: $(STAMP)  ## Write down the exact versions in use.
	$(BIN)/pip freeze --exclude-editable | grep -v '^ovvol' > constraints.txt

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
