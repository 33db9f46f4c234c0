# `make demo` and `make test` work in a fresh clone: each makes .venv with the pinned dependencies if it is not there.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: demo test test-slow test-peer check format benchmark clean

demo: $(READY)
	$(BIN)/python -m striate.cli.demo

test: $(READY)
	$(BIN)/python -m pytest -q -n 2 -m "not slow and not gpu and not peer"

test-slow: $(READY)
	$(BIN)/python -m pytest -q -m slow

# Against torchvision, timm and OpenCV, which it installs first.
test-peer: $(VENV)/.peers
	$(BIN)/python -m pytest -q -n 2 -m "peer and not slow"

$(VENV)/.peers: peers.txt $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r peers.txt
	touch $@

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) runs
