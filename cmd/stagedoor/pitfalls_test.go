package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stagedoor/stagedoor/adapter/check"
)

// TestPitfalls checks every example of docs/pitfalls.md: about the first of a pitfall
// check says what the page says, and about the second nothing.
func TestPitfalls(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "pitfalls.md"))
	if err != nil {
		t.Fatal(err)
	}
	sections := regexp.MustCompile(`(?m)^## `).Split(string(page), -1)[1:]
	if len(sections) < 15 {
		t.Fatalf("%d pitfalls", len(sections))
	}
	blocks := regexp.MustCompile("(?s)```(\\w+)\n(.*?)```")
	for _, section := range sections {
		title, _, _ := strings.Cut(section, "\n")
		t.Run(title, func(t *testing.T) {
			examples := 0
			var last []string
			for _, block := range blocks.FindAllStringSubmatch(section, -1) {
				switch block[1] {
				case "rego":
					if examples > 0 && len(last) > 0 {
						t.Errorf("check says what the page does not: %s", strings.Join(last, "\n"))
					}
					last = said(t, block[2])
					examples++
				case "text":
					want := strings.TrimSpace(block[2])
					if got := strings.Join(last, "\n"); got != want {
						t.Errorf("check says\n%s\nand the page\n%s", got, want)
					}
					last = nil
				}
			}
			if examples < 2 {
				t.Errorf("%d examples: there must be one that is wrong and one that is right", examples)
			}
			if len(last) > 0 {
				t.Errorf("about what is right check says %s", strings.Join(last, "\n"))
			}
		})
	}
}

// said is what check says about an example, without the places.
func said(t *testing.T, example string) []string {
	t.Helper()
	dir := t.TempDir()
	imports := []string{"package shop\n"}
	for _, plugin := range []string{"catalog", "scaffolder"} {
		if strings.Contains(example, plugin+".is_") || strings.Contains(example, plugin+".has_") {
			imports = append(imports, "import data.backstage."+plugin)
		}
	}
	text := strings.Join(imports, "\n") + "\n\n# METADATA\n# entrypoint: true\n" + example
	writeConfig(t, filepath.Join(dir, ".manifest"), `{"roots": ["shop"]}`)
	writeConfig(t, filepath.Join(dir, "policy.rego"), text)
	writeConfig(t, filepath.Join(dir, "data.json"), `{"shop": {"leads_tags": ["lead"], "admins": ["group:default/admins"]}}`)
	reports, err := check.Check(t.Context(), []string{dir}, check.Options{Unhurried: true})
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, f := range reports[0].Findings {
		lines = append(lines, string(f.Severity)+": "+f.Text+" ["+f.Code+"]")
	}
	return lines
}
