# make avatar                      the generated demo subject, end to end
# make avatar VIDEO=path/to.mp4    your own clip (VIDEO=demo goes back to the demo)
# make view                        the avatar in a browser, live: finished, or while it is being trained
# make docs                        the documentation site, into site/index.html
# make test                        the fast tests;  make test-slow  the slow ones
# Each makes the virtual environment by itself when it is missing.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export PATH := $(CURDIR)/$(BIN):$(PATH)
export DO_NOT_TRACK := 1
export MLFLOW_DISABLE_TELEMETRY := true
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: avatar view test test-slow docs venv clean

avatar: $(READY)
ifdef VIDEO
	$(BIN)/python -m tasks.choose_subject "$(VIDEO)"
endif
	$(BIN)/dvc repro build_page
	@$(BIN)/python -m tasks.choose_subject --where

view: $(READY)
	$(BIN)/python -m tasks.view_avatar --wait

test: $(READY)
	$(BIN)/python -m pytest -m "not slow"

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow

docs: $(READY)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

venv: $(READY)

# The wheel of mediapipe carries the BlazePose networks; its code is never imported, so its dependencies stay out.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info < (3, 13) else "expected Python 3.11 or 3.12, this is " + sys.version.split()[0] + "; run: make PYTHON=python3.11 $(MAKECMDGOALS)")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[test]"
	$(BIN)/python -m pip install --quiet --no-deps mediapipe==0.10.14
	touch $(READY)

clean:
	rm -rf $(VENV) work results data/demo data/cast
