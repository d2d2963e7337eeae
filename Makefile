PYTHON ?= python3
BEDSIDE := .venv/bin/bedside
MODEL := qwen2.5-coder:0.5b

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: setup ## Set up, then draft a SOAP note with a real local model, in a throw-away gateway
	@$(BEDSIDE) demo --allow-download

up: setup ## Start the gateway on 127.0.0.1:3001 with its data in ./data
	@$(BEDSIDE) models pull $(MODEL) --allow-download
	@$(BEDSIDE) serve

setup: ## Make .venv and install the pinned packages
	@$(PYTHON) tools/set_up.py

dev:
	@$(PYTHON) tools/set_up.py --dev

test: dev ## Run the tests and show branch coverage
	@rm -f .coverage .coverage.*
	@.venv/bin/coverage run -m pytest
	@.venv/bin/coverage combine -q
	@.venv/bin/coverage report --fail-under=90

lint: dev
	@.venv/bin/ruff check --output-format concise
	@.venv/bin/ruff format --check

types: dev
	@.venv/bin/mypy

check: lint types test ## Lint, strict types, tests

docs: dev ## Write docs/reference/ again from the code
	@.venv/bin/python tools/reference.py

bench: dev ## Measure what the gateway adds; writes benchmarks/results/
	@.venv/bin/python benchmarks/run.py

lock: ## Resolve the dependencies again (needs uv)
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-package cmeel -q \
	    pyproject.toml tools/build.in -o requirements.lock
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-package cmeel -q --extra dev \
	    pyproject.toml tools/build.in -c requirements.lock -o requirements-dev.lock

.PHONY: help demo up setup dev test lint types check docs bench lock
