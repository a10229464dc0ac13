# Thin wrappers of the 'twopm' command. A machine needs make and Python 3.11, nothing else.
#
#   make run              execute the series            make run ARGS="04 --mode learn"
#   make test             every test                    make test ARGS="tests/unit -q"

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run lab test check fix bench refresh doctor env lock clean distclean

VENV := .venv
BIN := $(VENV)/bin
TWOPM := $(BIN)/twopm
ANVIL := 1.7.1
STAMP := $(VENV)/.made-from
# Tools find the environment's own node and anvil first.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: env ## Execute the whole series headlessly and print what each notebook showed
	@$(TWOPM) run $(ARGS)

lab: env ## Open JupyterLab on the series (prints the address where there is no browser)
	@$(TWOPM) lab $(ARGS)

test: env ## Pass every test
	@$(TWOPM) test $(ARGS)

check: env ## Look for mistakes in style, types and imports
	@$(TWOPM) check

fix: env ## Correct what can be corrected by itself
	@$(TWOPM) fix

bench: env ## Measure speed
	@$(TWOPM) bench $(ARGS)

refresh: env ## Execute the series in learn mode and store its outputs in the notebooks
	@$(TWOPM) refresh $(ARGS)

doctor: env ## Print the environment card, and what to do about what is missing
	@$(TWOPM) doctor

# Made again only when the contents of the lock or of pyproject.toml, anvil's version or the clone's place differ
# from those that it was made from.
env: ## Create or update the environment in .venv
	@want=$$({ cat requirements.lock pyproject.toml; echo "$(ANVIL) $(CURDIR)"; } | sha256sum); \
	if [ -x $(TWOPM) ] && [ "$$(cat $(STAMP) 2>/dev/null || true)" = "$$want" ]; then exit 0; fi; \
	python=""; \
	for name in python3.11 python3 python; do \
	  if "$$name" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; \
	  then python="$$name"; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "There is no Python 3.11 with venv here: install it (Debian: apt-get install python3.11-venv) and try again." >&2; \
	  exit 1; \
	fi; \
	rm -f $(STAMP); \
	if ! $(BIN)/python -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then \
	  echo "Making the environment in $(VENV) (once; some minutes) ..."; \
	  "$$python" -m venv --clear $(VENV); \
	else \
	  echo "Bringing the environment in $(VENV) up to date ..."; \
	fi; \
	$(BIN)/python -m pip install --quiet -r requirements.lock; \
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .; \
	$(BIN)/npm install --silent --no-audit --no-fund --global --prefix "$(CURDIR)/$(VENV)" --ignore-scripts \
	  @foundry-rs/anvil@$(ANVIL) \
	  || echo "Warning: anvil could not be installed; the embedded chain works without it." >&2; \
	printf '%s\n' "$$want" > $(STAMP)

# Every package at its newest version that pyproject.toml allows; environment.yml states the same pins for conda.
# What follows a '+' in a version names a build, and builds differ by machine.
lock: ## Choose all versions anew and write requirements.lock and environment.yml
	@rm -rf build/lock && mkdir -p build/lock
	python3.11 -m venv build/lock/venv
	build/lock/venv/bin/python -m pip install --quiet --upgrade pip setuptools wheel '.[dev]'
	@echo "# Every package of the environment, pinned by version. Made by 'make lock'; do not edit by hand." > build/lock/new
	@build/lock/venv/bin/python -m pip freeze --all --exclude pip --exclude twopm-kit \
	  | sed 's/+.*//' | LC_ALL=C sort -f >> build/lock/new
	@mv build/lock/new requirements.lock
	@$(MAKE) --no-print-directory environment.yml
	@rm -rf build/lock

environment.yml: requirements.lock
	@{ \
	  echo "# The same pins as requirements.lock for conda users. Made by 'make lock'; do not edit by hand."; \
	  echo "name: twopm-kit"; \
	  echo "channels: [conda-forge]"; \
	  echo "dependencies:"; \
	  echo "  - python=3.11"; \
	  echo "  - pip"; \
	  echo "  - pip:"; \
	  sed -n 's/^[A-Za-z0-9].*==.*/      - &/p' requirements.lock; \
	  echo "      - -e ."; \
	} > $@.partial
	@mv $@.partial $@

clean: ## Remove what was built, but not the environment
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean ## Remove the environment too
	rm -rf $(VENV)
