package check_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stagedoor/stagedoor/adapter/check"
	"github.com/stagedoor/stagedoor/adapter/inventory"
)

// large writes a policy of so many rules about the permissions of the inventory.
func large(tb testing.TB, rules int) string {
	tb.Helper()
	var text strings.Builder
	text.WriteString("package p\n\nimport data.backstage.catalog\n\n# METADATA\n# entrypoint: true\ndefault allow := false\n")
	permissions := inventory.Stock().Permissions
	for i := range rules {
		p := permissions[i%len(permissions)]
		fmt.Fprintf(&text, "\nallow if {\n\tinput.permission.name == %q\n\t\"group:default/team-%d\" in input.identity.claims\n", p.Name, i%40)
		if p.ResourceType == "catalog-entity" {
			fmt.Fprintf(&text, "\tcatalog.has_label(input.resource, {\"label\": \"label-%d\"})\n\tnot frozen_%d\n}\n\nfrozen_%d if catalog.has_spec(input.resource, {\"key\": \"freeze-%d\"})\n", i, i, i, i)
			continue
		}
		fmt.Fprintf(&text, "\tinput.identity.user != \"user:default/guest-%d\"\n}\n", i)
	}
	dir := tb.TempDir()
	for name, content := range map[string]string{".manifest": `{"roots": ["p"]}`, "policy.rego": text.String()} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	return dir
}

// BenchmarkCheck checks policies of 60 and of 5,000 rules over the whole inventory.
func BenchmarkCheck(b *testing.B) {
	for _, rules := range []int{60, 5000} {
		b.Run(fmt.Sprintf("%d_rules", rules), func(b *testing.B) {
			dir := large(b, rules)
			for b.Loop() {
				reports, err := check.Check(b.Context(), []string{dir}, check.Options{})
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(len(reports[0].Findings)), "findings")
				b.ReportMetric(float64(reports[0].Questions), "questions")
			}
			var memory runtime.MemStats
			runtime.ReadMemStats(&memory)
			b.ReportMetric(float64(memory.Sys>>20), "MB")
		})
	}
}
