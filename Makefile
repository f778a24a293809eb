# Everything from a fresh clone: needs Python 3.11 or newer, make and git.

PYTHON ?= python3
PORT ?= 8000
INTERFACE ?= 127.0.0.1
ARGS ?=
DURATION ?= 3600
SEED ?= 1

# Where a server on that interface is reached.
HOST = $(if $(filter 127.0.0.1 0.0.0.0 ::,$(INTERFACE)),localhost,$(if $(findstring :,$(INTERFACE)),[$(INTERFACE)],$(INTERFACE)))
BIN := .venv/bin
INSTALLED := .venv/.installed
TESTS_INSTALLED := .venv/.installed-tests
BENCH_INSTALLED := .venv/.installed-bench
PAGES := tests/browser
PAGES_INSTALLED := $(PAGES)/node_modules/.installed
DOCS_INSTALLED := .venv/.installed-docs
CLIENTS_INSTALLED := .venv/clients/.installed

# What a deployment sets; an empty variable hides the one in .env.
PRODUCTION := DEBUG= HTTPS=on ALLOWED_HOSTS=relay.example DATABASE_URL= CSRF_TRUSTED_ORIGINS= \
	REDIS_URL=redis://redis.example:6379/0 UPSTREAM_URL= RELAY_MAX_CONNECTIONS=500 \
	SECRET_KEY=only-for-this-check-0123456789-abcdefghijklmnopqrstuvwxyz-ABCDEFGH

# Tests of the pure rooms, and of the two halves that carry them, without a process of their own.
COVERING := tests/bybit tests/seam tests/downstream/test_audience.py tests/downstream/test_hub.py \
	tests/downstream/test_session.py tests/upstream/test_category.py

.PHONY: help run demo test quick lock soak check coverage bench docs format secret migrated chromium pages pages-checked

help:
	@echo "make run    relay the live exchange at http://localhost:$(PORT)/ (PORT=, INTERFACE=)"
	@echo "make demo   the same, fed by the bundled simulator: needs no internet (ARGS='-v 2' to see each request)"
	@echo "make test   run every test (ARGS= for pytest)"
	@echo "make quick  run the tests that start no process (a minute on two cores)"
	@echo "make soak   churn of clients and faults for an hour (DURATION=seconds, SEED=)"
	@echo "make check  format, lint, types, layers, words, migrations, deployment, coverage of the pure rooms"
	@echo "make bench  measure it beside its peers (ARGS=--quick, ARGS='--only storm')"
	@echo "make docs   build the documents as a site in docs/.build/html"
	@echo "make lock   write deploy/requirements.lock anew, with the newest versions in bounds"
	@echo "make format repair what make check says about format"

# `exec`, so that make's signals reach the server and not a shell before it.
run: migrated
	@echo "marketfeed: http://$(HOST):$(PORT)/ (stop with Ctrl-C)"
	@exec $(BIN)/daphne -v 0 -b $(INTERFACE) -p $(PORT) --websocket_timeout -1 marketfeed.asgi:application

demo: migrated
	@exec $(BIN)/python manage.py demo --port $(PORT) --interface $(INTERFACE) $(ARGS)

test: $(TESTS_INSTALLED) $(DOCS_INSTALLED) $(CLIENTS_INSTALLED) chromium
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder --durations=20 $(ARGS)

quick: $(TESTS_INSTALLED)
	$(BIN)/python -m pytest -q -n 2 -m "not process" --durations=10 $(ARGS)

# Only on Debian and only as root or with sudo that asks nothing; elsewhere these tests are skipped.
chromium:
	@command -v chromium > /dev/null || { \
		export DEBIAN_FRONTEND=noninteractive; sudo="sudo -n"; [ "$$(id -u)" != 0 ] || sudo=; \
		command -v apt-get > /dev/null && $$sudo true 2> /dev/null && \
		$$sudo apt-get update -qq && \
		$$sudo apt-get install -qq -y --no-install-recommends chromium; } || \
		echo "chromium is missing: the tests in a browser are skipped"

check: $(TESTS_INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.docs.prose
	$(PRODUCTION) $(BIN)/python manage.py makemigrations --check --dry-run
	$(PRODUCTION) $(BIN)/python manage.py check --deploy --fail-level WARNING
	$(MAKE) --no-print-directory pages
	$(MAKE) coverage

# JavaScript and CSS: skipped where there is no npm, except in CI.
pages:
	@if command -v npm > /dev/null; then $(MAKE) --no-print-directory pages-checked; \
	else echo "npm is missing: JavaScript and CSS are not checked"; test -z "$$CI"; fi

pages-checked: $(PAGES_INSTALLED)
	$(PAGES)/node_modules/.bin/biome lint --config-path=$(PAGES)/lint.json --error-on-warnings \
		relay/static/relay $(PAGES)/*.mjs
	$(PAGES)/node_modules/.bin/tsc --project $(PAGES)
	$(PAGES)/node_modules/.bin/tsc --project $(PAGES)/types

# What is searched for at random is the same in each run, so that what it covers is, too.
coverage: $(TESTS_INSTALLED)
	$(BIN)/python -m pytest -q -n 2 --hypothesis-seed=0 --cov=relay.bybit --cov=relay.seam $(COVERING)

soak: $(TESTS_INSTALLED)
	$(BIN)/python -m tests.churn.soak --seconds $(DURATION) --seed $(SEED) $(ARGS)

bench: $(BENCH_INSTALLED)
	$(BIN)/python -m benchmarks.run $(ARGS)

# Nothing is kept from an earlier build: a page that has gone must not stay.
docs: $(DOCS_INSTALLED)
	@rm -rf docs/.build
	@$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet -b html docs docs/.build/html
	@echo "docs/.build/html/index.html"

lock:
	$(PYTHON) -m venv --clear .venv/lock
	.venv/lock/bin/pip install --quiet --disable-pip-version-check -r requirements.txt "psycopg[binary]>=3.2,<4"
	echo "# What the image holds, version by version; made by \`make lock\` on Python 3.11." > deploy/requirements.lock
	.venv/lock/bin/pip freeze --disable-pip-version-check >> deploy/requirements.lock

format: $(TESTS_INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

migrated: $(INSTALLED) secret
	@$(BIN)/python manage.py migrate --verbosity 0

# A secret of this machine's own, written once and readable by its owner alone.
secret:
	@grep -qs '^SECRET_KEY=.' .env || ( umask 077; \
		$(PYTHON) -c 'import secrets; print("\nSECRET_KEY=" + secrets.token_urlsafe(50))' >> .env )

$(INSTALLED): requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo >&2 \
		"marketfeed needs Python 3.11 or newer: name one, as in make run PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || { echo >&2 \
		"$(PYTHON) cannot make a virtual environment: install python3-venv (apt-get install python3-venv)"; \
		exit 1; }
	@$(BIN)/python -m pip --version > /dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(TESTS_INSTALLED): tests/requirements.txt $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r tests/requirements.txt
	@touch $@

$(PAGES_INSTALLED): $(PAGES)/package-lock.json
	npm ci --prefix $(PAGES) --silent --no-audit --no-fund
	@touch $@

$(BENCH_INSTALLED): benchmarks/requirements.txt $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r benchmarks/requirements.txt
	@touch $@

$(DOCS_INSTALLED): docs/requirements.txt $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r docs/requirements.txt
	@touch $@

# An environment of its own: ccxt brings uvloop, on which the relay would then run in the tests.
$(CLIENTS_INSTALLED): tests/clients.txt $(INSTALLED)
	$(BIN)/python -m venv .venv/clients
	.venv/clients/bin/python -m pip install --quiet --disable-pip-version-check -r tests/clients.txt
	@touch $@
