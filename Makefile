# make setup | demo | test | lint | bench
# INDEX=URL makes pip use another package index (for example one with CPU builds of torch).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_FLAGS := -c constraints.txt $(if $(INDEX),--extra-index-url $(INDEX))
STAMP := $(VENV)/.installed

.PHONY: setup demo test lint bench
setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check $(PIP_FLAGS) -e '.[all,gpu,dev]'
	touch $@

demo: setup
	$(BIN)/oneiros demo --out demo

test: setup
	$(BIN)/pytest

lint: setup
	$(BIN)/ruff check src tests benchmarks examples
	$(BIN)/ruff format --check src tests benchmarks examples
	$(BIN)/pyright
	$(BIN)/lint-imports

bench: setup
	$(BIN)/python benchmarks/play.py $(RUN)
