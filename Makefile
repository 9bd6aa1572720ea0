# Entry points. Everything is built into one target folder, in release mode and without debug information.
#
# `make test` and `make demo` set up what they need: on Debian and Ubuntu they install Mesa's Vulkan drivers if no adapter
# is found. A Rust toolchain must be there (https://rustup.rs).

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help build demo look test test-long test-swiftshader bench gpu-kit clean

CARGO ?= cargo
# Folder of the demo's results.
OUT ?= runs/demo
# Pages that `make look` takes pictures of.
PAGES ?= $(OUT)/report.html
# Kernel cases that run a second time, with the shaders' checks on: those whose name contains this text. Width 41 fits no
# tile. All other kernels run checked in the golden tests.
CHECKED_CASES ?= 41
# Tests whose long form `make test-long` runs.
LONG_TESTS ?= sharpness who_learnt folded killed inherited part_of_its_history

# Drivers complain on stderr if it is missing.
export XDG_RUNTIME_DIR ?= /tmp

# Unit tests and the programs of tests/. The runner lets the test harness print how long each test takes, which it does not do
# by itself on a stable toolchain.
TESTS := $(CARGO) test --release --lib --bins --tests
TIMED := --config 'target."cfg(all())".runner = ["env", "RUSTC_BOOTSTRAP=1"]'
REPORT := --show-output -Z unstable-options --report-time

help:
	@echo 'make demo       search, train and test on the bundled digits; results in $(OUT)'
	@echo 'make look       pictures of $(PAGES) as Chromium shows them, wide, narrow and dark; in runs/look'
	@echo 'make test       all tests, then the kernel tests again with checked shaders'
	@echo 'make test-long  the tests that take minutes, in their long form'
	@echo 'make test-swiftshader  tests of kernels and golden cases on a second implementation of Vulkan, on Debian installed if missing'
	@echo 'make build      the program, target/release/altiplano'
	@echo 'make bench      times of kernels, steps and populations on this adapter'
	@echo 'make gpu-kit    target/gpu-kit, an archive with run.sh: tests and benchmarks for a machine with nothing but a GPU'
	@echo 'make clean      remove build outputs (results in runs/ stay)'

build:
	$(CARGO) build --release

demo: build
	@scripts/adapter.sh
	$(CARGO) run --release --quiet -- search --method genas --data digits --preset quick --out $(OUT) --force

look:
	@scripts/look.sh runs/look $(PAGES)

# The program is built with the tests: by itself it would be built again, for the features that tests add to its libraries.
# A run in which no test reached an adapter is no success, so the kernel tests' own count is looked for.
test:
	@mkdir -p runs
	$(TESTS) --no-run
	$(CARGO) build --release --examples
	@scripts/adapter.sh
	$(TESTS) $(TIMED) -- $(REPORT) 2>&1 | tee runs/test.log
	$(CARGO) test --release --doc
	@grep -E '^adapter: ' runs/test.log | sort -u
	@grep -E '^[1-9][0-9]* of [0-9]+ cases in [1-9][0-9]* runs on ' runs/test.log \
		|| { echo 'no kernel test ran on an adapter' >&2; exit 1; }
	ALTIPLANO_CHECKED=1 ALTIPLANO_CASES='$(CHECKED_CASES)' \
		$(CARGO) test --release --test engine --test authors $(TIMED) -- $(REPORT) kernels:: nas_bench_201:: 2>&1 \
		| tee runs/test-checked.log
	@grep -E '^adapter: .*checked: true' runs/test-checked.log | sort -u
	@grep -E '^[1-9][0-9]* of [0-9]+ cases in [1-9][0-9]* runs on ' runs/test-checked.log \
		|| { echo 'no kernel test ran with checked shaders' >&2; exit 1; }
	@echo 'the slowest tests:'
	@sed -nE 's/^test ([^ ]+) .*<([0-9.]+)s>$$/\2 s  \1/p' runs/test.log runs/test-checked.log | sort -rn | awk 'NR <= 10'

test-long:
	@mkdir -p runs
	$(TESTS) --no-run
	$(CARGO) build --release --examples
	@scripts/adapter.sh
	ALTIPLANO_LONG=1 $(CARGO) test --release --test engine --test program --test search $(TIMED) -- $(REPORT) $(LONG_TESTS) 2>&1 \
		| tee runs/test-long.log
	$(CARGO) test --release --features watch,download --lib --test program -- cli:: download

test-swiftshader:
	$(TESTS) --no-run
	CARGO='$(CARGO)' scripts/swiftshader.sh

bench: build
	@scripts/adapter.sh
	$(CARGO) run --release --quiet -- bench

gpu-kit:
	$(TESTS) --no-run
	scripts/gpu-kit.sh

clean:
	$(CARGO) clean
