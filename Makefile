# Every target makes the virtual environment it needs. Arguments for pytest: make bench ARGS="-k sdpa --threads=2"
PYTHON ?= python3
VENV ?= .venv
ARGS ?=
RUN = $(VENV)/bin/python -m
# pip would compile all of torch, which takes a minute; Python compiles what it imports, once, if it may keep that.
PIP = pip install --quiet --no-compile --requirement
unexport PYTHONDONTWRITEBYTECODE
# The cores that this may use; auto counts those that the machine has.
WORKERS ?= $(shell nproc 2>/dev/null || echo auto)

.PHONY: install install-gpu install-history bench demo study test test-instruction-sets test-history lint format clean

install: $(VENV)/ready

install-gpu: $(VENV)/ready-gpu

install-history: $(VENV)-history/ready

bench: $(VENV)/ready
	$(RUN) pytest $(ARGS) bench/ --benchmark-compare

demo: $(VENV)/ready
	$(RUN) bench demo $(ARGS)

study: $(VENV)/ready
	$(RUN) bench study $(ARGS)

test: $(VENV)/ready
	$(RUN) pytest -n $(WORKERS) --dist=worksteal $(ARGS) tests/

# The kernels' tests and the gate under each of default, avx2 and avx512 that the CPU has.
test-instruction-sets: $(VENV)/ready
	$(VENV)/bin/python tests/each_instruction_set.py $(WORKERS)

# Apache Otava pins other versions of numpy and scipy, so it has an environment of its own; the history needs no torch.
test-history: $(VENV)-history/ready
	$(VENV)-history/bin/python -m pytest -W error --noconftest tests/history/test_steps.py
	$(VENV)-history/bin/python -m bench history --html=reports/history.html

lint: $(VENV)/ready
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy
	$(VENV)/bin/zizmor --offline --pedantic --strict-collection --quiet .github
	$(VENV)/bin/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(VENV)/bin/check-jsonschema --quiet --builtin-schema vendor.dependabot .github/dependabot.yml

format: $(VENV)/ready
	$(RUN) ruff check --fix .
	$(RUN) ruff format .

clean:
	rm -rf $(VENV) $(VENV)-history .hypothesis .mypy_cache .pytest_cache .ruff_cache

# The stamp comes last, so that an installation cut short is done again.
$(VENV)/ready: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN) $(PIP) requirements.txt
	touch $@

$(VENV)/ready-gpu: requirements-gpu.txt $(VENV)/ready
	$(RUN) $(PIP) requirements-gpu.txt
	touch $@

$(VENV)-history/ready: requirements-history.txt
	$(PYTHON) -m venv $(VENV)-history
	$(VENV)-history/bin/python -m $(PIP) requirements-history.txt
	touch $@
