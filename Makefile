# Two commands: `make demo` and `make test`. Each sets up all it needs in .venv, once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
OUT ?= runs/demo

.PHONY: demo test check clean

demo: $(READY)
	$(BIN)/secondary-sinks run smollm2-135m --out $(OUT)

test: $(READY)
	$(BIN)/python -m pytest

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The lock pins every package, so pip resolves nothing. Where the wheel of torch needs CUDA
# libraries that the lock does not hold, they are added afterwards.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 13) else "the lock file is for Python 3.11 to 3.13, but $(PYTHON) is %d.%d; use: make PYTHON=python3.12" % v)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@$(BIN)/python -c 'import torch' 2>/dev/null || $(BIN)/python -m pip install --quiet torch==2.13.0
	@touch $@

clean:
	rm -rf $(VENV) runs build *.egg-info
