package engine_test

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"

	"github.com/stagedoor/stagedoor/adapter/fixture"
	"github.com/stagedoor/stagedoor/adapter/supply"
	"github.com/stagedoor/stagedoor/adapter/vetted"
	"github.com/stagedoor/stagedoor/rego"
)

// BenchmarkActivation takes in a policy about the resource of a thousand rules.
func BenchmarkActivation(b *testing.B) {
	var text strings.Builder
	text.WriteString("package p\n\nimport data.backstage.catalog\n\n# METADATA\n# entrypoint: true\ndefault allow := false\n")
	for n := range 1000 {
		fmt.Fprintf(&text, "\nallow if {\n\tinput.permission.name == \"x.%d\"\n\tcatalog.has_label(input.resource, {\"label\": \"l%d\"})\n}\n", n, n)
	}
	dir := b.TempDir()
	fixture.Write(b, dir, fixture.Files{".manifest": fixture.Manifest("1", "p"), "p.rego": text.String()})
	vetter, err := vetted.New(vetted.Options{Library: rego.Modules()})
	fixture.Must(b, err)
	log := logrus.New()
	log.SetOutput(io.Discard)
	for b.Loop() {
		_, err := supply.New(supply.Options{Path: dir}, vetter, logrus.NewEntry(log)).Load(b.Context())
		fixture.Must(b, err)
	}
}
