package explore

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/open-policy-agent/opa/v1/ast"
)

// TestPackageComment holds the policy of the package comment to what it says: its
// compiled form, its plan and its criteria.
func TestPackageComment(t *testing.T) {
	text, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	blocks := commentBlocks(string(text))
	p := mustCompile(t, blocks[0])
	compiled := ast.NewCompiler()
	if compiled.Compile(parse(t, blocks[0])); compiled.Failed() {
		t.Fatal(compiled.Errors)
	}
	var bodies []string
	rules := compiled.Modules["policy.rego"].Rules
	for _, rule := range []*ast.Rule{rules[0], rules[2]} {
		w := planWriter{plan: &plan{names: compiled.RewrittenVars}}
		w.begin()
		var body strings.Builder
		for _, e := range rule.Body {
			fmt.Fprintln(&body, w.text(e))
		}
		bodies = append(bodies, body.String())
	}
	r, err := p.Decide(t.Context(), newQuery(t, annInput, "{}"))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{strings.Join(bodies, "\n"), p.plan.String(), outline(r.Criteria)}
	for i, want := range want {
		if diff := cmp.Diff(want, blocks[i+1]); diff != "" {
			t.Errorf("block %d of the package comment (-is +says):\n%s", i+2, diff)
		}
	}
	if r.Evaluations != 3 {
		t.Errorf("%d evaluations", r.Evaluations)
	}
}

// commentBlocks are the indented blocks of a comment.
func commentBlocks(text string) []string {
	var blocks []string
	inside := false
	for line := range strings.Lines(text) {
		code, ok := strings.CutPrefix(line, "//\t")
		switch {
		case ok && !inside:
			blocks = append(blocks, code)
		case ok:
			blocks[len(blocks)-1] += code
		case line == "//\n" && inside: // perhaps a blank line of the block
			blocks[len(blocks)-1] += "\n"
			continue
		}
		inside = ok
	}
	for i, b := range blocks {
		blocks[i] = strings.TrimRight(b, "\n") + "\n"
	}
	return blocks
}
