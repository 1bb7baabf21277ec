package migrate

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/stagedoor/stagedoor/adapter/migrate/installation"
)

// report says what became of each line of the sources.
func (m *Migration) report() []byte {
	var text bytes.Buffer
	put := func(format string, args ...any) { fmt.Fprintf(&text, format, args...) }
	count := map[installation.Severity]int{}
	for _, f := range m.Findings {
		count[f.Severity]++
	}
	put("# What became of the RBAC policy\n\n")
	put("%d lines, %d members of roles and %d conditions count. %d errors, %d warnings, %d notes. Names are those "+
		"of the inventory %s.\n",
		m.Lines(), m.Bindings(), m.Conditions(), count[installation.Wrong], count[installation.Warning],
		count[installation.Note], m.Known.Source)

	put("\n## Findings\n\n")
	if len(m.Findings) == 0 {
		put("None.\n")
	} else {
		put("| where | what | |\n| --- | --- | --- |\n")
		for _, f := range m.Findings {
			put("| %s | %s: %s | %s |\n", cell(f.Place.String()), f.Severity, cell(f.Text), f.Code)
		}
	}

	put("\n## What has no equivalent\n\n")
	put("- The plugin's user interface and its REST API: roles are data of the bundle, and change as the bundle does.\n")
	put("- The permissions `policy.entity.*` guard that API. Lines about them are kept, and answered where a plugin " +
		"asks for them.\n")
	put("- Descriptions and owners of roles. The plugin decides nothing by them.\n")

	var file string
	for _, r := range m.judgement.rows {
		if r.At.File != file {
			file = r.At.File
			put("\n## %s\n\n", file)
			if blank := m.blank[file]; len(blank) > 0 {
				put("%s: %s.\n\n", m.blankIs(file), ranges(blank))
			}
			put("| line | what it says | what became of it |\n| --- | --- | --- |\n")
		}
		span := r.Span
		if span == "" {
			span = strconv.Itoa(r.At.Line)
		}
		put("| %s | %s | %s |\n", span, cell(r.What), cell(r.Became))
	}
	for _, file := range slices.Sorted(maps.Keys(m.blank)) {
		if !slices.ContainsFunc(m.judgement.rows, func(r installation.Row) bool { return r.At.File == file }) {
			put("\n## %s\n\nNothing but blank lines and comments: %s.\n", file, cmp.Or(ranges(m.blank[file]),
				"none, it is empty"))
		}
	}
	return text.Bytes()
}

// blankIs says what the lines of a file are that say nothing.
func (m *Migration) blankIs(file string) string {
	if slices.ContainsFunc(m.judgement.in.Policies, func(p installation.Policy) bool { return p.At.File == file }) {
		return "Blank, a comment, or between documents"
	}
	return "Blank, or a comment"
}

// cell is a text inside a table of Markdown.
func cell(text string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ").Replace(text)
}

// ranges are sorted numbers, such as 1, 3-5.
func ranges(numbers []int) string {
	var parts []string
	for i := 0; i < len(numbers); {
		j := i
		for j+1 < len(numbers) && numbers[j+1] == numbers[j]+1 {
			j++
		}
		if i == j {
			parts = append(parts, strconv.Itoa(numbers[i]))
		} else {
			parts = append(parts, fmt.Sprintf("%d-%d", numbers[i], numbers[j]))
		}
		i = j + 1
	}
	return strings.Join(parts, ", ")
}
