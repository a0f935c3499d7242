# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env. 'make help' lists the targets; continuous integration runs ./test.sh, which runs the same.
.DEFAULT_GOAL := help
.PHONY: help build release fmt check test test-unit test-host test-daemon conformance test-sdk machine-test bench \
	bench-sdk bench-runtimes languages fuzz soak fs-check docs-check clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / {printf "  %-13s%s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## debug build of everything with its tests, and sprite-env
	scripts/build.sh debug
	scripts/build.sh guest

release: ## release build of sprited, sprite and sprite-env
	scripts/build.sh release
	scripts/build.sh guest

fmt: ## format the Swift sources
	swift format format --in-place --recursive Sources Tests sdks/swift Package.swift

check: ## formatter, tidy and shell checks; quick
	scripts/lint.sh
	scripts/tidy.py
	shellcheck -x -P scripts quickstart.sh test.sh scripts/*.sh .ci/run

test: ## all tests (root): ends with "N passed, N failed"
	./test.sh

test-unit: ## Swift tests that need nothing
	./test.sh --only unit

test-host: ## Swift tests on real btrfs, crun and bridges (root)
	./test.sh --only host

test-daemon: ## black-box tests of a running sprited (root)
	./test.sh --only daemon

conformance: ## the public API through its official Python client (root)
	./test.sh --only conformance

test-sdk: ## the client libraries against a running sprited (root)
	./test.sh --only sdk

bench: ## the table of operations, medians and bars (root)
	scripts/bench.sh

bench-sdk: ## what the client libraries cost, against SPRITES_API_URL with SPRITE_TOKEN
	.build-venv/bin/python scripts/bench_sdk.py

bench-runtimes: ## first and later use of a layer's languages; LAYER=published folder, BASE_TAR=its base (root)
	.build-venv/bin/python scripts/bench_runtimes.py --layer $(LAYER) --base-tar $(BASE_TAR)

languages: ## every language of the default layer in new sprites, and its installers; LAYER, BASE_TAR if there (root)
	scripts/languages.sh

fuzz: ## the decoders of hostile bytes under libFuzzer; SECONDS=300
	scripts/fuzz.sh $(SECONDS)

machine-test: ## a whole virtual machine: pure cgroup v2, systemd, reboot, power cuts (root)
	scripts/machine-test.sh

soak: ## random work on 50 sprites for SPRITE_SOAK_SECONDS (7200), and long sequences against a model (root)
	scripts/soak.sh

fs-check: ## a sprite's file system under fio, stress-ng and a POSIX suite, beside bare btrfs (root)
	scripts/fs-check.sh

docs-check: ## links, named tests and paths in the documentation
	scripts/tidy.py --docs

clean: ## removes every build folder
	rm -rf .build .build-static .build-venv .build-results .build-fuzz
