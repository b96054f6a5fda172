# make run, make test: the two that matter. `make help` lists all, under the headings that begin with ##@ here.
PYTHON ?= python3
PARAMS ?= params/quick.yaml
RUN    ?=
PORT   ?= 8080
IP     ?= 127.0.0.1
SET    ?=
RUNS   ?=
FILE   ?=
IMPORT ?=
BIN    := .venv/bin
READY  := .venv/.ready
DEV    := .venv/.dev

# Quotes a value for the shell, as one word: make promote RUN="a; touch x" names a folder.
quote = '$(subst ','\'',$(1))'

.PHONY: help run import params test check bench notebooks compare index serve ask learn playground promote rollback lab scale scale-test scale-bench scale-restart scale-promote scale-rollback scale-index scale-status scale-token lake forget image-test lock clean uninstall
help:  ## list the commands
	@awk -F':.*## ' '/^##@ /{print "\n" substr($$0, 5)} /^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' Makefile

.DEFAULT:
	@echo "error: there is no command 'make $@'. make help lists them." >&2; exit 2

# All cores compile the packages when they are installed. Else each process would compile what it imports wherever
# PYTHONDONTWRITEBYTECODE is set, as in containers. Tests and modules that the workbook rarely imports are left out: they
# would take 0.2 GB and a sixth of the time. compileall skips the templates in packages that are no Python.
RARE := /tests?/|/(testing|babel|databricks|jedi)/|transformers/models/(?!auto|bert/|mpnet|roberta)
define install
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || { echo "error: Python 3.11 to 3.13 is needed; name one: make $(MAKECMDGOALS) PYTHON=python3.11"; exit 1; }
	@echo "Installing the pinned packages into .venv (one to three minutes) …"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -r $(1) -c constraints.txt -e .
	@$(BIN)/python -m compileall -qq -j 0 -x '$(RARE)' .venv/lib || true
endef

$(READY): requirements.txt constraints.txt pyproject.toml
	$(call install,requirements.txt)
	@touch $@

$(DEV): requirements-dev.txt requirements.txt constraints.txt pyproject.toml
	$(call install,requirements-dev.txt)
	@touch $(READY) $@

##@ Make a run
run: $(READY)  ## run notebooks 01 to 05: PARAMS=params/gpu.yaml, SET="epochs=3 batch_size=32", FRESH=1
	@$(BIN)/workbook run $(call quote,$(PARAMS)) $(SET) $(if $(FRESH),--fresh)

import: $(READY)  ## show how FILE=… (a table, a library, a folder of music) is read, and write params/NAME.yaml: IMPORT="--table songs"
	@$(BIN)/workbook import $(call quote,$(or $(FILE),$(error name the file: make import FILE=...))) $(IMPORT)

params: $(READY)  ## list the parameters of all notebooks, with their defaults
	@$(BIN)/workbook params

compare: $(READY)  ## runs side by side, the first as the reference: RUNS="outputs/a 'outputs/my run' …"
	@$(BIN)/workbook compare $(or $(RUNS),$(error name the runs: make compare RUNS="outputs/quick outputs/other"))

##@ Use a run: RUN=outputs/… names it, else it is outputs/current
.PHONY: current
current: $(READY)
	@test -n $(call quote,$(RUN)) || test -e outputs/current || ! test -L outputs/current || { \
	  echo "error: outputs/current leads to $$(readlink outputs/current), which is gone. Name a run: make promote RUN=outputs/..."; exit 1; }
	@test -n $(call quote,$(RUN)) || test -d outputs/current/index || test -d outputs/quick/index || \
	  $(MAKE) --no-print-directory run PARAMS=params/quick.yaml
	@test -n $(call quote,$(RUN)) || test -d outputs/current/index || $(BIN)/workbook promote outputs/quick

serve: current  ## POST /recommend from outputs/current, or RUN=…, on PORT=8080 (makes the quick run if there is none)
	@exec $(BIN)/workbook serve --run $(call quote,$(or $(RUN),outputs/current)) --ip $(call quote,$(IP)) --port $(call quote,$(PORT)) $(if $(NO_TOKEN),--no-token) $(SERVE)

ask: current  ## ask for songs in the terminal: TEXT="sad piano from the 90s"; a service is started where none runs
	@$(BIN)/workbook ask $(call quote,$(or $(value TEXT),$(error name a text: make ask TEXT="sad piano"))) --run $(call quote,$(or $(RUN),outputs/current)) --port $(call quote,$(PORT))

playground: current  ## type a mood, get songs, in a browser: RUN=outputs/… (VOILA="--no-browser --port 8900" for its own options)
	@exec $(BIN)/workbook playground $(call quote,$(or $(RUN),outputs/current)) $(VOILA)

learn: current  ## train the next model on what listeners did, and serve it if it is better: SET="lake=s3://lake/events since=2026-11-30T09"
	@$(BIN)/workbook learn $(call quote,$(or $(RUN),outputs/current)) $(SET)

promote: $(READY)  ## serve RUN=outputs/… from now on: a running make serve follows without a gap
	@$(BIN)/workbook promote $(call quote,$(or $(RUN),$(error name the run: make promote RUN=outputs/...)))

rollback: $(READY)  ## serve the run before again
	@$(BIN)/workbook rollback

index: $(READY)  ## index RUN=outputs/… again with its model: only tracks that are new are embedded; a service follows (INDEX=lists)
	@$(BIN)/workbook index $(call quote,$(or $(RUN),$(error name the run: make index RUN=outputs/...))) $(if $(INDEX),--index $(call quote,$(INDEX)))

lab: $(READY)  ## JupyterLab on the notebooks (LAB="--no-browser --port 8889" for its own options)
	@$(BIN)/jupyter lab --notebook-dir . $(if $(filter 0,$(shell id -u)),--allow-root) $(LAB)

##@ Serve many listeners: the tier, docs/scale.md
SCALE := .venv/.scale
$(SCALE): requirements.txt constraints.txt deploy/scale/requirements.txt deploy/scale/triton-requirements.txt deploy/scale/triton-constraints.txt deploy/scale/events/requirements.txt | $(READY)
	@echo "Installing the engines of the tier (a minute or two) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt -r deploy/scale/requirements.txt -c constraints.txt
	@test -x .venv-triton/bin/python || $(PYTHON) -m venv .venv-triton
	@.venv-triton/bin/python -m pip install --quiet --disable-pip-version-check -r deploy/scale/triton-requirements.txt -c deploy/scale/triton-constraints.txt
	@test -x .venv-events/bin/python || $(PYTHON) -m venv .venv-events
	@.venv-events/bin/python -m pip install --quiet --disable-pip-version-check -r deploy/scale/events/requirements.txt
	@touch $@

scale: $(SCALE)  ## the scaled-out tier on this machine: Envoy, Varnish, workers, Redis, Triton, MLflow, events (SCALE_UP="--replicas 3 --no-events")
	@test -n $(call quote,$(RUN)) || test -d outputs/quick/index || $(MAKE) --no-print-directory run PARAMS=params/quick.yaml
	@$(BIN)/python -m deploy.scale.tier up --port $(call quote,$(PORT)) $(if $(RUN),--run $(call quote,$(RUN))) $(SCALE_UP)

scale-test: $(SCALE) $(DEV)  ## start all of the tier, ask it, kill its parts
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest deploy/scale

scale-bench: $(SCALE) $(DEV)  ## measure the tier beside a plain server: the figures that notebook 07 stands on (half an hour, with wrk)
	@HF_HUB_OFFLINE=1 PYTHONPATH=. $(BIN)/python benchmarks/bench.py $(call quote,$(or $(RUN),outputs/quick)) --only tier

scale-restart: $(SCALE)  ## replace every process of the running tier, one after another, without a lost request
	@$(BIN)/python -m deploy.scale.tier restart

scale-promote: $(SCALE)  ## register RUN=outputs/… and have the running tier serve it
	@$(BIN)/python -m deploy.scale.tier promote $(call quote,$(or $(RUN),$(error name the run: make scale-promote RUN=outputs/...)))

scale-rollback: $(SCALE)  ## have the running tier serve the version before again
	@$(BIN)/python -m deploy.scale.tier rollback

scale-index: $(SCALE)  ## make index by Ray, on several processes or a cluster: RUN=outputs/… BATCH="--encoders 4"
	@$(BIN)/python -m deploy.scale.batch $(call quote,$(or $(RUN),$(error name the run: make scale-index RUN=outputs/...))) $(BATCH)

scale-status: $(SCALE)  ## which processes of the tier run
	@$(BIN)/python -m deploy.scale.tier status

scale-token: $(SCALE)  ## print a listener's token for the tier, good for an hour
	@$(BIN)/python -m deploy.scale.tier token

lake: $(SCALE)  ## write all new events into the lake: for a timer, each hour, beside make scale SCALE_UP=--hourly
	@$(BIN)/python -m deploy.scale.tier lake

forget: $(SCALE)  ## remove a listener's SESSION=… from the log, the lake and the features of the running tier
	@$(BIN)/python -m deploy.scale.tier forget $(call quote,$(or $(SESSION),$(error name the session: make forget SESSION=...)))

##@ Change the workbook: CONTRIBUTING.md
.PHONY: lint
lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

check: lint  ## lint and the tests that need no trained model: after every change
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 $(BIN)/python -m pytest tests -n 2 -m "not slow"

test: lint  ## lint, unit tests, every notebook, the service
	@# The notebooks, one by one, beside two files of tests at a time, with a thread each for PyTorch.
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 $(BIN)/python -m pytest notebooks tests -n 3 --dist loadfile --no-loadscope-reorder \
	  --nbval-lax --nbval-sanitize-with tests/sanitize.cfg --nbval-cell-timeout 600

notebooks: $(DEV)  ## execute the notebooks as they are and keep their outputs: after a change that is meant to change them
	@HF_HUB_OFFLINE=1 $(BIN)/python tests/refresh_notebooks.py $(NOTEBOOKS)

bench: $(DEV)  ## one table of what everything costs, an hour, 25 GiB of disk, with wrk: BENCH="--quick", BENCH="outputs/own --only encoders service"
	@HF_HUB_OFFLINE=1 $(BIN)/python benchmarks/bench.py $(BENCH)

image-test:  ## build the image without Docker, start it, ask it, run its tests: with buildah and debootstrap, 15 minutes
	$(PYTHON) deploy/prove_image.py

lock: $(DEV)  ## write constraints.txt from what is installed
	@{ sed -n 1p constraints.txt; $(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu$$//'; } > constraints.new && mv constraints.new constraints.txt

##@ Remove
clean:  ## remove the environments (the runs in outputs/ stay)
	rm -rf .venv .venv-triton .venv-events

CACHE = $(or $(if $(filter Darwin,$(shell uname)),$(HOME)/Library/Caches),$(XDG_CACHE_HOME),$(HOME)/.cache)/music-workbook
uninstall: clean  ## clean, and remove the base models that came from the package index
	rm -rf music_workbook.egg-info .pytest_cache .ruff_cache $(call quote,$(CACHE))
	@echo "These stay: outputs/ (your runs), params/, and ~/.cache/huggingface (models, which other programs share). docs/install.md says more."
