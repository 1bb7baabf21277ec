package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/inventory"
	"github.com/stagedoor/stagedoor/adapter/offline"
	"github.com/stagedoor/stagedoor/adapter/wire"
	"github.com/stagedoor/stagedoor/adapter/words"
	"github.com/stagedoor/stagedoor/rego"
)

// TestWriting runs the test of docs/writing.md by the stock OPA on the README's
// policy, and holds its rule to the one in bundles/dev.
func TestWriting(t *testing.T) {
	root := filepath.Join("..", "..")
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	page := read("docs/writing.md")
	blocks := regexp.MustCompile("(?s)```rego\n(.*?)```").FindAllStringSubmatch(page, -1)
	if len(blocks) != 3 {
		t.Fatalf("%d blocks", len(blocks))
	}
	if !strings.Contains(read("bundles/dev/todo.rego"), blocks[2][1]) {
		t.Errorf("the rule is not the one of bundles/dev:\n%s", blocks[2][1])
	}
	dir := t.TempDir()
	writeConfig(t, filepath.Join(dir, "policy.rego"), block(t, read("README.md"), "rego"))
	writeConfig(t, filepath.Join(dir, "policy_test.rego"), blocks[1][1])
	for name, text := range rego.Modules() {
		writeConfig(t, filepath.Join(dir, strings.ReplaceAll(name, "/", "_")), text)
	}
	out, err := exec.CommandContext(t.Context(), "go", "tool", "opa", "test", dir).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "PASS: 1/1") {
		t.Errorf("opa test: %v\n%s", err, out)
	}
}

// TestWritingDocuments decides by the policy of docs/writing.md that answers with
// documents, as the page says.
func TestWritingDocuments(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "writing.md"))
	if err != nil {
		t.Fatal(err)
	}
	p := openPolicy(t, block(t, string(page), "rego"), "shop/edits")
	edit := wire.Permission{Name: "catalog.entity.edit", Resource: true, ResourceType: "catalog-entity"}
	for _, test := range []struct {
		group, words, reason string
	}{
		{"group:default/web", "labelled open, or owned by the caller or a group of the caller", "an owner edits"},
		{"group:default/core", "owned by the caller or a group of the caller", "an owner edits; only owners edit"},
	} {
		caller := decision.Caller{User: "user:default/ann", Claims: []string{"user:default/ann", test.group}}
		o, err := p.Decide(t.Context(), caller, edit)
		if err != nil || o.Err != nil {
			t.Fatal(err, o.Err)
		}
		got := p.Vocabulary().Condition(o.Decision.Conditions, words.Caller{User: caller.User, Claims: caller.Claims})
		if got != test.words || o.Reason != test.reason {
			t.Errorf("%s: %q because %q", test.group, got, o.Reason)
		}
	}
}

// TestReadmeEverywhere asks the README's policy about every permission of the stock
// plugins. None of them fails.
func TestReadmeEverywhere(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	p := openPolicy(t, block(t, string(page), "rego"), "shop/authz")
	permissions := inventory.Stock().Permissions
	if len(permissions) < 50 {
		t.Fatalf("%d permissions", len(permissions))
	}
	results := map[wire.Result]int{}
	for _, caller := range []decision.Caller{{Anonymous: true}, {User: "user:default/ann", Claims: []string{"user:default/ann"}}} {
		for _, permission := range permissions {
			o, err := p.Decide(t.Context(), caller, wire.Permission{
				Name: permission.Name, Action: permission.Attributes.Action, Resource: permission.Type == "resource",
				ResourceType: permission.ResourceType,
			})
			if err != nil || o.Err != nil {
				t.Errorf("%s: %v %v", permission.Name, err, o.Err)
				continue
			}
			results[o.Decision.Result]++
			if o.Decision.Result == wire.Allow || o.Decision.Result == wire.Conditional && o.Decision.PluginID != "catalog" {
				t.Errorf("%s: %s", permission.Name, o.Decision.Text())
			}
		}
	}
	if results[wire.Conditional] == 0 || results[wire.Deny] == 0 {
		t.Errorf("%v", results)
	}
}

// openPolicy opens a policy of one module.
func openPolicy(t *testing.T, source, root string) *offline.Policy {
	t.Helper()
	dir := t.TempDir()
	writeConfig(t, filepath.Join(dir, "policy.rego"), source)
	writeConfig(t, filepath.Join(dir, ".manifest"), `{"roots": ["`+root+`"]}`)
	p, err := offline.Open(t.Context(), dir, offline.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close(t.Context()) })
	return p
}
