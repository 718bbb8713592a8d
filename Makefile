# Souk: `make demo` shows it, `make test` proves it. Both set up what they need.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || echo python3)
VENV := .venv
BIN := $(VENV)/bin
# Where pip finds torch. The plain wheels of Linux bring gigabytes of CUDA: name PyTorch's index of CPU wheels here.
TORCH_INDEX ?=
READY := $(VENV)/.ready
ENCODER := .souk/encoder/encoder.json
BUNDLE := .souk/bundle/manifest.json
export VENV

.PHONY: help setup demo test lint protos bundle bench load stack clean

help:  ## what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

setup: $(READY)  ## make .venv with everything for the next two

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(if $(TORCH_INDEX),PIP_INDEX_URL=$(TORCH_INDEX)) $(BIN)/pip install -q torch==2.13.0
	$(BIN)/pip install -q -c constraints.txt -e '.[serve,cpu,local,train,load,dev]'
	@touch $(READY)

demo: setup  ## build the models, run the whole stack, show answers (ONCE=1 ends after them; DATA=a dataset)
	@$(BIN)/python -m demo $(if $(DATA),--data $(DATA)) $(if $(ONCE),--once)

# Two workers, a file after the other in the order of their names: the longest come first, and what a file has started
# serves all of its tests.
test: setup  ## all tests that fit into 15 minutes on 2 cores
	$(BIN)/pytest -q -n 2 --dist loadfile --no-loadscope-reorder

lint: setup  ## form, types, imports, protos
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	scripts/protos.sh --check

protos: setup  ## generate the stubs from protos/
	scripts/protos.sh

bundle: $(BUNDLE)  ## build the models into .souk/bundle

$(ENCODER): | setup
	$(BIN)/python -m training encoder export --out .souk/encoder

$(BUNDLE): | $(ENCODER)
	$(BIN)/python -m training bundle --encoder .souk/encoder --out .souk/bundle

LOAD := .souk/load
bench: setup bundle $(LOAD)/bundle  ## speed against named baselines of the same run, tables and reports/ (about 25 minutes)
	$(BIN)/pip install -q -c constraints.txt -e '.[bench]'
	$(BIN)/python -m loadtest.embedder_bench
	$(BIN)/python -m loadtest.embedder_rivals
	$(BIN)/python -m loadtest.cache_bench
	$(BIN)/python -m loadtest.retriever_bench --items 100000
	$(BIN)/python -m loadtest.growth_bench
	$(BIN)/python -m loadtest.retriever_wire
	$(BIN)/python -m loadtest.ranker_bench
	$(BIN)/python -m loadtest.reranker_bench
	$(BIN)/python -m loadtest.gateway_bench --dataset $(LOAD)/dataset --serve $(LOAD)/bundle --home $(LOAD)/stack --restart
	$(BIN)/python -m loadtest.pipeline_bench --dataset $(LOAD)/dataset --serve $(LOAD)/bundle --home $(LOAD)/stack

load: setup $(LOAD)/bundle  ## a whole shop under growing load: latency, the knee, use; a report in reports/
	$(BIN)/python -m loadtest run --dataset $(LOAD)/dataset --serve $(LOAD)/bundle --home $(LOAD)/stack

$(LOAD)/dataset: | setup
	$(BIN)/python -m training generate --items 3000 --shoppers 1500 --seed 7 --out $@

$(LOAD)/ranker: | $(BUNDLE) $(LOAD)/dataset
	$(BIN)/python -m training train ranker --dataset $(LOAD)/dataset --bundle .souk/bundle --minutes 1 --out $@

$(LOAD)/interests: | $(BUNDLE) $(LOAD)/dataset
	$(BIN)/python -m training train coldstart --dataset $(LOAD)/dataset --bundle .souk/bundle --out $@

$(LOAD)/bundle: | $(LOAD)/ranker $(LOAD)/interests
	$(BIN)/python -m training bundle --encoder .souk/bundle --ranker $(LOAD)/ranker --coldstart $(LOAD)/interests --out $@

stack: setup bundle  ## run the local stack on .souk
	@$(BIN)/python -m services

clean:  ## remove what was built (not the catalogue in .souk)
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
