package audience_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stagedoor/stagedoor/adapter/audience"
	"github.com/stagedoor/stagedoor/adapter/inventory"
	"github.com/stagedoor/stagedoor/adapter/offline"
)

// TestUnread asks for callers whom a policy treats alike, and another one may not, that is
// not read.
func TestUnread(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		".manifest":   `{"roots": ["shop"]}`,
		"policy.rego": "package shop\n\n# METADATA\n# entrypoint: true\nallow if \"group:default/a\" in input.identity.claims\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p, err := offline.Open(t.Context(), dir, offline.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close(t.Context()) })
	people := map[string]inventory.Person{
		"user:default/ann": {Claims: []string{"user:default/ann", "group:default/ops"}},
		"user:default/bob": {Claims: []string{"user:default/bob"}},
	}
	const unread = "the other is not read"
	for name, test := range map[string]struct {
		people  map[string]inventory.Person
		unread  string
		classes int
		all     bool
	}{
		"classes":             {nil, "", 3, true},
		"classes, one unread": {nil, unread, 3, false},
		"people are folded":   {people, "", 3, false},
		"people, one unread":  {people, unread, 4, false},
	} {
		t.Run(name, func(t *testing.T) {
			who, err := audience.Of(t.Context(), audience.Sources{
				Inventory: &inventory.Inventory{People: test.people}, Unread: test.unread,
			}, p)
			if err != nil {
				t.Fatal(err)
			}
			if len(who.List) != test.classes || who.All != test.all || who.Why != test.unread {
				t.Errorf("%d classes, all: %v, why: %s; %s", len(who.List), who.All, who.Why, who.Of)
			}
		})
	}
}
