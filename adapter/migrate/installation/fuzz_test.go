package installation

import (
	"strings"
	"testing"
)

// FuzzReadCSV feeds foreign bytes: every line is a line, a member, blank, or refused,
// and never two of these.
func FuzzReadCSV(f *testing.F) {
	for _, seed := range []string{
		"p, role:default/a, x, read, allow\n", "g, user:default/A, role:default/a\r\n# c\n\n", "\ufeffp,a,b,c,d",
		`p, "a ""b""", "c,d", read, "allow"`, `p, "a`, "p,a,b\x00c,d,e", "p;a;b", "\xff",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		lines, bindings, skipped, refused := readCSV("f", []byte(text))
		seen := map[int]int{}
		for _, l := range lines {
			seen[l.At.Line]++
		}
		for _, b := range bindings {
			seen[b.At.Line]++
		}
		for _, n := range skipped {
			seen[n]++
		}
		for _, r := range refused {
			seen[r.Line]++
		}
		for n, times := range seen {
			if times != 1 {
				t.Errorf("line %d is told %d times", n, times)
			}
		}
		count := 0
		for range strings.Lines(text) {
			count++
		}
		if len(refused) == 0 && len(seen) != count {
			t.Errorf("%d of %d lines are told", len(seen), count)
		}
	})
}

// FuzzReadPolicies feeds foreign bytes: what is read has what the plugin wants, and the
// rest is refused.
func FuzzReadPolicies(f *testing.F) {
	f.Add("result: CONDITIONAL\nroleEntityRef: role:default/a\npluginId: p\nresourceType: t\npermissionMapping: [read]\nconditions: {rule: R, resourceType: t}\n")
	f.Add("---\n- 1\n---\n{a: &x [*x]}\n")
	f.Add("conditions: {not: {anyOf: [{rule: R}]}}")
	f.Fuzz(func(t *testing.T, text string) {
		policies, refused := readPolicies("f", []byte(text), defaultBounds)
		if len(refused) > 0 {
			return
		}
		for _, p := range policies {
			if p.Role == "" || p.ResourceType == "" || len(p.Mapping) == 0 || len(p.Condition.Rules()) == 0 {
				t.Errorf("%+v", p)
			}
			_ = p.Condition.Document()
			_ = p.Understood()
		}
	})
}

// FuzzReadGroups feeds foreign bytes.
func FuzzReadGroups(f *testing.F) {
	f.Add("kind: Group\nmetadata: {name: a}\nspec: {parent: b}\n")
	f.Add(`{"items": [{"kind": "Group", "metadata": {"name": "a"}, "relations": [{"type": "childOf", "targetRef": "group:default/b"}]}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		groups, _, refused := readGroups("f", []byte(text))
		if len(refused) > 0 && groups != nil {
			t.Errorf("groups %v beside refusals %v", groups, refused)
		}
	})
}
