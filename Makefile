.DEFAULT_GOAL := help
.PHONY: help run build test go-test rego-test lint e2e soundness bench bench-compare fuzz clean

BIN := bin
N ?= 100000
SEED ?=
REV ?= HEAD
FUZZTIME ?= 60s

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "%-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: ## serve on loopback with a sample plugin, and print curl lines to try
	go run ./cmd/stagedoor serve --dev

build: $(BIN)/stagedoor ## build bin/stagedoor

$(BIN)/stagedoor: FORCE
	go build -o $@ ./cmd/stagedoor

$(BIN)/opa: go.mod
	go build -o $@ github.com/open-policy-agent/opa

test: go-test rego-test ## all Go tests with the race detector, all Rego tests with the stock opa

go-test:
	go test -race ./...

rego-test:
	go tool opa fmt --diff --fail rego bundles
	go tool opa check --strict --schema rego/schemas rego
	go tool opa test --timeout 60s --coverage --threshold 100 rego > /dev/null
	@for bundle in default ownership rbac wrapper; do \
		echo "opa check and test: $$bundle"; \
		go tool opa check --strict --schema rego/schemas rego bundles/$$bundle || exit 1; \
		go tool opa test --timeout 60s rego bundles/$$bundle || exit 1; \
	done
	go tool opa test --timeout 60s rego bundles/default bundles/dev

lint: ## golangci-lint on the Go, Regal on the Rego
	go tool -modfile=tools/golangci-lint/go.mod golangci-lint run ./...
	go tool -modfile=tools/regal/go.mod regal lint rego bundles

e2e: build $(BIN)/opa ## the real Backstage packages and PostgreSQL against bin/stagedoor
	cd e2e && npm ci --no-audit --no-fund && npm test

soundness: ## compare N random decisions with stock OPA and the plugins' own rules
	go run ./soundness -n $(N) $(if $(SEED),-seed $(SEED))

bench: build ## measure stagedoor beside a floor, an OPA server and the reference backend
	go run ./bench

bench-compare: ## measure the working tree beside the commit REV
	go run ./bench -compare $(REV)

fuzz: ## every fuzz target for FUZZTIME
	@for target in $$(grep -rlE '^func Fuzz' --include=*_test.go adapter | xargs -n1 dirname | sort -u); do \
		for name in $$(grep -hoE '^func Fuzz[A-Za-z0-9]+' $$target/*_test.go | cut -d' ' -f2); do \
			go test -run '^$$' -fuzz "^$$name$$" -fuzztime $(FUZZTIME) ./$$target || exit 1; \
		done; \
	done

clean: ## remove what was built
	rm -rf $(BIN)

FORCE:
