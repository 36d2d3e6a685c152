# Two doors: `make demo` shows the pooler at work, `make test` runs what must pass before a commit.

PYTHON ?= python3
# Seconds after which the demo ends by itself; empty: at Ctrl-C.
DEMO_SECONDS ?=
# The versions of tox.ini's matrix.
PYTHONS := 3.10 3.11 3.12 3.13 3.14 3.15

.PHONY: demo test lint bench clean

SOURCES := setup.py setup.cfg pyproject.toml pgdoorman.py $(shell find pgdoorman_lib -name '*.p[yx]*' -not -name '*.pyc')

demo: .demo/venv/.answers
	@.demo/venv/bin/python tools/demo.py $(if $(DEMO_SECONDS),--seconds $(DEMO_SECONDS))

# Interpreted, so that it answers soon: the demo compiles, and goes over to the compiled build by an upgrade.
.demo/venv/.answers: $(SOURCES)
	rm -rf build/lib* build/pure
	@$(PYTHON) tools/install.py --interpreted .demo/venv
	@touch $@

.demo/venv/.installed: $(SOURCES)
	rm -rf build/lib* build/pure
	@$(PYTHON) tools/install.py .demo/venv
	@touch .demo/venv/.answers $@

# What setuptools left in build/ would go into the wheels, modules that are no more included. One suite after the other: both at
# once are done hardly sooner, since each keeps the processors busy, and what goes by time has half of them.
test: .venv/.tox
	rm -rf build/lib* build/pure
	.venv/bin/tox run -e lint,py3-compiled,py3-pure
	@here=; for version in $(PYTHONS); do python$$version -c '' 2>/dev/null && here="$$here $$version"; done; \
	echo "This was $$(.venv/bin/python -V) alone, of Python $(PYTHONS); .venv/bin/tox runs those found here:$${here:- none}"

lint: .venv/.tox
	.venv/bin/tox run -e lint

.venv/.tox: Makefile
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check 'tox>=4.15'
	@touch $@

bench: .demo/venv/.installed
	.demo/venv/bin/python -m bench

clean:
	rm -rf .build .demo .tox .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
