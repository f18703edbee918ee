# The environment is .venv/, all of the demo is .demo/. `make help` lists the targets.
PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3,$(shell command -v $(name))))
VENV := .venv
BIN := $(VENV)/bin
export RELEVANCE_UI_PORT

.PHONY: help install demo up down test lint bench clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /make \1|/p' $(MAKEFILE_LIST) | column -t -s '|'

install: $(VENV)/installed ## the environment, pinned by constraints.txt

$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' || \
		{ echo "Python 3.11 or 3.12 is needed: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	@echo "installing the environment into $(VENV) (2.3 GB, about two minutes)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=26'
	$(BIN)/python -m pip install --progress-bar on --constraint constraints.txt --editable '.[airflow,train,dev]'
	@touch $@

demo: install ## two nights of the loop in a real Airflow, a quarter of an hour
	$(BIN)/python -m relevance_core.demo run

up: install ## Airflow for a person, on 127.0.0.1:$RELEVANCE_UI_PORT (8080)
	$(BIN)/python -m relevance_core.demo up

down: ## stop it
	@if [ -x $(BIN)/python ] && [ -d .demo ]; then $(BIN)/python -m relevance_core.demo down; fi

lint: install ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint ## lint, and every test
	$(BIN)/python -m pytest

bench: install ## the tables of docs/method.md on the simulated shop, three seeds; about 40 minutes
	for seed in 17 18 19; do $(BIN)/python benchmarks/quality.py market --seed $$seed --out benchmarks/out || exit 1; done
	$(BIN)/python benchmarks/quality.py table --out benchmarks/out

clean: down ## remove the environment and the demo
	rm -rf $(VENV) .demo
