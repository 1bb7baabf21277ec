package adapter_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// TestBodiesAreNotMixed has many ask at a time, little and much, and each expect the
// answers to what it asked: their bodies share memory, one after the other.
func TestBodiesAreNotMixed(t *testing.T) {
	site := newSite(t, siteOptions{policyDir: auditPolicy(t, nil), entrypoint: auditEntrypoint})
	token, err := site.backstage.PluginToken(alice)
	check(t, err)
	var group sync.WaitGroup
	for worker := range 8 {
		group.Go(func() {
			random := rand.New(rand.NewPCG(uint64(worker), 1))
			for n := range 100 {
				var asked, expected []string
				for i := range 1 + random.IntN(60) {
					id := fmt.Sprintf("%d-%d-%d-%s", worker, n, i, strings.Repeat("x", random.IntN(40)))
					name, result := "always", "ALLOW"
					if random.IntN(2) == 0 {
						name, result = "never", "DENY"
					}
					asked = append(asked, fmt.Sprintf(`{"id":%q,"permission":{"type":"basic","name":%q,"attributes":{}}}`, id, name))
					expected = append(expected, fmt.Sprintf(`{"id":%q,"result":%q}`, id, result))
				}
				status, body := site.post(t, token, `{"items":[`+strings.Join(asked, ",")+`]}`)
				if want := `{"items":[` + strings.Join(expected, ",") + `]}`; status != http.StatusOK || body != want {
					t.Errorf("%d %s\nwant %s", status, body, want)
					return
				}
			}
		})
	}
	group.Wait()
}
