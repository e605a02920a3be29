# What can be done in a clone; every target makes what it needs. `make help` lists them.
#
#   ARGS=...      passed on: make lab ARGS=--no-browser, make unit ARGS="tests/data -k bom"
#   PYTHON=...    the Python to build .venv with (default: the first of 3.11 to 3.13 found)
#   PIP_ARGS=...  for pip: make lab PIP_ARGS="--extra-index-url ..." takes torch's CPU build, which
#                 is 0.2 GB instead of 3; pytorch.org names its index;
#                 PIP_ARGS="-c constraints.txt" takes the versions that the tests last ran with

VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check --no-input
JOBS ?= 2

# The environment knows where the clone lies; a clone that was moved installs itself again.
HERE := $(shell pwd | cksum | cut -d' ' -f1)
READY := $(VENV)/.ready-$(HERE)

# One thread each and two at a time: on a busy machine, threads that wait for each other lose
# more than they gain. The tests have a home of their own and never touch yours.
QUIETLY := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive TOKENIZERS_PARALLELISM=false
PYTEST := $(QUIETLY) $(PY) -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder
LESSONS := --nbval-lax --nbval-current-env --nbval-cell-timeout=300

.DEFAULT_GOAL := help
.PHONY: recorded help lab quick core test test-all smollm2 unit lessons seeds browser notebooks check style types bench \
  sweeps scale lowest panel effects budgets fresh memory-report known-steps gpu fuzz breakages dist lock site playground clean

help:  ## list what can be done
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

lab: $(READY)  ## install what is missing and open the lessons in JupyterLab
	@$(VENV)/bin/ftkit lab $(ARGS)

# What each of these three guards is in CONTRIBUTING.md.

quick: check  ## the inner loop, at most a minute: style, types, rooms, tests that need no torch
	$(PYTEST) -m "quick and not heavy" $(ARGS)

# The trainer by itself, without lessons, panel, interview, memory and processes of their own.
CORE := $(addprefix tests/,base data model engine evaluate) $(addprefix tests/experiment/test_, \
  comparison.py ends.py experiment.py mitigations.py requests.py run.py store_query.py)

core: $(READY)-test  ## data, model, training and evaluation: at most two minutes
	$(PYTEST) -m "not seeds and not slow and not smollm2" $(CORE) $(ARGS)

test: check  ## everything that guards the code, but the pages in a browser: 12 to 15 minutes
	$(PYTEST) -m "not seeds and not slow" $(LESSONS) tests notebooks $(ARGS)

# The lessons run once: at full length they stand in for their smoke tier.
test-all: smollm2  ## and pages, the lessons at full length, the real LLM, all seeds: about 50 minutes
	FTKIT_LESSONS=full $(MAKE) test
	$(MAKE) browser
	$(MAKE) seeds

smollm2: $(READY)-test
	FTKIT_HOME=.cache/home $(VENV)/bin/ftkit fetch smollm2 || true

unit: $(READY)-test  ## some tests: make unit ARGS="tests/data -k bom"
	$(PYTEST) $(ARGS)

seeds: $(READY)-test  ## the slow tests, and seeds 1 and 2 of bug zoo, clinic, proofs, mitigations
	$(PYTEST) -m "seeds or slow" tests $(ARGS)

lessons: smollm2  ## every lesson at full length, strict, some with their section on SmolLM2
	FTKIT_LESSONS=full $(PYTEST) $(LESSONS) notebooks

browser: $(READY)-test  ## what a page shows: a real JupyterLab, where a Chromium is installed
	$(PYTEST) tests/browser $(ARGS)

check: $(READY)-test types  ## style, types, and whether the notebooks are built from their sources
	$(PY) -m ruff check .
	$(PY) notebooks/build.py --check

style: $(READY)-test  ## advice on the prose and length of lessons; it never fails (ARGS=02)
	$(PY) tests/lessons/style.py $(ARGS)

# The interpreter under .venv has no third-party packages, so they are not resolved: 15 s, not 500.
types: $(READY)-test  ## basedpyright over ftkit/
	$(VENV)/bin/basedpyright --pythonpath "$$($(PY) -c 'import sys; print(sys._base_executable)')"

notebooks: $(READY)-test  ## build notebooks/*.ipynb from notebooks/src
	$(PY) notebooks/build.py

bench: $(READY)-test  ## the speed of training against others, half an hour (ARGS="speed --quick")
	$(PY) tests/benchmarks/bench.py $(or $(ARGS),all)

sweeps: $(READY)-test  ## eight learning rates against eight plain runs, ten minutes (ARGS=--quick)
	$(PY) tests/benchmarks/sweeps.py $(ARGS)

scale: $(READY)-test  ## sweeps on real clusters of this machine, Dask and Ray, which it installs
	$(PIP) install $(PIP_ARGS) -e '.[test,ray]'
	RAY_USAGE_STATS_ENABLED=0 $(QUIETLY) $(PY) -m pytest tests/experiment/test_clusters.py $(ARGS)

# In an environment of its own, which takes 8 GB with the torch of PyPI: UV_ARGS="--index ..." names
# another. Left out are tests that take many minutes, and those that limit the address space, which
# the CUDA libraries of that torch fill.
LOWEST := .venv-lowest
ALSO_LOWEST := tests/cli/test_commands.py tests/notebook/test_to_script.py \
  tests/notebook/test_scripts_repeat_runs.py tests/memory_use/test_footprint.py \
  tests/experiment/test_preferences.py

lowest: $(LOWEST)/.ready  ## the core tests on the lowest versions that pyproject.toml states
	$(QUIETLY) $(LOWEST)/bin/python -m pytest -n $(JOBS) --dist loadfile \
	  -m "not slow and not seeds and not smollm2" $(CORE) $(ALSO_LOWEST) $(ARGS)

$(LOWEST)/.ready: pyproject.toml | $(PY)
	$(PY) -m venv --clear $(LOWEST)
	$(LOWEST)/bin/python -m pip --disable-pip-version-check install -q uv
	VIRTUAL_ENV=$(LOWEST) $(LOWEST)/bin/uv pip install $(UV_ARGS) --resolution lowest-direct \
	  -e '.[test]'
	@touch $@

panel: $(READY)-test  ## how the what-if panel feels: first point, 60 steps, what drawing costs
	$(QUIETLY) $(PY) tests/benchmarks/panel.py $(ARGS)

effects: $(READY)-test  ## what fine-tuning does to the embedded model, a quarter of an hour
	$(PY) tests/benchmarks/effects.py $(ARGS)

fresh: $(READY)-test  ## the claims of the lessons on seeds 200 and up, half an hour
	$(QUIETLY) $(PY) tests/benchmarks/fresh_seeds.py $(ARGS)

budgets: $(READY)-test  ## processor seconds of what should be cheap, against what they may take
	$(QUIETLY) $(PY) tests/benchmarks/budgets.py $(ARGS)

memory-report: $(READY)-test  ## predicted against measured memory, ten minutes (ARGS=--quick)
	$(QUIETLY) $(PY) tests/benchmarks/memory_report.py $(ARGS)

gpu: $(READY)-test  ## on a CUDA device: tests, lessons, memory, speed (ARGS="memory" or --dry)
	$(PY) tests/benchmarks/gpu.py $(ARGS)

fuzz: $(READY)-test  ## 100,000 random inputs for each parser of outside input, some minutes
	$(QUIETLY) $(PY) tests/fuzz.py $(or $(ARGS),100000)

breakages: $(READY)-test  ## break one line of code after another; a test must fail each time
	$(QUIETLY) $(PY) tests/breakages.py $(ARGS)

known-steps: $(READY)-test  ## the traced steps in the package that answer ftkit memory at once: an hour
	@$(QUIETLY) $(PY) data_samples/recipe/known_steps.py

# The words behind `recorded` are names of experiments and not targets.
ifeq (recorded,$(firstword $(MAKECMDGOALS)))
NAMES := $(wordlist 2,$(words $(MAKECMDGOALS)),$(MAKECMDGOALS))
.PHONY: $(NAMES)
$(foreach name,$(NAMES),$(eval $(name):;@:))
endif

recorded: $(READY)-test  ## runs of a real LLM: what is missing, its cost; make recorded lr_valley
	@test -z "$(NAMES)" || FTKIT_HOME=.cache/home $(VENV)/bin/ftkit fetch smollm2
	@OMP_NUM_THREADS=1 FTKIT_HOME=.cache/home $(PY) data_samples/recipe/recorded.py $(NAMES) $(ARGS)

# The page is built, not committed. Without Node the tests of it are skipped, a wheel lacks it, and
# the site says so in its place.
NPM := $(shell command -v npm)
PLAYGROUND := playground/dist/index.html

playground:  ## the page that fine-tunes in a browser tab: playground/dist/index.html; needs Node 18
	@test -n "$(NPM)" || { echo "make: no npm here; install Node 18 or later" >&2; exit 2; }
	cd playground && npm ci --no-audit --no-fund && npm run build

ifneq ($(NPM),)
test browser site dist: $(PLAYGROUND)
$(PLAYGROUND): $(wildcard playground/src/* playground/kernels/* playground/*.json playground/build.mjs)
	-@$(MAKE) playground  # without a network the tests go on without it
endif

site: $(READY)-test  ## the lessons with their outputs as a web site in site/ (ARGS=--no-execute)
	$(QUIETLY) $(PY) notebooks/make_site.py $(ARGS)

dist: $(READY)-test  ## build the wheel and the source archive in dist/
	$(PY) -m hatchling build

lock: $(READY)-test  ## write the versions installed here into constraints.txt, after the tests passed
	$(PIP) freeze --exclude-editable | sed 's/+cpu$$//' > constraints.txt

clean:  ## remove what was built here, and .venv
	rm -rf $(VENV) .venv-lowest dist site playground/dist playground/node_modules .pytest_cache .ruff_cache .cache

# ---------------------------------------------------------------- the environment, made once

$(PY):
	@for python in $(PYTHON) python3 python3.13 python3.12 python3.11 python; do \
	  if $$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	      2>/dev/null; then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "make: no Python 3.11, 3.12 or 3.13 here; install one, or name it: make PYTHON=..." >&2; \
	  exit 2; fi; \
	echo "Making $(VENV) with $$($$found --version)"; \
	$$found -m venv --clear $(VENV) || { rm -rf $(VENV); \
	  echo "make: $$found cannot make an environment; on Debian: apt install python3-venv" >&2; \
	  exit 2; }

$(READY): pyproject.toml | $(PY)
	$(PIP) install $(PIP_ARGS) -e .
	@touch $@

$(READY)-test: pyproject.toml | $(PY)
	$(PIP) install $(PIP_ARGS) -e '.[test]'
	@touch $@ $(READY)
