# make demo    install into .venv and run the main job on the embedded simulated field
# make test    lint and all tests, the slow ones too
# make test EXTRAS=ci    the same with every package installed that a test can use; so it is wherever CI is set
# make test-lowest    the quick tests with the lowest versions that pyproject.toml declares
# make PYTHON=python3.12 ...    another interpreter (3.11 or newer)

PYTHON ?= python3
# Installed in addition to `test`. One name or several with commas, as in EXTRAS=docs,notebooks.
EXTRAS ?= $(if $(filter-out 0 false,$(CI)),ci,test)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed-$(EXTRAS)
LOWEST := .venv-lowest

# Where this is set, every start of Python would compile what it imports anew: 5 s for each program that a test starts.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: venv demo test test-lowest lint bench validate notebooks docs clean

venv: $(STAMP)

# The package is installed editable, so only a change of its metadata calls for a new environment.
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "massmap_jax needs Python 3.11 or newer: make PYTHON=python3.12"; exit 1; }
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	# The pip that comes with Python may be old, and take twice as long over what follows.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	# Not compiled: what is imported compiles itself, and most of what comes along never is.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --editable '.[test,$(EXTRAS)]'
	# Whatever the extras, it is the environment for `test` as well.
	touch $(VENV)/.installed-test $(STAMP)

demo: $(STAMP)
	$(BIN)/massmap-jax demo --out demo_output --overwrite

lint: $(STAMP)
	$(BIN)/ruff check .

# Two workers: most of a test's time is compilation, which uses one core. Files stay whole, for their fixtures.
PYTEST_OPTIONS := -n 2 --dist loadfile --no-loadscope-reorder --durations 25

test: lint
	$(BIN)/python -m pytest $(PYTEST_OPTIONS)

# By uv, which names what conflicts where pip tries ever older versions of other packages.
$(LOWEST)/.installed: pyproject.toml
	rm -rf $(LOWEST)
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check uv
	$(LOWEST)/bin/python scripts/lowest_versions.py test > $(LOWEST)/lowest.txt
	# Only what pyproject.toml names is held down; what comes along with it is the newest that fits, as for a user.
	$(LOWEST)/bin/uv pip install --quiet --python $(LOWEST) --constraint $(LOWEST)/lowest.txt --editable '.[test]'
	touch $(LOWEST)/.installed

test-lowest: $(LOWEST)/.installed
	$(LOWEST)/bin/python -m pytest $(PYTEST_OPTIONS) -m 'not slow'

# The programs import what the benchmarks share, and the references of the tests.
bench: export PYTHONPATH := benchmarks:tests
bench: $(STAMP)
	$(BIN)/python -m pytest benchmarks/bench_*.py --benchmark-only -s
	$(BIN)/python benchmarks/programs/fit_speed.py
	$(BIN)/python benchmarks/programs/surface_speed.py
	$(BIN)/python benchmarks/programs/stream_speed.py
	$(BIN)/python benchmarks/programs/map_speed.py
	$(BIN)/python benchmarks/programs/map_forms_speed.py
	$(BIN)/python benchmarks/programs/scaling.py
	$(BIN)/python benchmarks/programs/lensing_speed.py
	$(BIN)/python benchmarks/programs/first_result.py

# docs/validation.md from scratch, under an hour on two cores; a dry run: VALIDATE='--quick --output FOLDER'.
validate: export PYTHONPATH := benchmarks:tests
validate: $(STAMP)
	$(BIN)/python -m validate $(VALIDATE)

# Needs the extra `notebooks`.
notebooks: $(STAMP)
	$(BIN)/python scripts/execute_notebooks.py

# Needs the extra `docs`. Warnings of Sphinx are errors.
docs: $(STAMP)
	$(BIN)/python -m typer massmap_jax.cli utils docs --name massmap-jax --output docs/api/command_line.md
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build

clean:
	rm -rf $(VENV) $(LOWEST) demo_output docs/_build .pytest_cache .ruff_cache .mypy_cache .benchmarks build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
