# make demo     all stages on a small example in a few minutes; make demo GLUE=DIR fine-tunes on the GLUE files in DIR
# make test     the tests that every change must pass
# make check    ruff and pyright
# make check-slow   the tests that take minutes

PYTHON ?= python3
GLUE ?=
INSTALLED := .venv/.installed

.PHONY: demo test check check-slow
.DELETE_ON_ERROR:

demo: $(INSTALLED)
	@.venv/bin/sesame demo $(if $(GLUE),--glue "$(GLUE)")

# One test file at a time in each of two processes; a file that starts processes of its own uses both cores anyway.
test: $(INSTALLED)
	@OMP_NUM_THREADS=1 .venv/bin/python -m pytest -q -n 2 --dist loadfile

check: $(INSTALLED)
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/pyright

check-slow: $(INSTALLED)
	@.venv/bin/python -m pytest -q -m slow

# torch is installed first, so that no other requirement selects another build of it.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Sesame needs Python >= 3.11; choose one: make PYTHON=python3.11 $(MAKECMDGOALS)" >&2; exit 2; }
	@echo "Installing into .venv (the first time this takes some minutes)"
	@test -x .venv/bin/pip || $(PYTHON) -m venv .venv
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt setuptools torch
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@.venv/bin/sesame compile
	@touch $@
