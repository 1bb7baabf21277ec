.DEFAULT_GOAL := help
.PHONY: help run build test go-test rego-test lint e2e soundness twice mutants review folds inventory bench bench-compare faults faults-short simulate fuzz release sign deploy-test outdated clean

BIN := bin
N ?= 100000
SEED ?= 1
PAIRS ?= 2000
MUTANTS ?= 200
OF ?= certificates
REV ?= HEAD
FUZZTIME ?= 60s
VERSION ?= devel
# What `stagedoor --version` names; the Go command does not stamp every build.
COMMIT := $(shell git describe --always --abbrev=40 --exclude='*' --dirty 2>/dev/null)

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "%-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: ## serve on loopback with a sample plugin, and print curl lines to try
	go run ./cmd/stagedoor serve --dev

build: $(BIN)/stagedoor ## build bin/stagedoor

$(BIN)/stagedoor: FORCE
	CGO_ENABLED=0 go build -ldflags '-X main.commit=$(COMMIT)' -o $@ ./cmd/stagedoor

$(BIN)/opa: go.mod
	CGO_ENABLED=0 go build -o $@ github.com/open-policy-agent/opa

test: go-test rego-test ## all Go tests with the race detector, all Rego tests with the stock opa

go-test: ## the Go tests alone
	go test -race -timeout 30m ./...

rego-test: $(BIN)/opa ## the Rego tests alone, by the stock opa of go.mod
	$(BIN)/opa fmt --diff --fail rego bundles
	$(BIN)/opa check --strict --schema rego/schemas rego
	$(BIN)/opa test --timeout 60s rego
	@$(BIN)/opa test --timeout 60s --coverage --threshold 100 --format json rego > $(BIN)/coverage.json || \
		{ tail -n 20 $(BIN)/coverage.json; exit 1; }
	@for bundle in $$(ls -d bundles/*/); do \
		base=rego; [ "$$bundle" != bundles/dev/ ] || base="rego bundles/default"; \
		echo "opa check and test: $$bundle"; \
		$(BIN)/opa check --strict --schema rego/schemas $$base $$bundle || exit 1; \
		$(BIN)/opa test --timeout 60s $$base $$bundle || exit 1; \
	done

	@echo "opa build, sign, inspect, eval -b and test -b: a policy about the resource with the library"
	@rm -rf $(BIN)/lib && go run ./cmd/stagedoor rules export $(BIN)/lib
	@openssl ecparam -name prime256v1 -genkey -noout -out $(BIN)/key.pem && openssl ec -in $(BIN)/key.pem -pubout -out $(BIN)/key.pub 2>/dev/null
	$(BIN)/opa build -b $(BIN)/lib bundles/ownership -o $(BIN)/ownership.tar.gz --signing-key $(BIN)/key.pem --signing-alg ES256
	$(BIN)/opa inspect $(BIN)/ownership.tar.gz | grep -q backstage/catalog
	$(BIN)/opa eval -b $(BIN)/ownership.tar.gz --fail 'data.ownership.allow == false'
	$(BIN)/opa test --timeout 60s -b $(BIN)/lib bundles/ownership
	$(BIN)/opa sign -b $(BIN)/lib --signing-key $(BIN)/key.pem --signing-alg ES256 -o $(BIN)/lib
	go run ./cmd/stagedoor eval $(BIN)/ownership.tar.gz --user user:default/ann --permission catalog.entity.delete

lint: ## golangci-lint on the Go, Regal on the Rego
	go tool -modfile=tools/golangci-lint/go.mod golangci-lint run ./...
	go tool -modfile=tools/regal/go.mod regal lint rego bundles

$(BIN)/otelcol: tools/otelcol/go.mod tools/otelcol/main.go
	cd tools/otelcol && CGO_ENABLED=0 go build -o ../../$@ .

e2e: build $(BIN)/opa $(BIN)/otelcol e2e/node_modules e2e/rbac/node_modules e2e/schemas/node_modules ## the real Backstage packages and PostgreSQL against bin/stagedoor
	cd e2e && npm test

e2e/node_modules: e2e/package-lock.json
	cd e2e && npm ci --no-audit --no-fund
	touch $@

e2e/schemas/node_modules: e2e/schemas/package-lock.json
	cd e2e/schemas && npm ci --no-audit --no-fund
	touch $@

e2e/rbac/node_modules: e2e/rbac/package-lock.json
	cd e2e/rbac && npm ci --no-audit --no-fund
	touch $@

inventory: e2e/inventory/node_modules ## generate the stock inventory from the published packages of Backstage's plugins
	cd e2e/inventory && npm run --silent generate

e2e/inventory/node_modules: e2e/inventory/package-lock.json
	cd e2e/inventory && npm ci --no-audit --no-fund
	touch $@

soundness: e2e/node_modules ## compare N random decisions with stock OPA and the plugins' own rules
	go test ./soundness -run '^TestSoundness$$' -count=1 -v -timeout 60m -trials $(N) -seed $(SEED)

twice: ## decide N evaluations of drawn tests as `stagedoor test` does, twice; then with faults planted in either way
	go test ./soundness -run '^TestTwice$$' -count=1 -v -timeout 120m -twice $(N) -seed $(SEED)
	go test ./soundness -run '^TestPlanted$$' -count=1 -v -timeout 60m -planted

mutants: ## break explore and criteria in MUTANTS ways, and see that the checker of certificates notices; or OF=anyone, OF=alike
	go run ./soundness/mutants -of $(OF) -n $(MUTANTS) -seed $(SEED)

review: ## hold what diff says to stock OPA, on PAIRS random pairs of policies
	go test ./soundness -run '^TestReview$$' -count=1 -v -timeout 60m -pairs $(PAIRS) -pair-resources 170 -seed $(SEED)

folds: ## hold N pairs of callers who fold together to the same answer from stock OPA
	go test ./soundness -run '^TestFold$$' -count=1 -v -timeout 120m -folded $(N) -seed $(SEED)

bench: ## measure stagedoor beside a floor, an OPA server and the reference backend
	go run ./bench start
	go run ./bench soak -users 50,5000
	go run ./bench scale -rounds 11
	go run ./bench cold
	go run ./bench

bench-compare: ## measure the working tree beside the commit REV
	go run ./bench -compare $(REV)

faults: $(BIN)/opa ## the binary between neighbours at fault, floods and restarts; ROWS is a pattern of names
	go run ./faults -run '$(ROWS)'

faults-short: $(BIN)/opa ## the part of faults that CI runs
	go run ./faults -short

simulate: ## N random schedules of what races, and whether planted faults are noticed
	go test ./simulation -run '^TestSchedules$$' -count=1 -v -timeout 120m -schedules $(N) -seed $(SEED)
	go test ./simulation -run '^TestPlanted$$' -count=1 -v -timeout 30m -planted

fuzz: ## every fuzz target for FUZZTIME
	@for target in $$(grep -rlE '^func Fuzz' --include=*_test.go adapter | xargs -n1 dirname | sort -u); do \
		for name in $$(grep -hoE '^func Fuzz[A-Za-z0-9]+' $$target/*_test.go | cut -d' ' -f2); do \
			go test -run '^$$' -fuzz "^$$name$$" -fuzztime $(FUZZTIME) ./$$target || exit 1; \
		done; \
	done

release: ## the files of the release VERSION, in dist; with IMAGE=registry.example.com/stagedoor the image is pushed
	cd tools/release && go run . -root ../.. -out ../../dist -version $(VERSION) $(if $(IMAGE),-push $(IMAGE):$(VERSION))

# Signed by a key alone: no service is asked, and nothing is told to a public log.
COSIGN := go tool -modfile=tools/cosign/go.mod cosign
OFFLINE := --signing-config tools/cosign/signing-config.json --trusted-root tools/cosign/trusted-root.json
KEY ?= cosign.key

sign: ## sign the checksums of dist by KEY, and with IMAGE the image in its registry; COSIGN_PASSWORD opens the key
	$(COSIGN) sign-blob --yes --key $(KEY) $(OFFLINE) --bundle dist/SHA256SUMS.sigstore.json dist/SHA256SUMS
	$(if $(IMAGE),$(COSIGN) sign --yes --key $(KEY) $(OFFLINE) $(IMAGE)@sha256:$$(sha256sum dist/image/index.json | cut -d ' ' -f 1))

deploy-test: build $(BIN)/opa ## the release, the chart, the unit in a systemd, the alerts, the runbook, and three replicas behind haproxy
	cd tools/release && go test -count=1 -timeout 30m ./...
	cd tools/helm && go test -count=1 -timeout 30m ./...
	promtool check rules deploy/prometheus/stagedoor.rules.yaml
	go test -tags deploy -count=1 -timeout 15m -run '^Test(Alerts|PrometheusReads|Dashboard|OperateCommands|FailuresOfBundlesMakeNoSeries|Unit|.*BehindProxy)$$' ./cmd/stagedoor
	systemd-analyze security --offline=true --threshold=15 deploy/systemd/stagedoor.service > $(BIN)/exposure.txt && tail -n 1 $(BIN)/exposure.txt

outdated: ## which modules have a newer version
	@for modfile in go.mod e2e/go.mod tools/*/go.mod; do \
		echo "$$modfile:"; \
		(cd $$(dirname $$modfile) && go list -m -u -f '{{if and .Update (not .Indirect)}}  {{.Path}} {{.Version}} -> {{.Update.Version}}{{end}}' all | grep . || echo "  nothing"); \
	done

clean: ## remove what was built
	rm -rf $(BIN) dist

FORCE:
