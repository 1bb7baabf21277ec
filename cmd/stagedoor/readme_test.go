package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"

	"github.com/stagedoor/stagedoor/adapter/config"
	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/engine"
	"github.com/stagedoor/stagedoor/adapter/supply"
	"github.com/stagedoor/stagedoor/adapter/vetted"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// block returns the first block of the language in a Markdown text.
func block(t *testing.T, markdown, language string) string {
	t.Helper()
	match := regexp.MustCompile("(?s)```" + language + "\n(.*?)```").FindStringSubmatch(markdown)
	if match == nil {
		t.Fatalf("no block of %s", language)
	}
	return match[1]
}

// TestReadme holds the README's policy, answer, configuration and list of links to
// what they say.
func TestReadme(t *testing.T) {
	root := filepath.Join("..", "..")
	text, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	readme := string(text)
	dir := t.TempDir()
	writeConfig(t, filepath.Join(dir, "policy.rego"), block(t, readme, "rego"))
	writeConfig(t, filepath.Join(dir, ".manifest"), regexp.MustCompile("`(\\{\"roots\".*?\\})`").FindStringSubmatch(readme)[1])
	log := logrus.New()
	log.SetLevel(logrus.ErrorLevel)
	vetter, err := vetted.New(vettedBy("", &config.Config{}))
	if err != nil {
		t.Fatal(err)
	}
	policies := supply.New(supply.Options{Path: dir}, vetter, logrus.NewEntry(log))
	if _, err := policies.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	serving, err := engine.New(engine.Options{}, policies.Serving, logrus.NewEntry(log))
	if err != nil {
		t.Fatal(err)
	}
	defer serving.Close()
	batch, err := serving.Decide(t.Context(), decision.Caller{User: "user:default/ann", Claims: []string{"user:default/ann"}},
		[]wire.Permission{{Name: "catalog.entity.delete", Action: "delete", Resource: true, ResourceType: "catalog-entity"}})
	if err != nil {
		t.Fatal(err)
	}
	var want, got any
	for from, to := range map[string]*any{block(t, readme, "json"): &want, string(batch.Outcomes[0].Decision.AppendJSON(nil)): &got} {
		if err := json.Unmarshal([]byte(from), to); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the answer (-README +got):\n%s", diff)
	}
	file := filepath.Join(dir, "stagedoor.yaml")
	writeConfig(t, file, block(t, readme, "yaml"))
	if _, err := config.Load([]string{file}, nil); err != nil {
		t.Error(err)
	}
	for _, link := range regexp.MustCompile(`\]\(([^):]+)\)`).FindAllStringSubmatch(readme, -1) {
		if strings.HasPrefix(link[1], "http") {
			continue
		}
		if _, err := os.Stat(filepath.Join(root, link[1])); err != nil {
			t.Errorf("link: %v", err)
		}
	}
}
