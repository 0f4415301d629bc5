# The commands of the project; `make` alone lists them. Everything is installed into .venv from
# requirement files with hashes. `make PYTHON=/path/to/python3.12 setup` takes another Python.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LITELLM_VENV := .venv-litellm
PIP_OPTIONS := -qq --no-input --disable-pip-version-check --no-warn-script-location
PIP_INSTALL := -m pip install $(PIP_OPTIONS)
COMPILE := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-header

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup setup-dev setup-litellm demo run test check bench lock clean

help: ## List these commands.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/.setup ## Create .venv with what the server needs.

setup-dev: $(VENV)/.setup-dev ## Add what the tests and checks need.

setup-litellm: $(LITELLM_VENV)/.setup ## Create .venv-litellm, for the tests with litellm.

demo: $(VENV)/.setup ## Run a system health check on a server of its own: no key, no cost.
	@$(BIN)/agent-server demo

run: $(VENV)/.setup ## Serve on 127.0.0.1:8000 with the provider that is there.
	@exec $(BIN)/agent-server serve

test: $(VENV)/.setup-dev ## Run all Python tests, on loopback alone.
	@$(BIN)/pytest -q -n 2 -m "not npm"

check: $(VENV)/.setup-dev $(LITELLM_VENV)/.setup ## Check format, lint, types, and run every test.
	@scripts/check

bench: $(VENV)/.setup-dev ## Measure the gateway beside a bare relay (needs the harness).
	@$(BIN)/python -m benchmarks.gateway

lock: ## Write the requirement files anew (needs uv).
	$(COMPILE) pyproject.toml -o requirements/runtime.txt
	$(COMPILE) pyproject.toml --group dev --extra otel --extra postgres --extra redis \
		--extra temporal-local \
		-c requirements/runtime.txt -o requirements/dev.txt
	$(COMPILE) pyproject.toml --extra otel --extra postgres --extra redis --extra temporal \
		-c requirements/dev.txt -o requirements/extras.txt
	$(COMPILE) requirements/build.in -c requirements/dev.txt -o requirements/build.txt
	$(COMPILE) pyproject.toml --extra litellm requirements/litellm.in \
		--overrides requirements/litellm.overrides -o requirements/litellm.txt

clean: ## Take away what these commands made.
	rm -rf $(VENV) $(LITELLM_VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage \
		build dist agent_server.egg-info tests/clients/js/node_modules

$(VENV)/.setup: requirements/runtime.txt requirements/build.txt pyproject.toml | $(BIN)/python
	@echo "Installing the server into $(VENV) ..."
	@$(BIN)/python $(PIP_INSTALL) --require-hashes -r requirements/runtime.txt \
		-r requirements/build.txt
	@$(BIN)/python $(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.setup-dev: requirements/dev.txt $(VENV)/.setup
	@echo "Installing the tools for tests and checks into $(VENV) ..."
	@$(BIN)/python $(PIP_INSTALL) --require-hashes -r requirements/dev.txt
	@touch $@

$(LITELLM_VENV)/.setup: requirements/litellm.txt
	@scripts/make-venv $(PYTHON) $(LITELLM_VENV)
	@echo "Installing litellm into $(LITELLM_VENV) ..."
# The file holds every package; one of them is an override of what litellm asks for.
	@$(LITELLM_VENV)/bin/python $(PIP_INSTALL) --no-deps --require-hashes \
		-r requirements/litellm.txt
	@touch $@

$(BIN)/python:
	@scripts/make-venv $(PYTHON) $(VENV)
