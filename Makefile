# Two commands do everything on a fresh machine: `make demo` and `make test`. Both need root for the lab.
.PHONY: help prepare build demo demo-clean test lint unit e2e bench format

SWIFT_FLAGS ?= -c release
TOOLS := $(CURDIR)/.tools
BIN := $(CURDIR)/.build/release
export PATH := $(BIN):$(TOOLS)/bin:$(PATH)

help:
	@echo "make demo        a lab of five nodes, the mesh in it, and the proof of one connection"
	@echo "make demo-clean  remove every trace of it"
	@echo "make test        everything: format, build, unit, loopback and end-to-end tests"
	@echo "make unit        unit, simulation and loopback tests"
	@echo "make e2e         the end-to-end suite in the lab (needs make build)"
	@echo "make bench       the tunnel beside Envoy and others"

prepare:
	@scripts/prepare.sh

# One build serves the demo and the tests: nothing is compiled twice.
build: prepare
	@scripts/timed.sh "build (release)" swift build $(SWIFT_FLAGS) --build-tests --quiet

demo: build
	@scripts/demo.sh

demo-clean:
	@scripts/demo-clean.sh

lint:
	@swift format lint --strict -r Sources Lab Tests Benchmarks Package.swift

format:
	@swift format -i -r Sources Lab Tests Benchmarks Package.swift

unit: build
	@scripts/timed.sh "unit and loopback tests" swift test $(SWIFT_FLAGS) --skip-build --quiet

e2e: build
	@scripts/timed.sh "end-to-end suite" $(TOOLS)/python/bin/pytest -q -x Tests/EndToEnd

test: prepare
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory unit
	@$(MAKE) --no-print-directory e2e

bench: build
	@Benchmarks/run.sh
