package replay_test

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stagedoor/stagedoor/adapter/callers"
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

// opened is a policy of one module.
func opened(t *testing.T, module string) *offline.Policy {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{".manifest": `{"roots": ["shop"]}`, "policy.rego": module} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p, err := offline.Open(t.Context(), dir, offline.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close(context.WithoutCancel(t.Context())) })
	return p
}

// TestReplayCounts plants differences in logs of every form, and wants each counted: by events, by people, by
// distinct questions.
func TestReplayCounts(t *testing.T) {
	p := opened(t, policy)
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

// TestReplayHidden replays events of which something is hidden, or was never told.
func TestReplayHidden(t *testing.T) {
	p := opened(t, hiding)
	ann := decision.Caller{User: "user:default/ann", Claims: []string{"user:default/ann", "group:default/web"}}
	hash := ann.ClaimsHash()
	inv := inventory.Stock()
	inv.People = map[string]inventory.Person{ann.User: {Claims: ann.Claims}}
	const noAnswer = "the policy was not done in time, or the remote OPA did not answer"
	const who, web = "a mask has left out who asked or for what", `"identity":{"user":"user:default/ann","claims":["user:default/ann","group:default/web"]}`
	for name, test := range map[string]struct{ permission, identity, rest, undecided string }{
		"all told":                      {"", web, "", ""},
		"claims replaced":               {"", `"identity":{"user":"user:default/ann","claims":["***"]}`, `,"masked":["/input/identity/claims"],"custom":{"claims_sha256":"` + hash + `"}`, ""},
		"one claim removed":             {"", `"identity":{"user":"user:default/ann","claims":["user:default/ann"]}`, `,"erased":["/input/identity/claims/1"],"custom":{"claims_sha256":"` + hash + `"}`, ""},
		"claims changed by others":      {"", `"identity":{"user":"user:default/ann","claims":["user:default/ann"]}`, `,"custom":{"claims_sha256":"` + hash + `"}`, ""},
		"claims replaced, and no hash":  {"", `"identity":{"user":"user:default/ann","claims":["***"]}`, `,"masked":["/input/identity/claims"]`, "it tells neither the caller's claims nor their hash"},
		"the user replaced":             {"", `"identity":{"user":"***","claims":["group:default/web"]}`, `,"masked":["/input/identity/user"]`, who},
		"the identity replaced":         {"", `"identity":{}`, `,"masked":["/input/identity"]`, who},
		"the plugin that asks left out": {"", web, `,"erased":["/input/identity/actor"]`, who},
		"the name of the permission":    {"", web, `,"masked":["/input/permission/name"]`, who},
		"a part of the answer":          {"", web, `,"masked":["/result/conditions/params"]`, "a mask has left out a part of the answer"},
		"no time was left":              {"", web, `,"result":null,"custom":{"error":{"code":"deadline","message":"x"}}`, noAnswer},
		"the remote OPA was away":       {"", web, `,"result":null,"custom":{"error":{"code":"remote","message":"x"}}`, noAnswer},
		"no type, but in the inventory": {`{"name":"catalog.entity.delete"}`, web, "", ""},
		"no type, and nowhere":          {`{"name":"shop.order"}`, web, "", "it does not say whether the permission is about a resource, and the inventory does not have the permission"},
	} {
		t.Run(name, func(t *testing.T) {
			permission := cmp.Or(test.permission, `{"name":"catalog.entity.delete","type":"resource","resourceType":"catalog-entity","attributes":{"action":"delete"}}`)
			var l replay.Log
			event := `{"decision_id":"d","input":{"permission":` + permission + `,` + test.identity + `},"result":{"result":"ALLOW"}` + test.rest + `}`
			if err := l.Read(t.Context(), strings.NewReader(event)); err != nil {
				t.Fatal(err)
			}
			r, err := l.Replay(t.Context(), p, replay.Options{Inventory: inv, Vocabulary: p.Vocabulary(), Comparer: comparison.NewComparer(p)})
			if err != nil {
				t.Fatal(err)
			}
			if s := r.Summary; s.Events != 1 || s.Same+s.Undecided != 1 || s.Undecided != r.Undecided[test.undecided] {
				t.Errorf("%+v, %v, %+v", s, r.Undecided, r.Changes)
			}
		})
	}
}

const hiding = `package shop

# METADATA
# entrypoint: true
allow if {
	input.permission.type == "resource"
	input.permission.attributes.action == "delete"
	"group:default/web" in input.identity.claims
}
`

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

// TestReplayOfOneRule replays logs to which another OPA sends its decisions, too.
func TestReplayOfOneRule(t *testing.T) {
	p := opened(t, policy)
	const asked = `"input":{"permission":{"name":"catalog.location.read","type":"basic","attributes":{}},"identity":{"user":"user:default/ann","claims":[]}}`
	event := func(path, rest string) string { return `{"path":"` + path + `",` + rest + "}" }
	ours, others := event("shop/allow", asked+`,"result":true`), event("bank/allow", asked+`,"result":false`)
	untold, unlike := event("bank/allow", asked), event("bank/allow", `"input":{"method":"GET"},"result":true`)
	for name, test := range map[string]struct {
		log                     []string
		events, same, undecided int
		leftOut                 map[string]int
		path, err               string
		byOperators             int
	}{
		"an operator asked":     {log: []string{ours, event("shop/allow", asked+`,"result":false,"custom":{"by_operator":true}`), event("bank/allow", asked+`,"custom":{"by_operator":true}`)}, events: 1, same: 1, byOperators: 2},
		"cut":                   {log: []string{ours, ours, ours[:60]}, events: 3, same: 2, undecided: 1},
		"an array that is cut":  {log: []string{"[" + ours + ",", ours + ",", others[:60]}, events: 3, same: 2, undecided: 1},
		"cut after the first":   {log: []string{"[" + ours}, events: 2, same: 1, undecided: 1},
		"on the console":        {log: []string{`{"level":"info","msg":"served","path":"/api/permission/authorize"}`, strings.Replace(ours, "{", `{"level":"info","msg":"Decision Log","type":"openpolicyagent.org/decision_logs",`, 1)}, events: 1, same: 1},
		"ours alone":            {log: []string{ours, ours}, events: 2, same: 2},
		"another's beside":      {log: []string{others, ours, others, untold, unlike}, events: 1, same: 1, leftOut: map[string]int{"bank/allow": 4}},
		"with a leading slash":  {log: []string{event("/shop/allow", asked+`,"result":true`)}, events: 1, same: 1},
		"no path":               {log: []string{"{" + asked + `,"result":true}`, ours, others}, events: 2, same: 2, leftOut: map[string]int{"bank/allow": 1}},
		"of a rule that moved":  {log: []string{event("old/allow", asked+`,"result":true`), unlike}, events: 1, same: 1, leftOut: map[string]int{"bank/allow": 1}, path: "old/allow"},
		"nothing that is asked": {log: []string{unlike}, leftOut: map[string]int{"bank/allow": 1}},
		"several, and not ours": {log: []string{others, event("old/allow", asked+`,"result":true`)}, err: "bank/allow, old/allow"},
	} {
		t.Run(name, func(t *testing.T) {
			var l replay.Log
			if err := l.Read(t.Context(), strings.NewReader(strings.Join(test.log, "\n"))); err != nil {
				t.Fatal(err)
			}
			r, err := l.Replay(t.Context(), p, replay.Options{Inventory: inventory.Stock(), Vocabulary: p.Vocabulary(), Comparer: comparison.NewComparer(p)})
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("%v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if s := r.Summary; s.Events != test.events || s.Same != test.same || s.Undecided != test.undecided || s.Narrower+s.Wider+s.Other+s.Breaks != 0 ||
				!maps.Equal(r.LeftOut, test.leftOut) || r.ByOperators != test.byOperators || r.About.Path != test.path {
				t.Errorf("%+v, %v, %q, %+v", s, r.LeftOut, r.About.Path, r.Changes)
			}
		})
	}
}

// TestReadCut reads a packed log of which the end is missing, as one that is still written.
func TestReadCut(t *testing.T) {
	var lines strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&lines, `{"decision_id":"d%d","path":"shop/allow","input":{"permission":{"name":"p%d","type":"basic"}},"result":true}`+"\n", i, i)
	}
	whole, err := io.ReadAll(packed(t, lines.String()))
	if err != nil {
		t.Fatal(err)
	}
	for _, end := range []int{len(whole) / 2, len(whole) - 8, len(whole) - 1} {
		var l replay.Log
		if err := l.Read(t.Context(), bytes.NewReader(whole[:end])); err != nil {
			t.Errorf("the first %d bytes of %d: %v", end, len(whole), err)
		}
	}
	for _, no := range []string{"{]", `{"a":1} x {"a":2}`, "[1,,2]", "\x1f\x8bno"} {
		var l replay.Log
		if err := l.Read(t.Context(), strings.NewReader(no)); err == nil {
			t.Errorf("%q is read", no)
		}
	}
}

// TestReplayCountsAtOnce counts what cannot be decided of callers while others are decided for.
func TestReplayCountsAtOnce(t *testing.T) {
	p := opened(t, policy)
	var lines []string
	const people = 200
	for i := range people {
		identity := fmt.Sprintf(`{"user":"user:default/u%d","claims":[]}`, i)
		if i%2 == 0 {
			identity = fmt.Sprintf(`{"user":"user:default/u%d"}`, i)
		}
		lines = append(lines, `{"input":{"permission":{"name":"shop.order"},"identity":`+identity+`},"result":true}`)
	}
	var l replay.Log
	if err := l.Read(t.Context(), strings.NewReader(strings.Join(lines, "\n"))); err != nil {
		t.Fatal(err)
	}
	r, err := l.Replay(t.Context(), p, replay.Options{Inventory: inventory.Stock(), Vocabulary: p.Vocabulary(), Comparer: comparison.NewComparer(p)})
	if err != nil {
		t.Fatal(err)
	}
	if r.Summary.Undecided != people || len(r.Undecided) != 2 {
		t.Errorf("%+v, %v", r.Summary, r.Undecided)
	}
}

// TestReplaySignedOut has callers without credentials, who are no people.
func TestReplaySignedOut(t *testing.T) {
	p := opened(t, policy)
	const nobody = `{"input":{"permission":{"name":"catalog.location.read","type":"basic","attributes":{}}},"result":false}`
	ann := strings.Replace(nobody, `"attributes":{}}`, `"attributes":{}},"identity":{"user":"user:default/ann","claims":[]}`, 1)
	for want, log := range map[string][]string{
		"callers without credentials, 2 events":              {nobody, nobody},
		"1 person, 1 event":                                  {ann},
		"1 person and callers without credentials, 3 events": {nobody, ann, nobody},
	} {
		var l replay.Log
		if err := l.Read(t.Context(), strings.NewReader(strings.Join(log, "\n"))); err != nil {
			t.Fatal(err)
		}
		r, err := l.Replay(t.Context(), p, replay.Options{Inventory: inventory.Stock(), Vocabulary: p.Vocabulary(), Comparer: comparison.NewComparer(p)})
		if err != nil {
			t.Fatal(err)
		}
		if text := r.Text(); !strings.Contains(text, "\n  "+want+"\n") {
			t.Errorf("want %q in\n%s", want, text)
		}
	}
}

// TestReplayOfOrder has a policy that asks for the first claim, of events that tell the claims and of such that tell a hash.
func TestReplayOfOrder(t *testing.T) {
	const header = "package shop\n\n# METADATA\n# entrypoint: true\ndefault allow := false\n\n"
	a, b := "group:default/a", "group:default/b"
	inv := inventory.Stock()
	inv.People = map[string]inventory.Person{"user:default/ann": {Claims: []string{a, b}}}
	const event = `{"input":{"permission":{"name":"catalog.location.read","type":"basic","attributes":{}},"identity":{"user":"user:default/ann"%s}},"result":%s%s}`
	hash := fmt.Sprintf(`,"custom":{"claims_sha256":%q}`, decision.Caller{Claims: []string{b, a}}.ClaimsHash())
	for name, test := range map[string]struct {
		rule, event string
		same        bool
	}{
		"a hash":             {`allow if input.identity.claims[0] == "group:default/a"`, fmt.Sprintf(event, "", "false", hash), false},
		"the last, a hash":   {`allow if { c := input.identity.claims; c[count(c) - 1] == "group:default/a" }`, fmt.Sprintf(event, "", "true", hash), false},
		"claims":             {`allow if input.identity.claims[0] == "group:default/a"`, fmt.Sprintf(event, `,"claims":["group:default/b","group:default/a"]`, "false", hash), true},
		"a place in a text":  {`allow if split(input.permission.name, ".")[0] == "catalog"`, fmt.Sprintf(event, "", "true", hash), true},
		"a place in no text": {`allow if { split(input.permission.name, ".")[0] == "catalog"; "group:default/a" in input.identity.claims }`, fmt.Sprintf(event, "", "true", hash), true},
	} {
		t.Run(name, func(t *testing.T) {
			p := opened(t, header+test.rule)
			var l replay.Log
			if err := l.Read(t.Context(), strings.NewReader(test.event)); err != nil {
				t.Fatal(err)
			}
			r, err := l.Replay(t.Context(), p, replay.Options{
				Inventory: inv, Vocabulary: p.Vocabulary(), Comparer: comparison.NewComparer(p), Placed: callers.Placed(p.Modules()) != "",
			})
			if err != nil {
				t.Fatal(err)
			}
			if s := r.Summary; s.Same == 1 != test.same || s.Undecided == 1 == test.same {
				t.Errorf("%+v, %v, %+v", s, r.Undecided, r.Changes)
			}
		})
	}
}
