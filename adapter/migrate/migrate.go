// Package migrate brings a policy over from a neighbour.
//
// [RBAC] reads what the community RBAC plugin of Backstage reads: its CSV of lines and
// roles, its YAML of conditional policies and its part of the app-config; or what its
// REST API tells. From that it makes a bundle of bundles/rbac with data of its own, a
// decision table with a row for every line, and a report.
//
// What cannot be read is a refusal, with its place, and nothing is made. What can be
// read has the meaning that the plugin gives it, which is at times that it is skipped:
// then it is a finding, and the report says so. Nothing is dropped without a word. The
// same sources give the same files, byte for byte.
//
// [Wrapper] says what to write in a policy of the OPA wrapper module, for it to ask
// about the resource itself.
//
// The package knows the RBAC plugin's meaning twice: once as the data of bundles/rbac, and
// once in Go (meaning.go), by which the decision table is written. So the table is a
// proof of the policy, and not its echo.
package migrate

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A Place is where something stands in the sources.
type Place struct {
	// File is the file as it was given, or the path of a REST API.
	File string
	// Line begins with 1; in an answer of a REST API it counts the elements. It is 0 where
	// the file as a whole is meant.
	Line int
}

// String is file:line.
func (p Place) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d", p.File, p.Line)
}

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
	Place
	Severity Severity
	// Code names the kind, such as unknown-permission.
	Code string
	Text string
}

// String is one line, as commands print findings.
func (f Finding) String() string {
	return fmt.Sprintf("%s: %s: %s [%s]", f.Place, f.Severity, f.Text, f.Code)
}

func refusal(at Place, format string, args ...any) Finding {
	return Finding{Place: at, Severity: Wrong, Code: "unreadable", Text: fmt.Sprintf(format, args...)}
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

// errNothing is what RBAC says where it is given no source.
var errNothing = errors.New("nothing to migrate: name a policy, conditions, an app-config or a URL")

func sortFindings(findings []Finding) {
	slices.SortStableFunc(findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Text, b.Text))
	})
}
