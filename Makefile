# setup: a virtual environment with everything, pinned.   table: the main table, on built-in data.
# test: the whole test suite.   lint: formatting, lint, types.   doctor: what is missing here.
# site: the documentation, into site/.   course: the notebooks, executed anew.
PYTHON ?= python3
SKIPPED = '/tests?/|transformers/models/|/(moto|openai|pip|mypy)/'
VENV ?= .venv
RUN = $(VENV)/bin/python -W ignore -m neurosearch

.PHONY: setup table test lint doctor site course expected experiments results

setup: $(VENV)/installed

# The pip that Python 3.11 brings takes twice as long as a later one.
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --upgrade "pip>=25"
	$(VENV)/bin/pip install --quiet --no-compile -e ".[dev]" -c constraints.txt
	touch $@

# Many processes start in the tests. On all cores; pip compiles on one. What is large and hardly
# imported is compiled when it is. A package's own broken files are no reason to stop.
$(VENV)/compiled: $(VENV)/installed
	$(VENV)/bin/python -m compileall -qq -j 0 -x $(SKIPPED) $(VENV)/lib || true
	touch $@

table: setup
	$(RUN) -m experiment=baselines

# A worker a core, so a thread a worker.
test: setup $(VENV)/compiled
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n auto

lint: setup
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

doctor: setup
	$(RUN) task=doctor

site: setup
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/python -m mkdocs build --quiet
	@echo "to read: site/index.html"

course: setup
	$(VENV)/bin/python docs/making/execute.py

# Maintainers: the toy numbers that the tests replay, and the published tables.
expected: setup
	UPDATE_EXPECTED=1 $(VENV)/bin/python -m pytest tests/test_experiments.py

# The toy tier of all experiments, as the tests replay it; says how long each took.
experiments: setup
	$(VENV)/bin/python -m pytest -n auto --durations=0 --durations-min=1 tests/test_experiments.py

DATA ?= shop
results: setup
	for name in $(notdir $(basename $(wildcard conf/experiment/*.yaml))); do \
	  $(RUN) -m experiment=$$name data=$(DATA) report.publish=experiments/$$name/results || exit 1; \
	done
	$(VENV)/bin/python experiments/overview.py
	$(VENV)/bin/python experiments/claims.py
	$(VENV)/bin/python experiments/changed.py
