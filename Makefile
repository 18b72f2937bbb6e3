# The commands of a checkout. `make` alone lists them.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

setup_with := deployments/setup

.PHONY: help setup tools up down prod prod-down images sbom audit test test-all test-unit test-integration test-e2e test-golden test-simulation test-campaigns \
	simulate prepare-tests check docs man pictures lock release clean

help:  ## List these commands
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup:  ## Install missing parts: Docker, Compose, uv, the project in .venv (root or sudo)
	@$(setup_with)/setup.sh

tools:  ## Install also what works on the code: formatters, type checks, tests, documentation
	@$(setup_with)/setup.sh --tools

images: setup  ## Build the images that are missing or have changed
	@$(setup_with)/images.sh

up: images  ## Set everything up and start the sample application in environment dev
	@.venv/bin/roas start dev

down: setup  ## Stop the sample application; its data stays
	@.venv/bin/roas stop dev

prod: images  ## Start the production control plane; the Prefect UI is then on port 4200
	@docker compose build --quiet
	@docker compose up --detach --wait

prod-down: setup  ## Stop the production control plane; its data stays
	@docker compose down

prepare-tests:
	@$(setup_with)/setup.sh --tests
	@$(setup_with)/images.sh

test: prepare-tests  ## Set everything up, check the code, run the tests and a sixteenth of the campaigns (SHARD=N)
	@$(setup_with)/test.sh

test-all: prepare-tests  ## The same with all campaigns: faults, kills, fleets, traffic, browsers, every image
	@$(setup_with)/test.sh --all

test-unit:  ## The tests of decisions and values, without anything outside
test-integration:  ## The tests of adapters, stores, tasks and commands
test-e2e:  ## The tests of flows and deployments on a real engine
test-golden:  ## The tests that hold texts, options and schemas as users and programs know them
test-simulation:  ## The tests in a simulated world: kills, faults and people in any order
test-campaigns:  ## The campaigns alone; SHARD=N (0 to 15) takes that sixteenth
test-unit test-integration test-e2e test-golden test-simulation test-campaigns: prepare-tests
	@$(setup_with)/test.sh $(@:test-%=%)

simulate:  ## Run or repeat a simulation: make simulate SEED=7 HOURS=5 (DATA=1: with data); exit 1 where a sentence does not hold
	@.venv/bin/python -m tests.simulation "$(or $(SEED),1)" "$(or $(HOURS),2)" $(if $(DATA),--data)

check:  ## Format, lint, types, import contracts, shell, documentation
	@$(setup_with)/check.sh

docs: tools  ## Build the documentation as a site in site/, and check its links
	@.venv/bin/python -m deployments.docs.build site
	@echo "site/index.html; to search it: python3 -m http.server --directory site 8000"

man: tools  ## Write a man page for each command in man/; a wheel that is built afterwards brings them
	@.venv/bin/python -m deployments.docs.man

pictures: prepare-tests  ## Make the pictures of the documents from a real run of the tutorial
	@.venv/bin/python -m tests.e2e.docs.pictures

sbom: tools images  ## Build all images; list their packages and those of the environment in sbom/ (CycloneDX)
	@docker compose --profile tls build --quiet
	@$(setup_with)/sbom.sh

audit: tools  ## Check the pinned packages for published advisories
	@.venv/bin/python $(setup_with)/audit.py 300

release:  ## Run make test-all, build and tag a release, push nothing: make release VERSION=0.2.0
	@$(setup_with)/release.sh "$(VERSION)"

lock:  ## Renew the pinned requirements
	@$(setup_with)/lock.sh

clean:  ## Remove generated files of this checkout: .venv, .tools, caches (not data, secrets, containers)
	@rm -rf .venv .tools site man .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
