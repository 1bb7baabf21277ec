package main

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stagedoor/stagedoor/adapter/config"
)

// TestDocsConfigure reads every configuration in docs/operate.
func TestDocsConfigure(t *testing.T) {
	pages, err := filepath.Glob(filepath.Join("..", "..", "docs", "operate", "*.md"))
	if err != nil || len(pages) == 0 {
		t.Fatalf("%d pages, %v", len(pages), err)
	}
	found := 0
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllSubmatch(text, -1) {
			found++
			file := filepath.Join(t.TempDir(), "stagedoor.yaml")
			writeConfig(t, file, string(block[1]))
			if _, err := config.Load([]string{file}, nil); err != nil {
				t.Errorf("%s: %v\n%s", page, err, block[1])
			}
		}
	}
	if found < 3 {
		t.Errorf("%d configurations", found)
	}
}
