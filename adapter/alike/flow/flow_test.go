package flow

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/stagedoor/stagedoor/rego"
)

func flowOf(t testing.TB, entrypoint string, modules map[string]string) []Reason {
	t.Helper()
	parsed := make(map[string]*ast.Module)
	for name, text := range modules {
		module, err := ast.ParseModuleWithOpts(name, text, ast.ParserOptions{ProcessAnnotation: true})
		if err != nil {
			t.Fatal(err)
		}
		parsed[name] = module
	}
	c := ast.NewCompiler()
	if c.Compile(parsed); c.Failed() {
		t.Fatal(c.Errors)
	}
	return Through(c, ast.MustParseRef("data."+entrypoint))
}

// modulesOf are the modules of a folder, without tests, beside the rule library.
func modulesOf(t testing.TB, dir string) map[string]string {
	t.Helper()
	modules := rego.Modules()
	files, err := filepath.Glob(filepath.Join(dir, "*.rego"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %d modules, %v", dir, len(files), err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.rego") {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		modules[filepath.Base(file)] = string(text)
	}
	return modules
}

// TestBundles has what is said of the ready policies, and of the one that is measured.
func TestBundles(t *testing.T) {
	for _, c := range []struct {
		dir, entrypoint string
		want            []Reason
	}{
		{"bundles/default", "backstage.authz.allow", nil},
		{"bundles/rbac", "rbac.decision", nil},
		{"bundles/regulated", "regulated.allow", nil},
		{"bundles/wrapper", "rbac_policy.decision", nil},
		{"bench/policy", "rbac_policy.decision", nil},
		{"bundles/ownership", "ownership.allow", []Reason{
			{"startswith looks into a claim or the user, or at how many claims there are", "policy.rego:159"},
			{"trim_prefix looks into a claim or the user, or at how many claims there are", "policy.rego:160"},
		}},
	} {
		got := flowOf(t, c.entrypoint, modulesOf(t, "../../../"+c.dir))
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v", c.dir, got)
		}
	}
}

// TestPolicies has what is said of policies of one construct each. Package soundness has
// them decided.
func TestPolicies(t *testing.T) {
	all, err := txtar.ParseFile("testdata/policies.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range all.Files {
		first, _, _ := strings.Cut(string(file.Data), "\n")
		want := strings.TrimPrefix(first, "# ")
		got := flowOf(t, "p.decision", map[string]string{file.Name: "package p\n\n" + string(file.Data)})
		switch {
		case want == "shared" && len(got) > 0:
			t.Errorf("%s: %v", file.Name, got)
		case want != "shared" && (len(got) == 0 || !slices.ContainsFunc(got, func(r Reason) bool {
			return strings.Contains(r.Construct, want) && strings.HasPrefix(r.Location, file.Name+":")
		})):
			t.Errorf("%s: got %v, want %s", file.Name, got, want)
		}
	}
}
