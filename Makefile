# Two commands do everything on a fresh machine: `make demo` and `make test`. Both need root for the lab.
.PHONY: help prepare build build-tests demo demo-clean journey test lint unit e2e waypoint conformance pairs soak bench bench-waypoint bench-sidecars counts format sanitize

TOOLS := $(CURDIR)/.tools
# The tests run on a debug build, which checks more (exclusive access, overflow) and is made in half the time.
TEST_BIN := $(CURDIR)/.build/debug
export PATH := $(TOOLS)/bin:$(PATH)

# In turn, because tests of one run share few threads. Hashing is fixed so that a simulation's seed repeats.
RUN_TESTS := SWIFT_DETERMINISTIC_HASHING=1 scripts/timed.sh

help:
	@echo "make demo        a lab of five nodes, the mesh in it, and the proof of one connection"
	@echo "make demo-clean  remove every trace of it"
	@echo "make journey     the tutorial as typed, every step looked at; writes docs/journey.md (KEEP=1 leaves its lab running)"
	@echo "make test        everything: format, build, unit, loopback and end-to-end tests"
	@echo "make unit        unit, simulation and loopback tests"
	@echo "make e2e         the suite in the lab and the demo, on the debug build"
	@echo "make waypoint    the waypoint's tests in a lab of their own"
	@echo "make soak        SECONDS=1800 of mixed load through waypoints, while all kinds of things happen"
	@echo "make conformance the Gateway API's mesh tests in a lab of their own"
	@echo "make pairs       every kind of client and server: who reaches whom, as whom, and how the bytes cross the wire"
	@echo "make bench       the tunnel beside Envoy and others"
	@echo "make bench-waypoint  the waypoint beside Envoy's"
	@echo "make bench-sidecars  what sidecars cost, how soon changes are with them, how soon pods are ready"
	@echo "make sanitize    data races (ThreadSanitizer) and leaks (valgrind) of the unit and loopback tests"
	@echo "make counts      allocations and instructions of a connection, against thresholds"

prepare:
	@scripts/prepare.sh

build: prepare
	@scripts/timed.sh "build (release)" swift build -c release --quiet

build-tests: prepare
	@scripts/timed.sh "build (debug, with tests)" swift build --build-tests --quiet

demo: build
	@scripts/demo.sh

demo-clean:
	@scripts/demo-clean.sh

journey: build
	@scripts/timed.sh "journey" $(TOOLS)/python/bin/python scripts/journey/journey.py $(if $(KEEP),--keep)

lint:
	@swift format lint --strict -r Sources Lab Tests Benchmarks Fuzz Package.swift

format:
	@swift format -i -r Sources Lab Tests Benchmarks Fuzz Package.swift

unit: build-tests
	@$(RUN_TESTS) "unit and loopback tests of the mesh" swift test --skip-build --no-parallel --skip '^Lab|TunnelSimulationTests'
	@$(RUN_TESTS) "unit and loopback tests of the lab" swift test --skip-build --no-parallel --filter '^Lab'
	@scripts/timed.sh "peers and tables of the conformance tests" $(TOOLS)/python/bin/pytest -q -p no:cacheprovider Tests/EndToEnd/echo Tests/EndToEnd/conformance/test_tables.py Tests/EndToEnd/waypoint/test_load.py Tests/EndToEnd/pairs/test_cells.py scripts/journey/test_journey.py
	@$(RUN_TESTS) "simulation" swift test --skip-build --filter TunnelSimulationTests

# The suite, and then the demo, which stops with a reason at the first thing that is not as it should be.
e2e: build-tests
	@MARTLET_BIN=$(TEST_BIN) scripts/timed.sh "end-to-end suite" $(TOOLS)/python/bin/pytest -q -p no:cacheprovider Tests/EndToEnd --ignore Tests/EndToEnd/echo --ignore Tests/EndToEnd/conformance --ignore Tests/EndToEnd/waypoint --ignore Tests/EndToEnd/pairs
	@$(MAKE) --no-print-directory waypoint
	@$(MAKE) --no-print-directory conformance
	@$(MAKE) --no-print-directory pairs
	@MARTLET_BIN=$(TEST_BIN) scripts/timed.sh "the journey" $(TOOLS)/python/bin/python scripts/journey/journey.py --docs .build/journey
	@MARTLET_BIN=$(TEST_BIN) scripts/timed.sh "the demo as end-to-end test" scripts/demo.sh
	@MARTLET_BIN=$(TEST_BIN) scripts/demo-clean.sh

waypoint: build-tests
	@MARTLET_BIN=$(TEST_BIN) scripts/timed.sh "the waypoint's end-to-end suite" $(TOOLS)/python/bin/pytest -q -p no:cacheprovider Tests/EndToEnd/waypoint --ignore Tests/EndToEnd/waypoint/test_load.py

# Every kind of client and server, protocol and mode of mutual TLS; writes .build/pairs/matrix.md.
pairs: build-tests
	@MARTLET_BIN=$(TEST_BIN) scripts/timed.sh "every pair of client and server" $(TOOLS)/python/bin/pytest -q -p no:cacheprovider Tests/EndToEnd/pairs/test_pairs.py Tests/EndToEnd/pairs/test_kept.py Tests/EndToEnd/pairs/test_names.py Tests/EndToEnd/pairs/test_reader.py Tests/EndToEnd/pairs/test_migration.py Tests/EndToEnd/pairs/test_restarts.py

# On the debug build, which checks more. SEED repeats what happened; the summary is in .build/soak.
soak: build-tests
	@MARTLET_BIN=$(TEST_BIN) scripts/timed.sh "soak" $(TOOLS)/python/bin/python Tests/EndToEnd/waypoint/soak.py --seconds $(or $(SECONDS),1800) $(if $(SEED),--seed $(SEED)) $(if $(RATE),--rate $(RATE)) --out .build/soak

conformance: build-tests
	@MARTLET_BIN=$(TEST_BIN) scripts/timed.sh "the Gateway API's mesh conformance tests" $(TOOLS)/python/bin/pytest -q -p no:cacheprovider Tests/EndToEnd/conformance/test_mesh.py

test: prepare
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory unit
	@$(MAKE) --no-print-directory e2e

sanitize: prepare
	@scripts/sanitize.sh threads
	@scripts/sanitize.sh leaks

bench: prepare
	@Benchmarks/run.sh
	@Benchmarks/counts/counts.py

bench-waypoint: prepare
	@Benchmarks/run.sh waypoint

bench-sidecars: build
	@Benchmarks/sidecars.py

# Allocations and instructions, which repeat where times do not: fails above Benchmarks/counts/thresholds.json.
counts: build
	@Benchmarks/counts/counts.py
