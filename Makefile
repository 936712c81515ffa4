# make setup | demo | test | lint | bench | fuzz N=10000 | kill N=1000
# INDEX=URL makes pip use another package index (for example one with CPU builds of torch).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_FLAGS := -c constraints.txt $(if $(INDEX),--extra-index-url $(INDEX))
STAMP := $(VENV)/.installed

.PHONY: setup demo test lint bench fuzz kill
setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check $(PIP_FLAGS) -e '.[all,gpu,dev]'
	touch $@

demo: setup
	$(BIN)/oneiros demo --out demo

# a process for each core, the tests of a file in one: most of them compute with one thread
test: setup
	$(BIN)/pytest -n auto --dist loadfile

lint: setup
	$(BIN)/ruff check src tests benchmarks examples
	$(BIN)/ruff format --check src tests benchmarks examples
	$(BIN)/pyright
	$(BIN)/lint-imports

bench: setup
	$(BIN)/python benchmarks/play.py $(RUN)

# N mutated files, and N kills of recording, training and playing; the suite runs a few of each
fuzz: setup
	$(BIN)/python -m tests.fuzz $(or $(N),300)

kill: setup
	$(BIN)/python -m tests.fuzz.kill $(or $(N),12)
