# Every target sets itself up in .venv; Python 3.11 or newer is all it needs.
#   make demo PYTHON=python3.12      another interpreter for a new .venv

PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin/python -m

.PHONY: help demo test lint bench docs rehearsal clean

help:
	@echo "make demo    train on The Complete Journey and recommend (5 min);"
	@echo "             at a terminal the page stays until Ctrl-C (KEEP=0: no)"
	@echo "make test    lint and tests"
	@echo "make lint    ruff and mypy"
	@echo "make bench   measure; writes benchmarks/results.json"
	@echo "make docs    the API reference, as docs/api/index.html"
	@echo "make rehearsal  a cluster on this machine, parts of it killed (3 min)"
	@echo "make clean   remove .venv and caches; runs/ stays"

demo: $(VENV)/.installed-demo
	@$(RUN) experiments.demo --out_dir=runs/demo \
	    $(if $(KEEP),$(if $(filter 0,$(KEEP)),--nokeep,--keep))

# A file of tests stays in one process, where it shares what it has made.
# It passes however a machine rounds; to try another one, set any of
#   TF_NUM_INTRAOP_THREADS=2 TF_ENABLE_ONEDNN_OPTS=0 ONEDNN_MAX_CPU_ISA=AVX2
test: export TF_NUM_INTRAOP_THREADS ?= 1
test: lint
	$(RUN) pytest --numprocesses=2 --dist=loadfile

lint: $(VENV)/.installed-test
	$(RUN) ruff format --check
	$(RUN) ruff check
	$(RUN) mypy jtm_tf

bench: $(VENV)/.installed-bench
	$(RUN) benchmarks

rehearsal: $(VENV)/.installed-cluster
	@$(RUN) experiments.rehearse_cluster

docs: $(VENV)/.installed-docs
	$(RUN) pdoc --docformat=google --output-directory=docs/api jtm_tf \
	    jtm_tf.learning.settings jtm_tf.learning.model_step \
	    jtm_tf.tree.learning jtm_tf.search.diagnosis

# A stamp for each set of extras; they are installed anew when setup.cfg is.
$(VENV)/.installed-%: setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) \
	--version 2>&1). Try make PYTHON=python3.12." >&2; exit 1; }
	@echo "Setting up $(VENV) for $*; this takes a few minutes once."
	@$(PYTHON) -m venv $(VENV)
	@$(RUN) pip install --quiet --disable-pip-version-check \
	    --editable ".[$*]"
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache \
	    .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
