# Two commands do everything on a fresh machine: `make run` and `make test`.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
DEVELOPING := $(VENV)/developing
CLUSTERING := $(VENV)/clustering
# mypy follows no mapped editable install: it reads the package from a folder of links.
TYPED := $(VENV)/typed/fedfore
PIP := @$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --constraint constraints.txt
IN_PARALLEL := --numprocesses=auto --dist=loadfile -p no:benchmark
export OMP_NUM_THREADS ?= 1
export OMP_WAIT_POLICY ?= passive

.PHONY: run test test-thorough test-slow test-kills benchmark lint docs clean

run: $(INSTALLED)
	$(BIN)/fedfore run

test: $(DEVELOPING)
	$(BIN)/python -m pytest $(IN_PARALLEL) --durations=10

test-thorough: $(DEVELOPING)
	$(BIN)/python -m pytest -m "thorough and not slow and not gpu and not kills and not benchmark" $(IN_PARALLEL)

test-slow: $(CLUSTERING)
	$(BIN)/python -m pytest -m "slow and not gpu"

test-kills: $(DEVELOPING)
	$(BIN)/python -m pytest -m kills -p no:benchmark

benchmark: $(DEVELOPING)
	$(BIN)/python -m pytest -m benchmark --benchmark-columns=min,median,rounds

lint: $(DEVELOPING)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	rm -rf $(TYPED) && mkdir -p $(TYPED) && ln -s $(CURDIR)/bench/* $(addprefix $(CURDIR)/,methods baselines plots) $(TYPED)
	MYPYPATH=$(dir $(TYPED)) $(BIN)/mypy

docs: $(INSTALLED)
	$(BIN)/python -m fedfore.docs

clean:
	rm -rf $(VENV) *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(INSTALLED): pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing pinned versions into $(VENV), which takes minutes ..."
	$(PIP) --editable .
	touch $@

$(DEVELOPING): $(INSTALLED)
	$(PIP) --editable ".[dev]"
	touch $@

# Half a minute more, for the tests on a cluster alone.
$(CLUSTERING): $(DEVELOPING)
	$(PIP) --editable ".[dev,ray]"
	touch $@
