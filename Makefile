# Every target sets up what it needs: Python 3.13, make and a shell are all it takes.
# `make` alone lists the targets.

.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
RUN := .venv/bin/python -m
# Most tests wait, for processes and services: two workers for each of the two cores there are at least.
# A file stays on one worker, which shares its services; the quick files come last and fill the gaps.
WORKERS := --numprocesses 4 --dist loadfile --no-loadscope-reorder
# No function of these takes more than ten ways: grade B of radon at most.
PRODUCT := function_app.py common producer consumer ops
# Collecting with kept byte code takes half the time, of each worker. Containers often say: keep none.
export PYTHONDONTWRITEBYTECODE :=
# More arguments for the command behind a target: make test ARGS="-k poison"
ARGS ?=

.PHONY: help setup setup-python setup-demo demo chaos model bench bench-quick test test-unit test-page test-collection check format template check-template package release lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-15s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

setup: ## Set up what tests need: all Python packages, Azurite
	@sh scripts/setup.sh

setup-python:
	@sh scripts/setup.sh python

setup-demo:
	@sh scripts/setup.sh demo

demo: setup-demo ## Run the pipeline on the local cloud (ARGS="--help" lists the options)
	@$(RUN) local.demo $(ARGS)

chaos: setup-demo ## Break everything at random on the local cloud (ARGS="--seed 1 --minutes 1")
	@$(RUN) local.chaos $(ARGS)

model: setup-python ## Play histories of the pipeline (ARGS="--histories 100000", ARGS=--rules)
	@$(RUN) tests.model $(ARGS)

bench: setup ## Measure everything against references (ARGS="--only 1,4 --markdown")
	@$(RUN) benchmarks $(ARGS)

bench-quick: setup ## The same on a smaller scale, in about five minutes
	@$(RUN) benchmarks --quick $(ARGS)

test: setup ## Run every test (ARGS="-k poison" chooses)
	@$(RUN) pytest $(WORKERS) $(ARGS)

test-unit: setup-python ## Run the unit tests: about a minute, no Azurite
	@$(RUN) pytest tests/unit $(WORKERS) $(ARGS)

test-page: setup ## Run the tests of the page, in a headless browser
	@sh scripts/setup.sh page
	@TEST_PAGE=1 $(RUN) pytest tests/page $(ARGS)

test-collection: setup-python ## Check that every collection lists the same tests, in one order
	@$(RUN) scripts.compare_collections $(ARGS)

check: setup-python ## Check format, lint, types and complexity
	@$(RUN) ruff format --check .
	@$(RUN) ruff check .
	@$(RUN) mypy
	@complex=$$($(RUN) radon cc --min C --show-complexity $(PRODUCT)) && test -z "$$complex" || { echo "more than ten ways:"; echo "$$complex"; exit 1; }

format: setup-python ## Format the code and fix what ruff can fix
	@$(RUN) ruff format .
	@$(RUN) ruff check --fix .

template: setup-python ## Compile the template; needs bicep on the path
	@$(RUN) scripts.template write

check-template: setup-python ## Check the template and its compiled outputs; needs bicep on the path
	@$(RUN) scripts.template check
	@CHECK_TEMPLATE=1 $(RUN) pytest tests/compiler $(ARGS)
	@sh scripts/setup.sh checkov
	@$(RUN) scripts.checkov

package: setup-python ## Build dist/app.zip, what is deployed (ARGS="--output FILE")
	@$(RUN) scripts.package $(ARGS)

release: setup-python ## Build dist/release: the package with its dependencies, SBOM, notices, checksums
	@$(RUN) scripts.release build $(ARGS)

COMPILE := $(RUN) uv pip compile --quiet --universal --generate-hashes --python-version 3.13 --custom-compile-command 'make lock' $(ARGS)

lock: setup-python ## Pin what pyproject.toml asks for (ARGS=--upgrade takes newer versions)
	@$(RUN) scripts.extra azure | $(COMPILE) --output-file requirements.txt -
	@$(COMPILE) --output-file requirements-local.txt --constraint requirements.txt pyproject.toml --group local
	@$(COMPILE) --output-file requirements-dev.txt --constraint requirements.txt --constraint requirements-local.txt pyproject.toml --group dev
	@$(COMPILE) --output-file requirements-page.txt --constraint requirements-dev.txt --group page
	@$(COMPILE) --output-file requirements-checkov.txt --group checkov
	@sh scripts/setup.sh python

clean: ## Remove what set-up, tools and demo left behind
	rm -rf .venv node_modules tests/page/node_modules .setup .demo .pytest_cache .mypy_cache .ruff_cache .hypothesis dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
