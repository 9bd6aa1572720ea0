# Entry points. Everything is built into one target folder, in release mode and without debug information.
#
# `make test` and `make demo` set up what they need: on Debian and Ubuntu they install Mesa's Vulkan drivers if no adapter
# is found. A Rust toolchain must be there (https://rustup.rs).

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help build adapter demo test bench clean

CARGO ?= cargo
# Folder of the demo's results.
OUT ?= runs/demo
# Kernel cases that run a second time, with the shaders' checks on: those whose name contains this text. Width 41 fits no
# tile. All other kernels run checked in the golden tests.
CHECKED_CASES ?= 41

# Drivers complain on stderr if it is missing.
export XDG_RUNTIME_DIR ?= /tmp

help:
	@echo 'make demo    search, train and test on the bundled digits; results in $(OUT)'
	@echo 'make test    all tests, then the kernel tests again with checked shaders'
	@echo 'make build   the program, target/release/altiplano'
	@echo 'make bench   times of kernels, steps and populations on this adapter'
	@echo 'make clean   remove build outputs (results in runs/ stay)'

build:
	$(CARGO) build --release

adapter: build
	@scripts/adapter.sh

demo: adapter
	$(CARGO) run --release --quiet -- search --method genas --data digits --preset quick --out $(OUT) --force

# A run in which no test reached an adapter is no success, so the kernel tests' own count is looked for.
test: adapter
	@mkdir -p runs
	$(CARGO) test --release -- --show-output 2>&1 | tee runs/test.log
	@grep -E '^adapter: ' runs/test.log | sort -u
	@grep -E '^[1-9][0-9]* of [0-9]+ cases in [1-9][0-9]* runs on ' runs/test.log \
		|| { echo 'no kernel test ran on an adapter' >&2; exit 1; }
	ALTIPLANO_CHECKED=1 ALTIPLANO_CASES='$(CHECKED_CASES)' \
		$(CARGO) test --release --test kernels --test golden_nas_bench_201 -- --show-output 2>&1 | tee runs/test-checked.log
	@grep -E '^adapter: .*checked: true' runs/test-checked.log | sort -u
	@grep -E '^[1-9][0-9]* of [0-9]+ cases in [1-9][0-9]* runs on ' runs/test-checked.log \
		|| { echo 'no kernel test ran with checked shaders' >&2; exit 1; }

bench: adapter
	$(CARGO) run --release --quiet -- bench

clean:
	$(CARGO) clean
