# The two commands of the README are `make demo` and `make test`. Both set the machine up themselves, and say
# what they install before they do. `make check` is what CI asks of every change.
SHELL := /bin/sh
PYTHON := .venv/bin/python
ORCHESTRATOR := $(PYTHON) -m orchestrator
# Two workers, the longest tests first; which tests share a worker: tests/conftest.py.
PYTEST_ARGS ?= -n 2 --dist loadscope --no-loadscope-reorder

# Container images of Python set it; hundreds of commands are started here, and each would compile every module anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-quick test-strangers test-engines test-vm test-report test-pythons check docs proto fuzz bench bench-quick bench-report bench-fleet bench-fleet-report check-manifests report-pictures screens kill-test guest-conformance format clean setup-demo setup-test setup-strangers setup-report setup-check

demo: setup-demo
	@PYTHON=$(PYTHON) sh examples/demo.sh

test: setup-test
	@$(PYTHON) -m pytest $(PYTEST_ARGS)

# For a newcomer: no engine, no root, nothing installed but Python packages (and gcc, which most machines have).
QUICK := tests/containerfile tests/elf tests/engine tests/fuzz tests/nanos/gpu tests/image tests/lock tests/nanos/manifest tests/project \
	tests/build/test_second_kind.py tests/provenance tests/receipt tests/report tests/reproduce/test_causes.py tests/run/node tests/run/sandbox tests/staging tests/nanos/verify tests/web tests/cli $(wildcard tests/test_*.py)

test-quick: setup-check
	@$(PYTHON) -m pytest -n 2 --dist loadscope -m "not engine and not slow and not sandbox" $(QUICK)

check: setup-check
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m ruff format --check .
	@$(PYTHON) -m mypy
	@$(PYTHON) -m tests.support.machine_code

# Projects of strangers, from `init` to the right answer; writes docs/strangers.md. The first run takes half an hour.
# ONLY="halo2 or dockerfile": those alone, by the names of their folders in tests/strangers. ENGINE=docker: on Docker.
test-strangers: setup-strangers
	@ENGINE=$(ENGINE) nice $(PYTHON) -m pytest -v tests/strangers/matrix.py $(if $(ONLY),-k "$(ONLY)")

fuzz: setup-test
	@$(PYTHON) -m pip install --quiet -e '.[fuzz]'
	@for target in image archives terminal; do $(PYTHON) -m tests.fuzz.fuzz_$$target -max_total_time=600 || exit 1; done

# Builds killed at random moments (tests/kills): N kills in all, on ENGINES of "private podman docker"; SEED repeats a run,
# RECORD=docs/engines.md writes it down.
kill-test: setup-test
	@$(PYTHON) -m tests.kills.harness --kills $(or $(N),60) $(if $(SEED),--seed $(SEED)) \
		$(if $(RECORD),--record $(RECORD)) $(ENGINES)

# Engines of Debian's releases, made by mmdebstrap (docs/engines.md): all scenarios on each, then the page's table of it.
# ONLY=podman-sid: a part; ROUNDS=20: so many builds stopped beside another. As root, with 10 GB of disk and an hour.
# EDITS=100 SEED=7: so many builds after random edits, and a sequence once more. A part that ONLY leaves empty is none.
TOGETHER := (docker-sid or podman-trixie or podman-sid) and not rootless and not ssh
EDITED := docker and not rootless and not tls and not context and not ssh
test-engines: setup-test
	@status=5; run() { $(PYTHON) -m pytest -n 0 -v -p no:cacheprovider "$$@" || { code=$$?; \
		[ $$code -eq 5 ] || status=$$code; return 0; }; [ $$status -ne 5 ] || status=0; }; \
	run tests/engines/matrix.py $(if $(ONLY),-k "$(ONLY)"); \
	run tests/engines/together.py -k "$(or $(ONLY),$(TOGETHER))"; \
	run tests/engines/edits.py -k "$(or $(ONLY),$(EDITED))"; \
	$(PYTHON) -m tests.engines.record && exit $$status

# The same scenarios in a virtual machine of Debian's packages, with systemd, on the engines as Debian sets them up.
# ONLY=podman: a part. As root, with 6 GB of disk; by QEMU's emulation, so some 13 minutes an engine.
test-vm: setup-test
	@status=0; \
	$(PYTHON) -m pytest -n 0 -v -s -p no:cacheprovider tests/engines/virtual.py $(if $(ONLY),-k "boots or $(ONLY)") || status=$$?; \
	$(PYTHON) -m tests.engines.record virtual && exit $$status

# The tests without engines on the Pythons of Debian 13 and sid (3.13, 3.14), in roots made by mmdebstrap; as root.
# ARGS="sid -- tests/elf": one of them, and what pytest gets.
test-pythons: setup-test
	@$(PYTHON) -m tests.pythons.suite $(ARGS)

# Against the same by hand (docs/performance.md). ARGS: one measurement, such as "pack --mib 8192 --kind sparse" (--help
# has them all); without, every one: hours. bench-quick: the tables that matter most, in some ten minutes.
bench: setup-test
	@$(PYTHON) -m bench $(or $(ARGS),full)

bench-quick: setup-test
	@$(PYTHON) -m bench quick $(ARGS)

# docs/performance.md and its plots, of the runs so far: those that are kept (bench/results), and this machine's. Of two
# runs of the same, the later one counts.
bench-report:
	@$(PYTHON) -m pip install --quiet -e '.[bench]'
	@$(PYTHON) -m bench report $(or $(RUNS),$(wildcard bench/results/*.json target/bench*.json))

# Fleets under load (docs/scale.md): builds that sleep, then, as root, real ones on machines that are lost; a quarter of an
# hour. bench-fleet-report: the page's figures and plot, of what these wrote.
bench-fleet: setup-test
	@$(PYTHON) -m bench.fleet sleeps && $(PYTHON) -m bench.fleet lost && $(PYTHON) -m bench.fresh podman && $(PYTHON) -m bench.fresh docker

bench-fleet-report:
	@$(PYTHON) -m pip install --quiet -e '.[bench]'
	@$(PYTHON) -m bench.fleet report

# What `fleet manifests` prints, against Kubernetes' own schemas.
check-manifests: setup-check
	@$(PYTHON) -m pip install --quiet 'kubernetes-validate>=1.37'
	@$(ORCHESTRATOR) fleet manifests --image registry.example/orchestrator:1 --label gpu --gpus 1 --web >target-manifests.yaml
	@$(PYTHON) -m kubernetes_validate --strict target-manifests.yaml; status=$$?; rm -f target-manifests.yaml; exit $$status

# The page of `report` in headless Chromium, and the pictures of docs/report.md. Not part of `make test`: Chromium alone
# takes half a minute to install, and 400 MB.
test-report: setup-report
	@$(PYTHON) -m pip install --quiet -e '.[report,browser]'
	@$(PYTHON) -m pytest -n 0 -v -s -p no:cacheprovider tests/report/browser.py

report-pictures: setup-report
	@$(PYTHON) -m pip install --quiet -e '.[report,browser]'
	@$(PYTHON) bench/report_pictures.py docs/report

# The pictures of docs/terminal.md, of builds on ENGINE.
screens: setup-test
	@$(PYTHON) bench/screens.py --engine $(or $(ENGINE),auto) docs/terminal

# How far a rehearsal agrees with the real kernel (docs/guest.md). NANOS: a Nanos release, or where a kernel was built.
guest-conformance: setup-check
	@$(PYTHON) -m tests.guest.conformance "$(or $(NANOS),$(error NANOS=DIR: a directory with kernel.img and boot.img))" $(ARGS)

format: setup-check
	@$(PYTHON) -m ruff check --fix . && $(PYTHON) -m ruff format .

# What is generated from the models; tests fail when it is not up to date.
docs: setup-check
	@$(PYTHON) -c 'from orchestrator.project.reference import markdown; print(markdown(), end="")' >docs/project-yaml.md.new
	@mv docs/project-yaml.md.new docs/project-yaml.md
	@$(PYTHON) -c 'from orchestrator.receipt.schema import json_schema_text; print(json_schema_text(), end="")' >manifests/receipt.schema.json.new
	@mv manifests/receipt.schema.json.new manifests/receipt.schema.json
	@$(PYTHON) -c 'from orchestrator.cli.event_lines import markdown; print(markdown(), end="")' >docs/events.md.new
	@mv docs/events.md.new docs/events.md
	@$(PYTHON) -m tests.guest.page
	@$(PYTHON) -m tests.engine.capabilities_page

# The generated messages of every .proto file, with their types.
proto: setup-check
	@for proto in $$(git ls-files '*.proto'); do \
		$(PYTHON) -m grpc_tools.protoc -I. --python_out=. --mypy_out=. --plugin=protoc-gen-mypy=.venv/bin/protoc-gen-mypy "$$proto" || exit 1; \
	done

clean:
	@if [ -x $(PYTHON) ]; then $(ORCHESTRATOR) clean || true; fi
	rm -rf target dist .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis

setup-demo setup-test setup-strangers setup-report setup-check: setup-%:
	@sh .ci/setup $*
