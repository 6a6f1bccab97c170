# `make demo` and `make test` do all of their own set-up in a virtual environment.
PYTHON ?= python3
VENV ?= .venv
# The tests compare with PyTorch on the CPU. A plain Linux wheel brings CUDA along (several GB); point
# PIP_EXTRA_INDEX_URL at PyTorch's own CPU index to avoid that.
TORCH ?= torch==2.13.0
# Without what they depend on: of that only torchvision and fairscale are not here, which they need for pictures and
# activation checkpoints and not for their models (tests/convert/stand_ins.py). PyPI has torchvision for CUDA builds of
# PyTorch alone.
TIMM ?= timm>=1.0.31,<1.1
TORCHSCALE ?= torchscale>=0.3,<0.4
JOBS ?= 2
RUN = $(VENV)/bin/python
export JAX_PLATFORMS ?= cpu

.PHONY: demo test test-full lint docs smoke-newest clean

demo: $(VENV)/.installed
	$(RUN) -m rlaifv_jax.shapes.demo

test: lint
	$(RUN) -m pytest -n $(JOBS) -m "not slow" --durations=10

test-full: lint
	$(RUN) -m pytest -n $(JOBS) --durations=20

lint: $(VENV)/.installed-test
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

# The documentation as pages, in site/.
docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict --quiet
	@echo site/index.html

# The newest JAX that pip finds, under another Python: make smoke-newest PYTHON=python3.12 VENV=.venv312
smoke-newest: $(VENV)/.installed
	$(RUN) -m rlaifv_jax.shapes.smoke

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --upgrade pip
	$(RUN) -m pip install --quiet --editable ".[demo]"
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(RUN) -m pip install --quiet $(TORCH)
	$(RUN) -m pip install --quiet --no-deps "$(TIMM)" "$(TORCHSCALE)"
	$(RUN) -m pip install --quiet --editable ".[test]"
	touch $@

$(VENV)/.installed-docs: pyproject.toml
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --editable ".[docs]"
	touch $@

clean:
	rm -rf $(VENV) build site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
