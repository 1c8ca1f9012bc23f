# Every target says what it does in `make help` and echoes its variables before it runs.

SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SCALE ?=
DATA ?=
METHOD ?=
TASK ?=
DEVICES ?=
SEEDS ?= 1
ROOT ?=
WEIGHTS ?=
FEATURES ?=
TXE ?=
RUNS ?= runs
WORLD_SEED ?= 0
SMOKE ?=
ARGS ?=
# ranks of the tests share the cores: threads that wait have to sleep, not to spin
FEW := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive
TORCH_CPU := https://download.pytorch.org/whl/cpu

OPTIONS = $(if $(SCALE),--scale $(SCALE)) --seeds $(SEEDS) --runs $(RUNS) --world-seed $(WORLD_SEED) \
	$(if $(DEVICES),--devices $(DEVICES)) $(if $(DATA),--data $(DATA)) $(if $(METHOD),--method $(METHOD)) $(if $(TASK),--task $(TASK)) \
	$(if $(ROOT),--root $(ROOT)) $(if $(WEIGHTS),--weights $(WEIGHTS)) \
	$(if $(FEATURES),--use features=$(FEATURES)) $(if $(TXE),--use txe=$(TXE)) $(if $(SMOKE),--smoke) $(ARGS)
STAGES := pretrain-backbone extract-features pretrain-txe train-verbs train-relations train-roles train-lvu summary \
	tables table-1 table-2 table-2-verbs table-3 table-4 table-5 compare-backbones ablate-rates

.PHONY: help install demo test test-slow lint format bench gpu-check docs tensorboard clean $(STAGES)

help: ## show this help
	@echo "make TARGET [DATA=..] [SCALE=paper|gpu|demo|small] [METHOD=..] [TASK=..] [SEEDS=N] [DEVICES=N] [ROOT=DIR] [WEIGHTS=FILE]"
	@echo "     [FEATURES=STORE] [TXE=FILE] [RUNS=DIR] [WORLD_SEED=N] [SMOKE=1] [ARGS='--more options']"
	@echo
	@grep -hE '^[a-z][a-z0-9-]*:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 20

# torch's CPU build where there is no NVIDIA GPU and its index can be reached
$(VENV)/installed: setup.cfg setup.py pyproject.toml constraints.txt
	@echo "install: PYTHON=$(PYTHON) VENV=$(VENV)"
	$(PYTHON) -m venv $(VENV)
	index=; if ! command -v nvidia-smi >/dev/null && \
		$(BIN)/python -c "import urllib.request as r; r.urlopen('$(TORCH_CPU)/torch/', timeout=5)" 2>/dev/null; \
		then index="--extra-index-url $(TORCH_CPU)"; fi; \
	$(BIN)/pip install -q -c constraints.txt $$index torch && \
	$(BIN)/pip install -q -c constraints.txt -e '.[dev]'
	@touch $@

install: $(VENV)/installed ## install into .venv

demo: SCALE = demo
demo: SEEDS = 3
demo: $(VENV)/installed ## the whole pipeline on the generated world, some ten minutes on two cores
	@echo "demo: SCALE=$(SCALE) SEEDS=$(SEEDS) WORLD_SEED=$(WORLD_SEED) RUNS=$(RUNS)"
	@$(BIN)/kuleshov run summary $(OPTIONS) > /dev/null
	@$(BIN)/kuleshov report $(RUNS) --output $(RUNS)/report.html
	@echo "TensorBoard: make tensorboard"

pretrain-backbone: ## level 1: METHOD=cvrl|modist|supervised DATA=k400|vidsitu|lvu|shards|folder
extract-features: ## event features of a data set: DATA=vidsitu|lvu|k400|folder
pretrain-txe: ## level 2, masked-event prediction: DATA=lvu|vidsitu|k400|folder
train-verbs: ## VidSitu's verbs
train-relations: ## VidSitu's event relations
train-roles: ## VidSitu's semantic roles
train-lvu: ## LVU's tasks: TASK=all|genre|...
summary: ## the whole hierarchy in one short table: what `make demo` runs
tables: ## the paper's five tables and all that they need: SMOKE=1 tries every stage in a moment
table-1: ## the paper's Table 1, semantic roles: SEEDS=5
table-2: ## Table 2, settings of masked-event pretraining, by semantic roles
table-2-verbs: ## the same settings by verbs
table-3: ## Table 3, event relations
table-4: ## Table 4, the backbone tuned on verbs
table-5: ## Table 5, LVU's nine tasks: SEEDS=5
compare-backbones: ## level 1 against random networks: SEEDS=3
ablate-rates: ## what the learning rate does to relations

$(STAGES): $(VENV)/installed
	@echo "$@: $(strip DATA=$(DATA) SCALE=$(SCALE) METHOD=$(METHOD) TASK=$(TASK) SEEDS=$(SEEDS) DEVICES=$(DEVICES) ROOT=$(ROOT) WEIGHTS=$(WEIGHTS) RUNS=$(RUNS))"
	@$(BIN)/kuleshov run $@ $(OPTIONS)

test: $(VENV)/installed ## the tests, without the slow ones
	@echo "test: VENV=$(VENV)"
	$(FEW) $(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow" tests

test-slow: $(VENV)/installed ## the slow tests
	@echo "test-slow: VENV=$(VENV)"
	$(FEW) $(BIN)/python -m pytest -n 2 --dist loadfile -m slow tests

lint: $(VENV)/installed ## ruff: lint and format; mypy: types
	@echo "lint: VENV=$(VENV)"
	$(BIN)/ruff check src tests benchmarks examples setup.py
	$(BIN)/ruff format --check src tests benchmarks examples setup.py
	$(BIN)/mypy

format: $(VENV)/installed ## let ruff format the sources
	$(BIN)/ruff format src tests benchmarks examples setup.py

bench: $(VENV)/installed ## benchmarks in one table: ratios against what a user would pick instead
	@echo "bench: VENV=$(VENV) ARGS=$(ARGS)"
	@$(BIN)/python benchmarks/run_benchmarks.py $(ARGS)

gpu-check: $(VENV)/installed ## a minute of a stage of each kind on this GPU, written to docs/gpu.md
	@echo "gpu-check: VENV=$(VENV)"
	@$(BIN)/python benchmarks/gpu_check.py --output docs/gpu.md

docs: $(VENV)/installed ## the documentation as a site, in build/site; a warning is an error
	@echo "docs: VENV=$(VENV)"
	$(BIN)/pip install -q -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

tensorboard: $(VENV)/installed ## TensorBoard over all runs
	@echo "tensorboard: RUNS=$(RUNS)"
	$(BIN)/tensorboard --logdir $(RUNS)

clean: ## remove the virtual environment and caches; runs and data stay
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache build src/*.egg-info
