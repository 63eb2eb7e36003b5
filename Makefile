# Everything a person or CI runs. `make serve` and `make test` set up what they need on a fresh machine.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RECIPE ?= build_engines/recipes/sample_shop.toml
COPY_RECIPE ?= build_engines/recipes/sample_copy.toml
SUPPORT_RECIPE ?= build_engines/recipes/sample_support.toml
PAGES ?= build_engines/data/sample_pages
MODEL ?= sample-shop
STAMP_RUN := $(VENV)/.installed-run
STAMP_DEV := $(VENV)/.installed-dev
# The test extra installs all; pip reads PIP_* from the environment as usual.
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: help serve build test check bench clean env
.DEFAULT_GOAL := help

help:            ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(STAMP_RUN): pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install --quiet --constraint constraints.txt --editable '.[builder,encoder,tensorrt-rtx]'
	@touch $@

$(STAMP_DEV): $(STAMP_RUN)
	$(PIP) install --quiet --constraint constraints.txt --editable '.[builder,encoder,tensorrt-rtx,finetune,own,test]'
	@touch $@

env: $(STAMP_DEV)  ## make the environment with everything in it

build: $(STAMP_RUN)  ## build and publish the sample shop's engines (cached)
	$(BIN)/python -m build_engines run $(RECIPE)
	$(BIN)/python -m build_engines run $(COPY_RECIPE)
	$(BIN)/python -m build_engines run $(SUPPORT_RECIPE)
	$(BIN)/python -m server.knowledge sync $(PAGES) --source sample-pages --knowledge model_repository/knowledge.db --encoder sample-support

serve: build     ## build what is missing, then serve HTTP 8000, gRPC 8001, metrics 8002
	exec $(BIN)/python -m server --model $(MODEL)

test: $(STAMP_DEV)  ## all tests
	$(BIN)/python -m pytest

check: $(STAMP_DEV)  ## format, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP_DEV)  ## measure every figure of the README; BEAUTY=FOLDER adds the public log, PEERS=1 texts through the server
	$(BIN)/python -m bench $(if $(BEAUTY),--beauty $(BEAUTY)) $(if $(PEERS),--peers)

triton-venv:     ## a real tritonserver for tests and measurements, in .triton-venv (about 500 MB)
	$(BIN)/python -m bench.real_triton

clean:           ## remove caches and build outputs, not the environment
	rm -rf .workspace .sample_shop .mypy_cache .ruff_cache .pytest_cache .hypothesis
