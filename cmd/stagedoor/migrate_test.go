package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// wrapperSteps are the policies of docs/migrate/wrapper.md, each a step from the one
// before.
func wrapperSteps(t *testing.T) []string {
	t.Helper()
	steps, err := filepath.Glob(filepath.Join("..", "..", "testdata", "migrate", "wrapper", "*"))
	if err != nil || len(steps) != 4 {
		t.Fatalf("steps %v, error %v", steps, err)
	}
	return steps
}

// TestWrapperSteps holds every step to the same decisions as the one before, for the
// whole inventory and everybody whom the policies can tell apart.
func TestWrapperSteps(t *testing.T) {
	steps := wrapperSteps(t)
	for i, step := range steps[1:] {
		output := stagedoor(t, "diff", steps[i], step)
		if !strings.HasPrefix(output, "SAME in ") || !strings.Contains(output, "there are no others") {
			t.Errorf("from %s to %s: %s", steps[i], step, output)
		}
	}
	first, err := os.ReadFile(filepath.Join(steps[0], "policy.rego"))
	if err != nil {
		t.Fatal(err)
	}
	ready, err := os.ReadFile(filepath.Join("..", "..", "bundles", "wrapper", "policy.rego"))
	if err != nil || !bytes.Equal(first, ready) {
		t.Errorf("the first step is not bundles/wrapper: %v", err)
	}
}

// TestWrapperIsSaid holds what migrate wrapper says of the first step, and that nothing
// of it is left after the last.
func TestWrapperIsSaid(t *testing.T) {
	steps := wrapperSteps(t)
	said := stagedoor(t, "migrate", "wrapper", steps[0])
	for _, want := range []string{
		`policy.rego:40: note: write {"result": "ALLOW"} in its place`,
		`policy.rego:49: note: IS_ENTITY_OWNER is catalog.is_entity_owner(input.resource, {"claims": claims}), with import data.backstage.catalog [rule]`,
		"IS_TASK_OWNER is scaffolder.is_task_owner(",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("%q is not in\n%s", want, said)
		}
	}
	if said := stagedoor(t, "migrate", "wrapper", steps[3]); said != "" {
		t.Errorf("of the last step: %s", said)
	}
}

// TestMigrateDocs holds the Rego and the commands of docs/migrate to what the tests
// run: a block of Rego is part of a policy, and a command is one of a script.
func TestMigrateDocs(t *testing.T) {
	var policies, scripts strings.Builder
	for _, step := range append(wrapperSteps(t), filepath.Join("..", "..", "testdata", "migrate", "typescript")) {
		read(t, &policies, filepath.Join(step, "policy.rego"))
	}
	for _, name := range []string{"migrate-rbac.txtar", "migrate-docs.txtar"} {
		read(t, &scripts, filepath.Join("..", "..", "testdata", "script", name))
	}
	pages, err := filepath.Glob(filepath.Join("..", "..", "docs", "migrate", "*.md"))
	if err != nil || len(pages) != 3 {
		t.Fatalf("pages %v, error %v", pages, err)
	}
	blocks := 0
	for _, page := range pages {
		var text strings.Builder
		read(t, &text, page)
		for _, block := range regexp.MustCompile("(?s)```rego\n(.*?)```").FindAllStringSubmatch(text.String(), -1) {
			blocks++
			if !strings.Contains(policies.String(), block[1]) {
				t.Errorf("%s: this is in no policy:\n%s", page, block[1])
			}
		}
		for _, line := range regexp.MustCompile(`(?m)^stagedoor .*$`).FindAllString(text.String(), -1) {
			blocks++
			if !strings.Contains(scripts.String(), line) {
				t.Errorf("%s: this is in no script: %s", page, line)
			}
		}
	}
	if blocks < 10 {
		t.Errorf("%d blocks and commands", blocks)
	}
}

func read(t *testing.T, into *strings.Builder, name string) {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	into.Write(text)
}

// stagedoor runs a command that must succeed, and returns its output.
func stagedoor(t *testing.T, args ...string) string {
	t.Helper()
	var output bytes.Buffer
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(&output)
	root.SetErr(&bytes.Buffer{})
	if err := root.ExecuteContext(t.Context()); err != nil {
		t.Fatalf("stagedoor %s: %v\n%s", strings.Join(args, " "), err, output.String())
	}
	return output.String()
}
