// Package findings is the vocabulary of what is wrong with a policy: findings with
// their places and codes, and the formats in which others read them.
package findings

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// A Severity says how sure it is that something has to be mended.
type Severity string

const (
	// Error is what must not serve, or what fails or never holds.
	Error Severity = "error"
	// Warning is what hardly anybody means.
	Warning Severity = "warning"
)

// A Finding is one thing that is wrong with a policy.
type Finding struct {
	// File is named as the PATH was given; Line and Column count from 1. They are 0
	// where the finding is about no line.
	File     string   `json:"file"`
	Line     int      `json:"line"`
	Column   int      `json:"column"`
	Severity Severity `json:"severity"`
	// Code names the kind of finding, such as permission; a comment silences by it.
	Code string `json:"code"`
	// Text says what is wrong and what to write instead, in one line.
	Text string `json:"text"`
}

// String returns file:line:col: severity: text [code].
func (f Finding) String() string {
	at := f.File
	if f.Line > 0 {
		at = fmt.Sprintf("%s:%d:%d", f.File, f.Line, max(f.Column, 1))
	}
	return fmt.Sprintf("%s: %s: %s [%s]", at, f.Severity, f.Text, f.Code)
}

// Position is a place in a file of the policy.
type Position struct {
	// File is named as the PATH was given.
	File string
	// Row and Col count from 1.
	Row, Col int
}

// At is the position of what OPA parsed; zero where it has none.
func At(l *ast.Location) Position {
	if l == nil {
		return Position{}
	}
	return Position{l.File, l.Row, l.Col}
}

// List gathers findings, each once.
type List struct {
	// Findings are in the order in which they were found, until Sort.
	Findings []Finding
	has      map[Finding]bool
}

// Add adds a finding, unless it is there already.
func (l *List) Add(at Position, severity Severity, code, format string, args ...any) {
	f := Finding{
		File: at.File, Line: at.Row, Column: at.Col, Severity: severity, Code: code,
		Text: strings.Join(strings.Fields(fmt.Sprintf(format, args...)), " "),
	}
	if l.has == nil {
		l.has = map[Finding]bool{}
	}
	if !l.has[f] {
		l.has[f] = true
		l.Findings = append(l.Findings, f)
	}
}

// Sort sorts by file, line and column.
func (l *List) Sort() {
	slices.SortStableFunc(l.Findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column),
			cmp.Compare(a.Code, b.Code), cmp.Compare(a.Text, b.Text))
	})
}

// OneLine is a text without its line breaks, and its beginning where it is long.
func OneLine(text string) string {
	const most = 120
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + " …"
	}
	return text
}

// FoundOn is whether something of the code was found in a file already.
func (l *List) FoundOn(file, code string) bool {
	return slices.ContainsFunc(l.Findings, func(f Finding) bool { return f.File == file && f.Code == code })
}

// FoundAt is whether something was found on the line already.
func (l *List) FoundAt(at Position) bool {
	return slices.ContainsFunc(l.Findings, func(f Finding) bool { return f.File == at.File && f.Line == at.Row })
}
