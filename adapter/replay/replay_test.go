package replay_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stagedoor/stagedoor/adapter/comparison"
	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/inventory"
	"github.com/stagedoor/stagedoor/adapter/offline"
	"github.com/stagedoor/stagedoor/adapter/replay"
)

const policy = `package shop

import data.backstage.catalog

# METADATA
# entrypoint: true
default allow := false

allow if input.permission.name == "catalog.location.read"

allow if {
	input.permission.name == "catalog.entity.delete"
	catalog.is_entity_owner(input.resource, {"claims": input.identity.claims})
}
`

// TestReplayCounts plants differences in logs of every form, and wants each counted: by events, by people, by
// distinct questions.
func TestReplayCounts(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{".manifest": `{"roots": ["shop"]}`, "policy.rego": policy} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p, err := offline.Open(t.Context(), dir, offline.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close(t.Context()) })
	const people, events = 40, 4_000
	inv := inventory.Stock()
	inv.People = make(map[string]inventory.Person)
	var lines []string
	users := make(map[string]bool)
	wider, narrower := 0, 0
	for i := range events {
		user := fmt.Sprintf("user:default/user-%02d", i%people)
		claims := []string{user, fmt.Sprintf("group:default/team-%d", i%people%7)}
		inv.People[user] = inventory.Person{Claims: claims}
		permission, result := `"name":"catalog.location.read","type":"basic"`, "true"
		switch {
		case i%401 == 400: // the log denied what is allowed now
			result = "false"
			wider++
			users[user] = true
		case i%3 == 1:
			permission = `"name":"catalog.entity.delete","type":"resource","resourceType":"catalog-entity"`
			result = fmt.Sprintf(`{"result":"CONDITIONAL","pluginId":"catalog","resourceType":"catalog-entity","conditions":{"rule":"IS_ENTITY_OWNER",`+
				`"resourceType":"catalog-entity","params":{"claims":[%q,%q]}}}`, claims[1], claims[0])
			if i%5 == 0 { // the log allowed every entity
				result = `{"result":"ALLOW"}`
				narrower++
			}
		}
		lines = append(lines, fmt.Sprintf(`{"decision_id":"d%d","input":{"permission":{%s,"attributes":{"action":"x"}},"identity":{"user":%q}},`+
			`"result":%s,"custom":{"claims_sha256":%q}}`, i, permission, user, result, decision.Caller{User: user, Claims: claims}.ClaimsHash()))
	}
	var arrays strings.Builder
	for i := 0; i < len(lines); i += 100 {
		arrays.WriteString("[" + strings.Join(lines[i:i+100], ",") + "]")
	}
	for name, log := range map[string]io.Reader{
		"lines":  strings.NewReader(strings.Join(lines, "\n")),
		"packed": packed(t, strings.Join(lines, "\n")),
		"arrays": strings.NewReader(arrays.String()), "packed arrays": packed(t, arrays.String()),
	} {
		t.Run(name, func(t *testing.T) {
			var l replay.Log
			if err := l.Read(t.Context(), log); err != nil {
				t.Fatal(err)
			}
			r, err := l.Replay(t.Context(), p, replay.Options{Inventory: inv, Vocabulary: p.Vocabulary(), Comparer: comparison.NewComparer(p)})
			if err != nil {
				t.Fatal(err)
			}
			s := r.Summary
			if s.Events != events || s.Wider != wider || s.Narrower != narrower || s.Breaks+s.Other+s.Undecided > 0 || s.Same != events-wider-narrower {
				t.Errorf("%+v; planted %d wider, %d narrower", s, wider, narrower)
			}
			if len(r.Changes) != 2 || r.Changes[0].People != len(users) || r.Changes[0].Events != wider || r.Changes[1].Events != narrower {
				t.Errorf("%+v", r.Changes)
			}
		})
	}
}

func packed(t *testing.T, text string) io.Reader {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}
