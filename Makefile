GO     ?= go
LINT   := $(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
PKGS   ?= ./...
FUZZTIME ?= 60s
BIN    ?= bin/caddy
# The race detector looks at everything but SQLite itself, which is C in the guise of Go and
# takes three times as long under it, the computations of Argon2id, and cmp, whose comparisons
# take ten times as long.
RACE   := -race $(foreach p,modernc.org/sqlite/lib modernc.org/libc/... modernc.org/memory golang.org/x/crypto/argon2 golang.org/x/crypto/blake2b github.com/google/go-cmp/...,-gcflags=$(p)=-race=false)

.PHONY: help build xcaddy deployments recipes leaks clients reproducible test soak lint bench pgo memory abuse fuzz audit cover screenshots

help: ## Show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

build: ## Build Caddy with this plugin, without cgo, into bin/caddy
	CGO_ENABLED=0 $(GO) build -trimpath -pgo=default.pgo -o $(BIN) ./cmd/caddy

pgo: ## Make default.pgo, the profile that builds are tuned by, from a mixed load
	$(GO) run -trimpath ./bench profile

xcaddy: ## Build as xcaddy does, against this checkout, and play the quickstart with it
	.ci/xcaddy

deployments: ## Check the manifests, the compose file, the Dockerfile and the alerts as their readers do, and play outages
	$(GO) -C .ci/deployments vet ./...
	$(GO) -C .ci/deployments test ./...
	$(GO) -C .ci/deployments run . $(CURDIR)

recipes: ## Play the recipes that need other plugins, with these plugins
	$(GO) -C .ci/recipes vet ./...
	$(GO) -C .ci/recipes test -count=1 ./...

leaks: ## Run gitleaks with the rule that `caddy system-keys patterns` prints
	.ci/gitleaks

clients: ## Generate clients from the OpenAPI document and call a server with them; upstream with Go 1.22
	.ci/clients/run

reproducible: ## Build twice, in two folders, and compare the bytes
	.ci/reproducible

# The tests of these packages start servers and commands as processes of their own, which
# have no race detector.
APART  := integration/fleet caddymodule/command

test: ## Run all tests with the race detector, on real databases (installs what is missing)
	@.ci/needs
	@# The longest packages begin first. With -trimpath all clones of this repository share
	@# what they have compiled, and so do all builds without the race detector.
	@export GOFLAGS="-trimpath $$GOFLAGS" GORACE=atexit_sleep_ms=0; \
	CGO_ENABLED=1 $(GO) test $(RACE) -timeout 25m $(TESTFLAGS) ./store/postgres ./integration \
		$$($(GO) list ./... | grep -v $(APART:%=-e /%$$)); status=$$?; \
	CGO_ENABLED=0 $(GO) test -timeout 25m $(TESTFLAGS) $(APART:%=./%) && exit $$status

soak: ## Run the long tests at their full counts
	@.ci/needs
	SOAK=1 $(GO) test -count=1 -timeout 60m $(PKGS)

lint: ## Run the linters
	$(LINT) run

bench: ## Measure it against bare Caddy and others: one table, and bench.json
	@.ci/needs
	$(GO) run ./bench
	$(GO) test -run '^$$' -bench 'Admit|Unminted|Strip|Inject|Exchange|Make|Verify|Handler|Proxied|FirstCheck|Record' -benchmem $(PKGS)

memory: ## Measure the memory of an untuned and a tuned build: bench.json too
	$(GO) run ./bench memory

abuse: ## Measure floods of bad credentials, and the time that refusals take
	$(GO) run ./bench flood
	$(GO) test -run '^$$' -bench Refusal ./integration

audit: ## Look for known vulnerabilities in what the program uses
	.ci/audit

fuzz: ## Run every fuzz target for FUZZTIME
	@for p in $$($(GO) list $(PKGS)); do \
		for f in $$($(GO) test -list '^Fuzz' $$p | grep '^Fuzz'); do \
			$(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 20x $$p || exit 1; done; done

screenshots: ## Take the pictures of the System page in docs/screenshots
	@.ci/needs
	rm -f docs/screenshots/*.png && mkdir -p docs/screenshots
	SCREENSHOTS=$(CURDIR)/docs/screenshots $(GO) test -count=1 -run TestEveryStateOfThePage ./integration

cover: ## Show the coverage of the tests, package by package
	$(GO) test -cover $(PKGS)
