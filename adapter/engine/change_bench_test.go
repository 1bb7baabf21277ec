package engine_test

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/bundle"

	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/fixture"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// BenchmarkOneEntryChanges changes one of 100,000 entries of a data-only bundle, and asks
// for a decision by it. It tells the processor time of both together.
func BenchmarkOneEntryChanges(b *testing.B) {
	grants := make(map[string]any, 100_000)
	for n := range 100_000 {
		grants[fmt.Sprintf("user:default/u%06d", n)] = []any{"role:r" + strconv.Itoa(n%17), "role:all"}
	}
	start := func(b *testing.B) (*fixture.House, *fixture.Server) {
		b.Helper()
		s := fixture.NewServer(b)
		s.Put("policy", fixture.Archive(b, fixture.Files{".manifest": fixture.Manifest("1", "a"), "a.rego": `package a

# METADATA
# entrypoint: true
default allow := false

allow if input.permission.name in data.b.grants[input.identity.user]
`}))
		s.Put("data", fixture.Archive(b, whole(b, "0", grants)))
		e := fixture.New(b, fixture.Options{OPA: fixture.OPA(b, s, nil, "policy", "data")})
		e.MustFetch(b, "policy", "data")
		return e, s
	}
	user := "user:default/u000042"
	changes := map[string]func(*testing.B, int, string) fixture.Files{
		"whole": func(b *testing.B, n int, name string) fixture.Files {
			grants[user] = []any{name}
			return whole(b, strconv.Itoa(n), grants)
		},
		"whole, out of order": func(b *testing.B, n int, name string) fixture.Files {
			grants[user] = []any{name}
			files := whole(b, strconv.Itoa(n), grants)
			files["b/data.json"] = strings.Replace(files["b/data.json"], `{"grants":{`, `{"grants":{"z":[],`, 1)
			return files
		},
		"delta": func(_ *testing.B, n int, name string) fixture.Files {
			return fixture.Files{".manifest": fixture.Manifest(strconv.Itoa(n), "b"), "patch.json": fmt.Sprintf(
				`{"data": [{"op": "replace", "path": "/b/grants/user:default~1u000042", "value": [%q]}]}`, name)}
		},
	}
	for kind, change := range changes {
		b.Run(kind, func(b *testing.B) {
			e, s := start(b)
			spent := time.Duration(0)
			for n := 1; b.Loop(); n++ {
				b.StopTimer()
				name := fmt.Sprint("p", n)
				s.Put("data", fixture.Archive(b, change(b, n, name)))
				b.StartTimer()
				before := fixture.ProcessorTime(b)
				e.MustFetch(b, "data")
				batch, err := e.Engine.Decide(b.Context(), decision.Caller{User: user}, []wire.Permission{{Name: name}})
				if err != nil || batch.Outcomes[0].Decision.Result != wire.Allow {
					b.Fatalf("change %d does not serve: %v", n, err)
				}
				spent += fixture.ProcessorTime(b) - before
			}
			b.ReportMetric(float64(spent.Milliseconds())/float64(b.N), "cpu-ms/op")
		})
	}
	b.Run("OPA's part of whole", func(b *testing.B) { // to unpack it, before anybody else sees it
		archive := fixture.Archive(b, whole(b, "0", grants))
		before := fixture.ProcessorTime(b)
		for b.Loop() {
			if _, err := bundle.NewCustomReader(bundle.NewTarballLoader(bytes.NewReader(archive))).Read(); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64((fixture.ProcessorTime(b)-before).Milliseconds())/float64(b.N), "cpu-ms/op")
	})
}

func whole(b *testing.B, revision string, grants map[string]any) fixture.Files {
	b.Helper()
	return fixture.Files{
		".manifest":   fixture.Manifest(revision, "b"),
		"b/data.json": string(fixture.JSON(b, map[string]any{"grants": grants})),
	}
}
