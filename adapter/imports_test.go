package adapter_test

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	module = "github.com/stagedoor/stagedoor/"
	ofOPA  = "github.com/open-policy-agent/opa"
)

// mayImportOPA are the packages that evaluate, and those that read the author's modules.
var mayImportOPA = []string{
	"adapter/alike",
	"adapter/alike/flow",
	"adapter/anyone",
	"adapter/anyone/call",
	"adapter/anyone/evaluation",
	"adapter/anyone/example",
	"adapter/anyone/saying",
	"adapter/anyone/scope",
	"adapter/anyone/theory",
	"adapter/anyone/valuation",
	"adapter/anyone/verdict",
	"adapter/audit",
	"adapter/callers",
	"adapter/certificate",
	"adapter/decision",
	"adapter/document",
	"adapter/document/patch",
	"adapter/document/touch",
	"adapter/engine",
	"adapter/explain",
	"adapter/explain/counterfactual",
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
	"adapter/supply/files",
	"adapter/tests",
	"adapter/vetted",
	"adapter/vetted/bounds",
	"adapter/findings",
	"adapter/reading",
	"adapter/reading/ruleindex",
	"adapter/source",
	"adapter/habits",
	"adapter/trial",
	"adapter/check",
	"adapter/migrate",
}

// TestImportsGoOneWay holds docs/architecture.md to the code: it draws each import and no
// other, OPA is that of mayImportOPA alone, and go-retryablehttp that of those that call
// others.
func TestImportsGoOneWay(t *testing.T) {
	text, err := os.ReadFile("../docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	imported := importsOf(t, "./adapter/...", "./cmd/...", "./rego/...", "./bundles/...")
	drawn := drawnImports(t, string(text))
	for pkg, imports := range imported {
		if !strings.Contains(string(text), "`"+pkg+"`") {
			t.Errorf("%s is not in the table of docs/architecture.md", pkg)
		}
		var own []string
		for _, other := range imports {
			if room, isOwn := strings.CutPrefix(other, module); isOwn {
				own = append(own, room)
			}
			switch {
			case strings.HasPrefix(other, ofOPA) && !slices.Contains(mayImportOPA, pkg):
				t.Errorf("%s imports OPA: %s", pkg, other)
			case other == "filippo.io/nistec" && pkg != "adapter/identity/comb":
				t.Errorf("%s imports %s: points are comb's", pkg, other)
			case strings.HasSuffix(other, "/go-retryablehttp") && pkg != "adapter/conditions" && pkg != "adapter/remote":
				t.Errorf("%s imports go-retryablehttp", pkg)
			}
		}
		slices.Sort(own)
		if is, known := drawn[pkg]; pkg != "cmd/stagedoor" && (!known || !slices.Equal(is, own)) {
			t.Errorf("docs/architecture.md draws %s ─▶ %v, and it imports %v", pkg, is, own)
		}
	}
	for pkg := range drawn {
		if imported[pkg] == nil {
			t.Errorf("%s is drawn, and is not there", pkg)
		}
	}
}

// drawnImports reads the list of docs/architecture.md: rooms, an arrow, and what they
// import.
func drawnImports(t *testing.T, text string) map[string][]string {
	t.Helper()
	drawn := map[string][]string{}
	for _, block := range regexp.MustCompile(`(?m)^    \S.* ─▶ .*(?:\n            .*)*`).FindAllString(text, -1) {
		rooms, imports, _ := strings.Cut(block, " ─▶ ")
		for _, room := range named(rooms) {
			if drawn[room] != nil {
				t.Errorf("docs/architecture.md draws %s twice", room)
			}
			drawn[room] = named(imports)
			slices.Sort(drawn[room])
		}
	}
	return drawn
}

// named are the packages of a list of rooms.
func named(list string) []string {
	var all []string
	for room := range strings.SplitSeq(list, ",") {
		switch room = strings.TrimSpace(room); room {
		case "nothing":
		case "adapter", "cmd/stagedoor", "rego", "bundles", "every room":
			all = append(all, room)
		default:
			all = append(all, "adapter/"+room)
		}
	}
	return all
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
