# The interpreter that makes .venv: make test PYTHON=python3.12
PYTHON ?= python3
PIP_FLAGS = --disable-pip-version-check --constraint constraints.txt
VENV = .venv
READY = $(VENV)/.ready

.PHONY: demo test test-slow lint meta-vqa-check bench clean

# A prompt counts only when given to make itself: some shells keep an unrelated PROMPT in the environment.
demo: $(READY)
	$(VENV)/bin/python recipes/demo.py $(if $(filter command,$(origin PROMPT)),"prompt=$$PROMPT")

test: $(READY)
	$(VENV)/bin/python -m pytest

test-slow: $(READY)
	$(VENV)/bin/python -m pytest -m slow

lint: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy weightgen

meta-vqa-check: $(READY)
	$(VENV)/bin/python -m pytest -s tests/data/test_meta_vqa_golden.py

# Needs no data and no training; BENCH passes settings on: make bench BENCH="sizes=[scenes] threads=4"
bench: $(READY)
	$(VENV)/bin/python recipes/bench.py $(BENCH)

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache

# The stamp is removed first and made last, so an interrupted installation starts afresh the next time.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: weightgen needs Python 3.11 \
	or newer, $(PYTHON) is " + sys.version.split()[0] + "; write: make PYTHON=/path/to/python3.11 ...")'
	@test -e $@ || rm -rf $(VENV)
	@rm -f $@
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install $(PIP_FLAGS) --editable '.[dev]'
	@touch $@
