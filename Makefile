# The two commands of the README are `make demo` and `make test`. Both set the machine up themselves, and say
# what they install before they do. `make check` is what CI asks of every change.
SHELL := /bin/sh
PYTHON := .venv/bin/python
ORCHESTRATOR := $(PYTHON) -m orchestrator
PYTEST_ARGS ?=

.PHONY: demo test check fuzz bench guest-conformance format clean setup-demo setup-test setup-check

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
	@$(PYTHON) tests/fuzz/fuzz_image.py -max_total_time=600

bench: setup-demo
	@for bench in bench/bench_*.py; do $(PYTHON) "$$bench" || exit 1; done

# How far a rehearsal agrees with the real kernel (docs/guest.md). NANOS: a Nanos release, or where a kernel was built.
guest-conformance: setup-check
	@$(PYTHON) -m tests.guest.conformance "$(or $(NANOS),$(error NANOS=DIR: a directory with kernel.img and boot.img))" $(ARGS)

format: setup-check
	@$(PYTHON) -m ruff check --fix . && $(PYTHON) -m ruff format .

clean:
	@if [ -x $(PYTHON) ]; then $(ORCHESTRATOR) clean || true; fi
	rm -rf target dist .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis

setup-demo setup-test setup-check: setup-%:
	@sh .ci/setup $*
