package adapter_test

import (
	"bufio"
	"bytes"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const (
	module = "github.com/stagedoor/stagedoor/"
	ofOPA  = "github.com/open-policy-agent/opa"
)

// mayImport says what each package of the product may import of the others.
var mayImport = map[string][]string{
	"adapter/criteria":  {},
	"adapter/discovery": {},
	"adapter/inventory": {"adapter/discovery", "adapter/peer"},
	"adapter/wire":      {"adapter/criteria"},
	"adapter/peer":      {},
	"adapter/words":     {"adapter/criteria"},
	"adapter/explore":   {"adapter/wire", "adapter/criteria", "adapter/words"},
	"adapter/identity": {"adapter/tracing", "adapter/fair", "adapter/peer", "adapter/wire", "adapter/discovery", "adapter/identity/comb",
		"adapter/identity/jose", "adapter/identity/keyring", "adapter/identity/keyset"},
	"adapter/conditions": {"adapter/tracing", "adapter/fair", "adapter/flight", "adapter/conditions/guard", "adapter/conditions/rules", "adapter/peer", "adapter/wire", "adapter/criteria", "adapter/discovery"},
	"adapter/decision":   {"adapter/peer", "adapter/wire"},
	"adapter/reach":      {},
	"adapter/alike":      {"adapter/decision", "adapter/wire", "adapter/criteria"},
	"adapter/vetted":     {"adapter/alike", "adapter/criteria", "adapter/reach", "adapter/wire", "adapter/explore"},
	"adapter/opa":        {"adapter/peer"},
	"adapter/supply":     {"adapter/peer", "adapter/vetted", "adapter/opa", "adapter/alike"},
	"adapter/engine":     {"adapter/peer", "adapter/wire", "adapter/decision", "adapter/explore", "adapter/flight", "adapter/vetted", "adapter/alike"},
	"adapter/remote":     {"adapter/peer", "adapter/wire", "adapter/decision", "adapter/supply", "adapter/tracing"},
	"adapter/audit":      {"adapter/peer", "adapter/wire", "adapter/decision", "adapter/opa"},
	"adapter/offline": {"adapter/wire", "adapter/explore", "adapter/decision", "adapter/engine", "adapter/supply", "adapter/vetted", "adapter/reach",
		"adapter/inventory", "adapter/criteria", "adapter/words", "rego"},
	"adapter/endpoint": {},
	"adapter/spool":    {},
	"adapter/tracing":  {},
	"adapter/config": {"adapter/appconfig", "adapter/conditions", "adapter/discovery", "adapter/identity", "adapter/identity/keyring", "adapter/audit", "adapter/engine",
		"adapter/opa", "adapter/origin", "adapter/reach", "adapter/remote", "adapter/supply", "adapter/endpoint", "adapter/tracing"},
	"adapter/origin": {},
	"adapter/shadow": {"adapter/decision", "adapter/comparison", "adapter/wire"},

	// What a change of policy changes.
	"adapter/report":     {},
	"adapter/comparison": {"adapter/criteria", "adapter/decision", "adapter/explore", "adapter/offline", "adapter/report", "adapter/wire", "adapter/words"},
	"adapter/fold":       {"adapter/decision", "adapter/offline"},
	"adapter/audience":   {"adapter/fold", "adapter/callers", "adapter/decision", "adapter/inventory", "adapter/offline", "adapter/report"},
	"adapter/census":     {"adapter/criteria", "adapter/explore", "adapter/offline", "adapter/report", "adapter/words"},
	"adapter/provenance": {"adapter/criteria", "adapter/explore", "adapter/offline", "adapter/words"},
	"adapter/serving":    {"adapter/decision", "adapter/offline", "adapter/wire"},
	"adapter/review": {"adapter/audience", "adapter/census", "adapter/comparison", "adapter/criteria", "adapter/decision", "adapter/inventory",
		"adapter/offline", "adapter/provenance", "adapter/report", "adapter/wire", "adapter/words"},
	"adapter/matrix": {"adapter/audience", "adapter/comparison", "adapter/criteria", "adapter/decision", "adapter/inventory",
		"adapter/offline", "adapter/provenance", "adapter/report", "adapter/wire", "adapter/words"},
	"adapter/replay":    {"adapter/comparison", "adapter/decision", "adapter/inventory", "adapter/offline", "adapter/report", "adapter/wire", "adapter/words"},
	"adapter/appconfig": {},
	"adapter/callers":   {"adapter/inventory", "adapter/decision"},
	"adapter/findings":  {},
	"adapter/datafiles": {"adapter/findings", "adapter/inventory", "adapter/offline"},
	"adapter/reading":   {"adapter/datafiles", "adapter/explore", "adapter/findings", "rego"},
	"adapter/source": {"adapter/datafiles", "adapter/findings", "adapter/inventory", "adapter/offline",
		"adapter/reading"},
	"adapter/trial": {"adapter/callers", "adapter/criteria", "adapter/decision", "adapter/findings", "adapter/inventory",
		"adapter/offline", "adapter/reading", "adapter/source", "adapter/tables", "adapter/wire"},
	"adapter/check": {"adapter/datafiles", "adapter/explore", "adapter/findings", "adapter/inventory", "adapter/offline",
		"adapter/reach", "adapter/reading", "adapter/source", "adapter/trial", "rego"},
	"adapter/sample":  {"adapter/criteria"},
	"adapter/migrate": {"adapter/appconfig", "adapter/criteria", "adapter/explore", "adapter/inventory", "adapter/offline", "adapter/words", "bundles"},
	"adapter": {
		"adapter/tracing", "adapter/fair", "adapter/peer", "adapter/wire", "adapter/identity", "adapter/conditions", "adapter/audit", "adapter/decision",
		"adapter/engine", "adapter/shadow", "adapter/supply", "adapter/explain", "adapter/offline", "adapter/vetted",
		"adapter/conditions/guard", "adapter/dataapi", "adapter/endpoint", "adapter/metrics", "adapter/sampler",
	},
	"adapter/fixture": {"adapter/wire", "adapter/audit", "adapter/decision", "adapter/engine", "adapter/opa",
		"adapter/reach", "adapter/supply", "adapter/vetted", "rego"},
	"rego":    {},
	"bundles": {},

	"adapter/flight":           {},
	"adapter/conditions/rules": {"adapter/criteria", "adapter/peer", "adapter/wire"},
	"adapter/metrics":          {"adapter/decision", "adapter/wire"},
	"adapter/sampler":          {},
	"adapter/dataapi":          {"adapter/audit", "adapter/conditions", "adapter/decision", "adapter/engine", "adapter/wire"},
	"adapter/conditions/guard": {"adapter/fair", "adapter/flight"},
	"adapter/identity/comb":    {},
	"adapter/identity/jose":    {"adapter/identity/comb"},
	"adapter/identity/keyring": {"adapter/identity/jose"},
	"adapter/identity/keyset":  {"adapter/fair", "adapter/peer", "adapter/identity/jose"},
	"adapter/fair":             {},

	// What the author's commands do.
	"adapter/certificate": {"adapter/explore", "adapter/offline", "adapter/wire"},
	"adapter/explain":     {"adapter/criteria", "adapter/decision", "adapter/explore", "adapter/inventory", "adapter/offline", "adapter/wire"},
	"adapter/tables": {"adapter/criteria", "adapter/decision", "adapter/explain", "adapter/inventory", "adapter/offline", "adapter/tests",
		"adapter/audience", "adapter/comparison", "adapter/wire", "adapter/words", "rego"},
	"adapter/tests": {"adapter/inventory", "adapter/offline", "adapter/decision", "adapter/wire", "adapter/words", "rego"},

	"adapter/anyone": {"adapter/comparison", "adapter/criteria", "adapter/decision", "adapter/explore", "adapter/offline", "adapter/report", "adapter/wire", "adapter/words"},

	"cmd/stagedoor": {"adapter/tracing", "adapter/anyone",
		"adapter",
		"adapter/audit",
		"adapter/certificate",
		"adapter/conditions",
		"adapter/config",
		"adapter/decision",
		"adapter/discovery",
		"adapter/engine",
		"adapter/explore",
		"adapter/identity/keyring",
		"adapter/check",
		"adapter/findings",
		"adapter/reach",
		"adapter/explain",
		"adapter/identity",
		"adapter/inventory",
		"adapter/migrate",
		"adapter/offline",
		"adapter/opa", "adapter/peer",
		"adapter/remote",
		"adapter/review",
		"adapter/audience", "adapter/census", "adapter/comparison", "adapter/matrix", "adapter/provenance", "adapter/replay", "adapter/serving",
		"adapter/sample",
		"adapter/shadow",
		"adapter/supply",
		"adapter/tables",
		"adapter/tests",
		"adapter/vetted",
		"adapter/wire",
		"adapter/words",
		"bundles",
		"rego",
		"adapter/endpoint",
		"adapter/spool",
	},
}

// mayImportOPA are the packages that evaluate, and those that read the author's modules.
var mayImportOPA = []string{
	"adapter/alike",
	"adapter/anyone",
	"adapter/audit",
	"adapter/callers",
	"adapter/certificate",
	"adapter/decision",
	"adapter/engine",
	"adapter/explain",
	"adapter/explore",
	"adapter/fixture",
	"adapter/offline",
	"adapter/opa",
	"adapter/remote",
	"adapter/audience",
	"adapter/census",
	"adapter/fold",
	"adapter/matrix",
	"adapter/provenance",
	"adapter/reach",
	"adapter/supply",
	"adapter/tests",
	"adapter/vetted",
	"adapter/findings",
	"adapter/reading",
	"adapter/source",
	"adapter/trial",
	"adapter/check",
	"adapter/migrate",
}

// TestImportsGoOneWay holds docs/architecture.md to the code: no package imports
// what it may not, OPA is that of mayImportOPA alone, and go-retryablehttp that of
// those that call others.
func TestImportsGoOneWay(t *testing.T) {
	seen := map[string]bool{}
	imported := importsOf(t, "./adapter/...", "./cmd/...", "./rego/...", "./bundles/...")
	for pkg, imports := range imported {
		allowed, known := mayImport[pkg]
		if !known {
			t.Errorf("%s is not in the picture: say here and in docs/architecture.md what it may import", pkg)
			continue
		}
		seen[pkg] = true
		for _, other := range imports {
			own, isOwn := strings.CutPrefix(other, module)
			switch {
			case isOwn && !slices.Contains(allowed, own):
				t.Errorf("%s imports %s", pkg, own)
			case strings.HasPrefix(other, ofOPA) && !slices.Contains(mayImportOPA, pkg):
				t.Errorf("%s imports OPA: %s", pkg, other)
			case other == "filippo.io/nistec" && pkg != "adapter/identity/comb":
				t.Errorf("%s imports %s: points are comb's", pkg, other)
			case strings.HasSuffix(other, "/go-retryablehttp") && pkg != "adapter/conditions" && pkg != "adapter/remote":
				t.Errorf("%s imports go-retryablehttp", pkg)
			}
		}
	}
	for pkg := range mayImport {
		if !seen[pkg] {
			t.Errorf("%s is not there", pkg)
		}
		for _, allowed := range mayImport[pkg] {
			if seen[pkg] && !slices.Contains(imported[pkg], module+allowed) {
				t.Errorf("%s does not import %s, as is drawn", pkg, allowed)
			}
		}
	}
}

// importsOf lists what each package imports, its tests aside.
func importsOf(t *testing.T, patterns ...string) map[string][]string {
	t.Helper()
	command := exec.CommandContext(t.Context(), "go", append([]string{"list", "-f", `{{.ImportPath}} {{join .Imports " "}}`}, patterns...)...)
	command.Dir = ".."
	output, err := command.Output()
	if err != nil {
		t.Fatal(err)
	}
	imports := map[string][]string{}
	for scanner := bufio.NewScanner(bytes.NewReader(output)); scanner.Scan(); {
		fields := strings.Fields(scanner.Text())
		imports[strings.TrimPrefix(fields[0], module)] = fields[1:]
	}
	return imports
}

// TestHandlerStaysShort keeps the authorize handler readable as the specification.
func TestHandlerStaysShort(t *testing.T) {
	const most = 100
	if lines := functionLines(t, "authorize.go", "func (s *Server) authorize("); lines == 0 || lines > most {
		t.Errorf("the authorize handler has %d lines, want at most %d", lines, most)
	}
}
