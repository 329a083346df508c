# Everything needs Python 3.13 or newer; the first suitable one of python3, python3.13 ... or uv is taken.
VENV   := .venv
BIN    := $(VENV)/bin
PYTHON ?= $(shell for p in python3 python3.13 python3.14 python3.15; do \
	  if $$p -c 'import sys; sys.exit(sys.version_info < (3, 13))' >/dev/null 2>&1; then echo $$p; break; fi; done)
ARGS   ?=
TESTS  ?= tests
WORKERS ?= 2
PIP    := $(BIN)/python -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help run test check static format bench fuzz soak clean

help: ## show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(BIN)/python:
	@if [ -n "$(PYTHON)" ]; then $(PYTHON) -m venv $(VENV); \
	elif command -v uv >/dev/null 2>&1; then uv venv --quiet --seed --python '>=3.13' $(VENV); \
	else echo "imsalg needs Python 3.13 or newer and found none (looked for python3, python3.13 .. python3.15, uv)."; \
	     echo "Install one of them: your system's package python3.13, pyenv (pyenv install 3.13), or uv."; exit 1; fi

$(VENV)/.lab: pyproject.toml | $(BIN)/python
	@echo "installing imsalg into $(VENV) ..."
	@$(PIP) install --quiet --editable '.[lab]'
	@touch $@

$(VENV)/.test: pyproject.toml | $(BIN)/python
	@echo "installing imsalg and its test tools into $(VENV) ..."
	@$(PIP) install --quiet --editable '.[lab,test]'
	@touch $@ $(VENV)/.lab

run: $(VENV)/.lab ## set up, start the lab, secure a chat each way, draw the ladders (ARGS=--once to end after that)
	@$(BIN)/python -m imslab up $(ARGS)

test: $(VENV)/.test ## set up and run every test (ARGS="-k name" to choose)
	@$(BIN)/python -m pytest $(TESTS) -q -n $(WORKERS) --dist loadfile $(ARGS)

static: $(VENV)/.test ## format, lint, types and import rules
	$(BIN)/ruff format --check src tests bench
	$(BIN)/ruff check src tests bench
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

check: static ## static checks and tests (CHECK_TESTS=no leaves the tests out)
ifneq ($(CHECK_TESTS),no)
	@$(MAKE) --no-print-directory test
endif

format: $(VENV)/.test ## rewrite the sources in the house format
	$(BIN)/ruff format src tests bench
	$(BIN)/ruff check --fix src tests bench

bench: $(VENV)/.test ## measure against peers with the yardsticks (nginx, stunnel4, haproxy, kamailio, rtpengine, sipp)
	@$(BIN)/python bench/run.py $(ARGS)

$(VENV)/.fuzz: $(VENV)/.test
	@echo "installing atheris for fuzzing led by coverage ..."
	@$(PIP) install --quiet --editable '.[lab,test,fuzz]' || echo "atheris cannot be installed here: fuzzing goes on without it"
	@touch $@

fuzz: $(VENV)/.fuzz ## property tests with many examples, and targets led by coverage, for SECONDS (default 300; a minute or two at least)
	@$(BIN)/python tests/fuzz/campaign.py $(or $(SECONDS),300)

soak: $(VENV)/.test ## calls with traffic and faults through real processes for MINUTES (default 10; one round of two at least), then a table
	@$(BIN)/python bench/soak.py --minutes $(or $(MINUTES),10) $(ARGS)

clean: ## remove everything that was made here
	rm -rf $(VENV) run build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find src tests bench -name __pycache__ -type d -prune -exec rm -rf {} +
