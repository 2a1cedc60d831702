# Everything here sets itself up: a virtual environment in .venv, the package and its tools.
PYTHON ?= python3
BIN := .venv/bin
DATA ?=
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export MPLBACKEND := Agg

.PHONY: demo test lint nightly clean

demo: .venv/ready
	$(BIN)/python -m facespace.cli.demo $(if $(DATA),--data "$(DATA)") --out demo

test: .venv/ready lint
	$(BIN)/python -m pytest -n 2 -m "not nightly"

lint: .venv/ready
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/mypy
	$(BIN)/codespell src tests docs benchmarks README.md CONTRIBUTING.md CHANGELOG.md

nightly: .venv/ready
	$(BIN)/python -m pytest -n 2 -s

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[train,dev]"
	touch .venv/ready

clean:
	rm -rf .venv demo
