package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestThreatModelNamesTests holds docs/security.md to tests that there are: each row
// names one at least, and each that is named exists.
func TestThreatModelNamesTests(t *testing.T) {
	root := filepath.Join("..", "..")
	page, err := os.ReadFile(filepath.Join(root, "docs", "security.md"))
	must(t, err)
	there := map[string]bool{}
	function := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	must(t, filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (entry.Name() == "node_modules" || strings.HasPrefix(entry.Name(), ".") && path != root):
			return fs.SkipDir
		case strings.HasSuffix(path, "_test.go"):
			text, err := os.ReadFile(path)
			for _, match := range function.FindAllSubmatch(text, -1) {
				there[string(match[1])] = true
			}
			return err
		case strings.HasSuffix(path, ".test.mjs"):
			there[entry.Name()] = true
		}
		return nil
	}))
	rows := 0
	for line := range strings.SplitSeq(string(page), "\n") {
		cells := strings.Split(line, " | ")
		if !strings.HasPrefix(line, "| ") || len(cells) != 3 || strings.HasPrefix(line, "| way in") || strings.HasPrefix(line, "| ---") {
			continue
		}
		rows++
		for name := range strings.SplitSeq(strings.TrimSuffix(cells[2], " |"), ", ") {
			if !there[name] {
				t.Errorf("%s names %q, and there is no such test", cells[0], name)
			}
		}
	}
	if rows < 30 {
		t.Errorf("%d rows", rows)
	}
}
