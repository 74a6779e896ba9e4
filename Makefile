# Two commands: `make demo` and `make test`. Each sets up all it needs in .venv, once.
# `make test-all` also runs the further cases of what `make test` proves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
NEXT := .venv-tl4
NEXT_READY := $(NEXT)/.ready
OUT ?= runs/demo
# `make results`: the model (alias, folder, GGUF file or hub name), the texts, what pages call the
# model, and options of experiments.all, such as OPTIONS=--observing for a large model. Without a
# MODEL: SmolLM2 on a sample of the texts that takes less than an hour, instead of most of a day.
MODEL ?= smollm2-135m
TEXTS ?= bundled:claims
NAME ?= $(patsubst %.gguf,%,$(notdir $(patsubst %/,%,$(MODEL))))
OPTIONS ?= $(if $(filter file,$(origin MODEL)),--every 4 --max-tokens 400)
RESULTS ?= runs/results/$(NAME)
# Tests in as many processes as there are cores, one thread each; see tests/conftest.py for which
# tests stay in one process.
PYTEST := -m pytest --numprocesses auto --dist loadscope --no-loadscope-reorder
TYPICAL := -m "not exhaustive"
# GGUF files are read and compared before TransformerLens has a part.
WITHOUT_LENS := --ignore=tests/models/gguf

# Compiled modules are kept, whatever the caller's environment says: tests start many processes.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test test-all test-tl4 check docs results clean

demo: $(READY)
	$(BIN)/secondary-sinks run smollm2-135m --max-tokens 400 --out $(OUT)

test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python $(PYTEST) $(TYPICAL)

test-all: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python $(PYTEST)

# Models and observation again, with the newest TransformerLens 4, which has bridges only.
test-tl4: $(NEXT_READY)
	OMP_NUM_THREADS=1 $(NEXT)/bin/python $(PYTEST) $(TYPICAL) $(WITHOUT_LENS) tests/layerwise tests/models tests/observation

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Every experiment on one model, the pages that tell what came out, in docs/results/NAME, and the
# table of claims of all models. Says
# first what it costs, and goes on where it stopped. Results of other weights, texts or code are
# refused by name; OPTIONS=--force replaces them.
results: $(READY)
	$(BIN)/python -m experiments.all --model $(MODEL) --texts $(TEXTS) --name $(NAME) --out $(RESULTS) $(OPTIONS)
	$(BIN)/python -m experiments.pages $(RESULTS) --out docs/results --site mkdocs.yml

# The documentation site, into site/index.html; warnings are errors.
docs: $(READY)
	$(BIN)/python -m zensical build --clean --strict

# The lock pins every package and its files, so pip resolves nothing and takes no other file. A torch
# that lies in a folder of pip's own find-links goes first: that may be the small one without CUDA,
# and pip would rather take one from the index. Where the wheel of torch needs CUDA libraries that
# the lock does not hold, they are added afterwards.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 13) else "the lock file is for Python 3.11 to 3.13, but $(PYTHON) is %d.%d; use: make PYTHON=python3.12" % v)'
	$(PYTHON) -m venv $(VENV)
	@awk '/^[^ #]/ {here = /^torch==/} here' requirements.lock > $(VENV)/torch.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-index -r $(VENV)/torch.lock 2>/dev/null || true
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@$(BIN)/python -c 'import torch' 2>/dev/null || $(BIN)/python -m pip install --quiet torch==2.13.0
	@touch $@

# A second environment that sees the packages of the first, behind its own TransformerLens.
$(NEXT_READY): $(READY)
	$(PYTHON) -m venv $(NEXT)
	$(NEXT)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps 'transformer-lens>=4,<5'
	@$(NEXT)/bin/python -c 'import sysconfig, pathlib; own = sysconfig.get_path("purelib"); \
		pathlib.Path(own, "first.pth").write_text(own.replace("/$(NEXT)/", "/$(VENV)/") + "\n")'
	@touch $@

clean:
	rm -rf $(VENV) $(NEXT) runs build site .cache *.egg-info
