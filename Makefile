# make demo     all stages on a small example in a few minutes; make demo GLUE=DIR fine-tunes on the GLUE files in DIR
# make test     the tests that every change must pass
# make install  installs into .venv and does nothing else
# make check    ruff and pyright
# make check-slow   the tests that take minutes
# make check-cuda   what a GPU would do, traced without one; installs a CUDA build of torch (6 GB) into .venv-cuda

PYTHON ?= python3
GLUE ?=
INSTALLED := .venv/.installed
CUDA_INSTALLED := .venv-cuda/.installed

.PHONY: demo install test check check-slow check-cuda
.DELETE_ON_ERROR:

demo: $(INSTALLED)
	@.venv/bin/sesame demo $(if $(GLUE),--glue "$(GLUE)")

install: $(INSTALLED)

# One test file at a time in each of two processes; a file that starts processes of its own uses both cores anyway.
test: $(INSTALLED)
	@OMP_NUM_THREADS=1 .venv/bin/python -m pytest -q -n 2 --dist loadfile

check: $(INSTALLED)
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/pyright

check-slow: $(INSTALLED)
	@.venv/bin/python -m pytest -q -m slow

check-cuda: $(CUDA_INSTALLED)
	@.venv-cuda/bin/python -m pytest -q -m cuda_trace tests/pretrain/test_cuda_trace.py

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

# constraints-cuda.txt has another version of torch: an index with torch's CPU build of the version in constraints.txt
# may have no CUDA build of it.
$(CUDA_INSTALLED): pyproject.toml constraints.txt constraints-cuda.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Sesame needs Python >= 3.11; choose one: make PYTHON=python3.11 $(MAKECMDGOALS)" >&2; exit 2; }
	@echo "Installing into .venv-cuda (the first time this takes some minutes)"
	@test -x .venv-cuda/bin/pip || $(PYTHON) -m venv .venv-cuda
	@grep -v '^torch==' constraints.txt > .venv-cuda/constraints.txt
	@cat constraints-cuda.txt >> .venv-cuda/constraints.txt
	@.venv-cuda/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-cuda.txt setuptools torch
	@.venv-cuda/bin/python -m pip install --quiet --disable-pip-version-check -c .venv-cuda/constraints.txt -e . pytest
	@touch $@
