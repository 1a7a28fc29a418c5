# Keel. "make help" lists the targets; "make run" and "make test" need nothing
# but a Debian 12 or 13 with the network.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# An older Go fetches the release that go.mod asks for.
export GOTOOLCHAIN ?= auto

LINT     := go run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
# How long each fuzz target runs, and which: PACKAGE.TARGET. CI has time for those that
# meet guests, images and configurations first; of the rest it runs the seeds, with the unit
# tests.
FUZZTIME   ?= 30s
FUZZ       ?= .
FUZZ_FIRST := ^keel/(vtl/bus|vtl/apic|boot/igvm|paravisor/config|paravisor/guestload)\\.
ARGS     ?=

# Packages whose tests need a VM; all others are unit tests.
VM_TESTS := keel/tests/boot keel/tests/storage keel/tests/tpm keel/tests/vsock keel/tests/hostile
OTHERS    = $$(go list ./... | grep -vxF $(VM_TESTS:%=-e %))
VM_TEST  := go test -count=1

# step NAME COMMAND: runs a command with a headline and the time it took.
define step
	@start=$$(date +%s); echo "== $(1)"; $(2) || { echo "== $(1): FAILED" >&2; exit 1; }; \
	echo "== $(1): $$(( $$(date +%s) - start )) s"
endef

.PHONY: help deps build image run test unit boot storage tpm vsock hostile identical fuzz lint generate check-generate fmt soak bench bench-disk bench-tpm clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-16s %s\n", $$1, $$2 }' Makefile

deps: ## install the Debian packages that are missing, and say which and why
	@.ci/deps

build: deps ## build the command line tool as build/keel
	@go build -o build/keel .

image: build ## build the release and the debug image under build/
	@build/keel image build
	@build/keel image build --debug

run: build ## boot a Debian guest beneath Keel; options: make run ARGS="--vps 4"
	@build/keel image build
	@build/keel run $(ARGS)

test: deps ## everything that CI checks, guest boots included
	$(call step,generated files are up to date,$(MAKE) check-generate)
	$(call step,lint,$(MAKE) lint)
	$(call step,the hyperv kernel's own parts compile,go run ./kernelcfg/cmd/kernelcfg try hyperv)
	$(call step,images,$(MAKE) image)
	$(call step,images are byte-identical,$(MAKE) identical)
	$(call step,fuzzing,$(MAKE) fuzz FUZZ='$(FUZZ_FIRST)')
	$(call step,unit tests,$(MAKE) unit)
	$(call step,guest boots,.ci/once boot $(MAKE) boot)
	$(call step,guests with disks,.ci/once storage $(MAKE) storage)
	$(call step,guests with a TPM,.ci/once tpm $(MAKE) tpm)
	$(call step,vsock,.ci/once vsock $(MAKE) vsock)
	$(call step,attacks,.ci/once hostile $(MAKE) hostile)

unit: ## unit tests, with the race detector
	@go test -race -timeout 10m $(OTHERS)

boot: ## boot guests and check what they see
	@$(VM_TEST) -timeout 75m keel/tests/boot

storage: ## boot guests with disks and check what is on them
	@$(VM_TEST) -timeout 60m keel/tests/storage

tpm: ## boot guests with a TPM and let them use it
	@$(VM_TEST) -timeout 40m keel/tests/tpm

vsock: ## a VM that speaks with the launcher's vsock
	@$(VM_TEST) -timeout 15m keel/tests/vsock

hostile: ## guests and hosts that attack Keel
	@$(VM_TEST) -timeout 45m keel/tests/hostile

identical: build ## build the release image again and compare
	@dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; \
	build/keel image build --out "$$dir"; \
	cmp build/keel.igvm "$$dir/keel.igvm"

# Two packages at a time, one worker each: their coverage is spread best that way.
fuzz: ## run every fuzz target for FUZZTIME; FUZZ=REGEXP chooses
	@grep -rHoE '^func Fuzz[A-Za-z0-9_]+' --include='*_test.go' . | sed -E 's|^\./(.*)/[^/]*:func |keel/\1 |' | \
		awk -v want='$(FUZZ)' '$$1 "." $$2 ~ want { f[$$1] = f[$$1] " " $$2 } END { for (p in f) print p, "$(FUZZTIME)" f[p] }' | \
		xargs -P 2 -L 1 .ci/fuzz

lint: ## golangci-lint with the linters of STYLE
	@$(LINT) run --timeout 15m

generate: ## write the generated files again
	@go generate ./...

check-generate: ## fail when generating changes a file
	@state() { git status --porcelain; git diff HEAD; }; before=$$(state | sha256sum); \
	go generate ./...; \
	[ "$$before" = "$$(state | sha256sum)" ] || { git status --short; echo "keel: generated files are stale: run make generate" >&2; exit 1; }

fmt: ## format the Go files
	@$(LINT) fmt

soak: build ## every guest of the matrices, every attack, 30 boots in a row, 150 kills, long fuzzing, the hyperv kernel
	@go run ./kernelcfg/cmd/kernelcfg build hyperv
	@KEEL_SOAK=1 $(VM_TEST) -p 1 -timeout 6h -v $(VM_TESTS) keel/initramfs
	@$(MAKE) fuzz FUZZTIME=1m

bench: build ## measure Keel beside nested QEMU; results under tests/bench/results
	@build/keel image build
	@go run ./tests/bench $(ARGS)

bench-disk: build ## measure Keel's disks beside NVMe in VTL2 and nested QEMU; results under tests/benchdisk/results
	@build/keel image build
	@go run ./tests/benchdisk $(ARGS)

bench-tpm: build ## measure Keel's TPM beside swtpm, on the host and in guests; results under tests/benchtpm/results
	@build/keel image build
	@go run ./tests/benchtpm $(ARGS)

clean: ## remove what was built; the caches stay
	@rm -rf build
