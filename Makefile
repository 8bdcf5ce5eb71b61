# LogicPIM: `make demo` and `make test` set everything up and run; `make help` lists the rest.

PYTHON ?= python3
JOBS   ?= $(shell n=$$(nproc 2>/dev/null || echo 2); [ $$n -lt 8 ] && echo $$n || echo 8)
PYTEST ?=

MODEL  ?= models/tiny-mixtral
PROMPT ?= Once upon a time
TOKENS ?= 48

BIN   := .venv/bin
STAMP := .venv/set-up
MADE  := .venv/made-in
PIP   := $(BIN)/python -m pip --disable-pip-version-check install -qq --no-compile \
         --prefer-binary --constraint requirements.lock

# Verilator runs a make of its own below pytest: it shall not take this one's variables and jobs.
unexport MAKEFLAGS MFLAGS

# A virtual environment does not survive being moved: one made elsewhere is made anew.
$(shell [ "$$(cat $(MADE) 2>/dev/null)" = "$(CURDIR)" ] || rm -f $(STAMP) $(MADE))

# apt(PACKAGE): installs a system package where this user may, and fails quietly where not.
define apt
command -v apt-get >/dev/null && { \
    if [ $$(id -u) = 0 ]; then run=; else run="sudo -n"; $$run true 2>/dev/null; fi; } && { \
    echo "setup: installing $(1) from the system's packages" >&2; \
    export DEBIAN_FRONTEND=noninteractive; wait="-o DPkg::Lock::Timeout=120"; \
    $$run apt-get $$wait update -qq && $$run apt-get $$wait install -qq -y $(1); } >/dev/null
endef

.PHONY: help setup demo test test-full lint lock clean distclean compiler icarus
.DEFAULT_GOAL := help

help:
	@echo "make demo       set up, then decode text, experts and attention on the Verilated RTL"
	@echo "make test       set up, then run the tests (minutes)"
	@echo "make test-full  set up, then run every test (hours)"
	@echo "make setup      the set-up alone: .venv, $(BIN)/logicpim and Icarus"
	@echo "make lint       the linter"
	@echo "make lock       renew requirements.lock from what .venv holds"
	@echo "make clean      remove what was built; distclean removes .venv too"
	@echo "Variables: PYTHON=$(PYTHON) JOBS=$(JOBS) PYTEST='pytest arguments' PROMPT='text' TOKENS=$(TOKENS)"

setup: compiler $(STAMP) icarus

demo: compiler $(STAMP)
	$(BIN)/logicpim run $(MODEL) --prompt "$(PROMPT)" --tokens $(TOKENS) --backend verilator --check

test: setup
	$(BIN)/pytest -n $(JOBS) -m "not full" $(PYTEST)

test-full: setup
	$(BIN)/pytest -n $(JOBS) --seed random $(PYTEST)

lint: $(STAMP)
	$(BIN)/ruff check .

compiler:
	@command -v c++ >/dev/null || \
	    { echo "setup: no C++ compiler (c++) found: apt-get install g++" >&2; exit 1; }

icarus:
	@command -v iverilog >/dev/null || { $(call apt,iverilog); } || \
	    echo "setup: Icarus Verilog is missing and could not be installed: apt-get install iverilog" \
	         "(its tests will say so)" >&2

$(STAMP): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	    { echo "setup: Python 3.11 or newer is needed and $(PYTHON) is not: make PYTHON=python3.x" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { $(call apt,python3-venv); } || \
	    { echo "setup: Python's venv is missing: apt-get install python3-venv" >&2; exit 1; }
	@echo "setup: .venv"
	@[ -e $(MADE) ] || { $(PYTHON) -m venv --clear .venv && echo "$(CURDIR)" > $(MADE); }
	@$(PIP) setuptools
	@$(PIP) --no-build-isolation --editable '.[dev,fpga]'
	@touch $(STAMP)

# The lock holds versions and no places: wherever pip looks, it takes these.
lock:
	$(BIN)/python -m pip freeze --all --exclude-editable --exclude pip > build.lock
	mv build.lock requirements.lock

clean:
	rm -rf build dist .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -name .venv -prune -o \( -name __pycache__ -o -name sim_build \) -type d -exec rm -rf {} +

distclean: clean
	rm -rf .venv
