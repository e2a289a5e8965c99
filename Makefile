# make demo: the whole system in a temporary directory, from nothing.  make test: every test.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed-dev
PROTOS := $(wildcard protos/mlops/v1/*.proto)

# Byte-compiled packages start MLflow three times faster; some shells switch that off.
unexport PYTHONDONTWRITEBYTECODE
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: demo up test check format proto bench install clean
.DEFAULT_GOAL := help

help: ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

install: $(STAMP) ## .venv with everything in it

demo: $(STAMP) ## two tenants, training, a batch, a prediction, from nothing, in a temporary directory
	$(BIN)/mlops demo

up: $(STAMP) ## the embedded stack in ./.mlops, until Ctrl-C
	$(BIN)/mlops up --dir .mlops

test: $(STAMP) ## every test
	$(BIN)/python -m pytest

check: $(STAMP) ## format, lint, types, layers, protos, tests: what CI runs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code
	$(MAKE) --no-print-directory proto
	git diff --exit-code -- mlops/v1
	$(MAKE) --no-print-directory test

format: $(STAMP) ## rewrite the code to its format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/buf format --write

proto: $(STAMP) ## regenerate mlops/v1 from protos/
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m grpc_tools.protoc -Iprotos \
		--python_out=. --grpc_python_out=. --mypy_out=quiet:. --mypy_grpc_out=quiet:. $(PROTOS)

bench: $(STAMP) ## one benchmark: make bench NAME=overhead|training|pool|batch|online
	$(BIN)/python -m benchmarks.$(NAME)

clean: ## remove .venv and every cache
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
