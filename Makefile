# Two commands do everything on a machine with Python 3.11, make and git:
#   make demo    environment, installation, and the whole way on embedded data
#   make test    environment, installation, static checks and the tests

PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
WORKERS ?= 2

.PHONY: demo test lint install clean

demo: $(VENV)/.installed
	$(BIN)/gapshift demo

# One thread a worker: two workers with two threads each fight over two cores.
test: $(VENV)/.installed-dev lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

install: $(VENV)/.installed

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# torch goes first and by its exact version: a looser request may bring gigabytes of another build.
$(VENV)/.torch: $(VENV)/bin/python constraints.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt torch==2.13.0
	touch $@

$(VENV)/.installed: $(VENV)/.torch pyproject.toml
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[openvino]"
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info src/*.egg-info
