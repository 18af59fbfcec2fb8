# The two commands of the README are `make demo` and `make test`. Both set the machine up themselves, and say
# what they install before they do. `make check` is what CI asks of every change.
SHELL := /bin/sh
PYTHON := .venv/bin/python
ORCHESTRATOR := $(PYTHON) -m orchestrator
PYTEST_ARGS ?=

.PHONY: demo test check fuzz bench format clean setup-demo setup-test setup-check

demo: setup-demo
	@PYTHON=$(PYTHON) sh examples/demo.sh

test: setup-test
	@$(PYTHON) -m pytest $(PYTEST_ARGS)

check: setup-check
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m ruff format --check .
	@$(PYTHON) -m mypy

fuzz: setup-test
	@$(PYTHON) -m pip install --quiet -e '.[fuzz]'
	@for target in image archives terminal; do $(PYTHON) -m tests.fuzz.fuzz_$$target -max_total_time=600 || exit 1; done

bench: setup-demo
	@for bench in bench/bench_*.py; do $(PYTHON) "$$bench" || exit 1; done

format: setup-check
	@$(PYTHON) -m ruff check --fix . && $(PYTHON) -m ruff format .

clean:
	@if [ -x $(PYTHON) ]; then $(ORCHESTRATOR) clean || true; fi
	rm -rf target dist .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis

setup-demo setup-test setup-check: setup-%:
	@sh .ci/setup $*
