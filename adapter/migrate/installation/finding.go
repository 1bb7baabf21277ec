package installation

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/stagedoor/stagedoor/adapter/migrate/written"
)

// Severity says what a finding means for the migration.
type Severity string

const (
	// Note is worth knowing; nothing needs to be done.
	Note Severity = "note"
	// Warning is about what has no effect, or names what is not there.
	Warning Severity = "warning"
	// Wrong is about what the plugin itself skips or cannot take.
	Wrong Severity = "error"
)

// A Finding is something about a place that its author should know.
type Finding struct {
	written.Place
	Severity Severity
	// Code names the kind, such as unknown-permission.
	Code string
	Text string
}

// String is one line, as commands print findings.
func (f Finding) String() string {
	return fmt.Sprintf("%s: %s: %s [%s]", f.Place, f.Severity, f.Text, f.Code)
}

func refusal(at written.Place, format string, args ...any) Finding {
	return Finding{Place: at, Severity: Wrong, Code: "unreadable", Text: fmt.Sprintf(format, args...)}
}

// documentsOf reads the documents of a YAML or JSON file.
func documentsOf(file string, text []byte) ([]written.Value, []Finding) {
	documents, err := written.Read(file, text)
	if wrong, ok := errors.AsType[*written.SyntaxError](err); ok {
		return nil, []Finding{refusal(wrong.At, "%v", wrong)}
	}
	return documents, nil
}

// A RefusedError is what cannot be read. Nothing is made of sources that have any of it.
type RefusedError struct {
	Findings []Finding
}

// Error lists all of it, a line each.
func (r *RefusedError) Error() string {
	lines := make([]string, len(r.Findings))
	for i, f := range r.Findings {
		lines[i] = f.String()
	}
	return strings.Join(lines, "\n")
}

// SortFindings sorts by file, line and text.
func SortFindings(findings []Finding) {
	slices.SortStableFunc(findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Text, b.Text))
	})
}
