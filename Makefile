# Every target sets itself up: a virtual environment in .venv, from the lock, on a machine with only Python.
PYTHON ?= python3
BIN := .venv/bin
# One file per lock and project file: the set-up runs again only when one of them changes.
READY := .venv/.ready-$(shell cat requirements.lock pyproject.toml | cksum | cut -d' ' -f1)

.PHONY: demo test test-fast check docs lock clean

demo: $(READY)  ## train on scenes of handwritten digits, evaluate, predict, look (under five minutes)
	$(BIN)/python examples/digits.py --out demo-output

test: $(READY)  ## all tests, the slow ones too
	$(BIN)/python -m pytest -q -n 2

test-fast: $(READY)  ## the tests that take seconds
	$(BIN)/python -m pytest -q -n 2 -m "not slow"

check: $(READY)  ## style, types, layers, spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

docs: $(READY)  ## write the generated pages
	$(BIN)/q2l config --docs > docs/configuration.md

lock: $(READY)  ## resolve the tested versions anew
	$(BIN)/pip install -q uv
	$(BIN)/uv pip compile pyproject.toml --all-extras --constraint constraints.txt --generate-hashes \
	  --python-version 3.11 --no-emit-index-url --no-annotate --no-header --upgrade -o requirements.lock

clean:
	rm -rf .venv demo-output

$(READY): requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	rm -f .venv/.ready-*
	touch $@
