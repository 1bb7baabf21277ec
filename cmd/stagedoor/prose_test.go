package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// mostWords is how many words a sentence of the documentation may have. Readers are in a
// hurry, and many are not native speakers.
const mostWords = 30

// TestSentencesAreShort reads the README and every page of docs.
func TestSentencesAreShort(t *testing.T) {
	root := filepath.Join("..", "..")
	pages := []string{"README.md", "CONTRIBUTING.md", "SECURITY.md", "e2e/README.md"}
	err := filepath.WalkDir(filepath.Join(root, "docs"), func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && filepath.Ext(path) == ".md" {
			var page string
			page, err = filepath.Rel(root, path)
			pages = append(pages, page)
		}
		return err
	})
	if err != nil || len(pages) < 10 {
		t.Fatalf("%d pages, %v", len(pages), err)
	}
	for _, page := range pages {
		text, err := os.ReadFile(filepath.Join(root, page))
		if err != nil {
			t.Fatal(err)
		}
		for _, sentence := range sentences(string(text)) {
			if n := len(strings.Fields(sentence)); n > mostWords {
				t.Errorf("%s: a sentence of %d words, say it in two: %s", page, n, sentence)
			}
		}
	}
}

func TestSentences(t *testing.T) {
	const text = "# A heading is none.\n\nOne. Two\ngoes on: here (three.) Four\n\n    code. more\n\n```\ncode.\n```\n\n" +
		"- an item. And more\n- another one\n\n| a | table. |\n"
	got := strings.Join(sentences(text), "|")
	if want := "One.|Two goes on: here (three.)|Four|an item.|And more|another one"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

var (
	fences    = regexp.MustCompile("(?s)(?:^|\n)```.*?\n```")
	blankLine = regexp.MustCompile(`\n[ \t]*\n`)
	listItem  = regexp.MustCompile(`(?m)^ *([-*]|\d+\.) `)
	sentence  = regexp.MustCompile(`(.*?[.!?][)*"”]*)(?: |$)|(.+)$`)
)

// sentences are those of a page's paragraphs and lists, without code, headings and tables.
func sentences(markdown string) []string {
	var found []string
	for _, block := range blankLine.Split(fences.ReplaceAllString(markdown, "\n\n"), -1) {
		block = strings.Trim(block, "\n")
		if block == "" || strings.HasPrefix(block, "#") || strings.HasPrefix(block, "|") || strings.HasPrefix(block, "    ") {
			continue
		}
		for _, item := range listItem.Split(block, -1) {
			for _, s := range sentence.FindAllString(strings.Join(strings.Fields(item), " "), -1) {
				found = append(found, strings.TrimSpace(s))
			}
		}
	}
	return found
}
