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

// position is a place in a file of the policy.
type position struct {
	file     string
	row, col int
}

func positionOf(l *ast.Location) position {
	if l == nil {
		return position{}
	}
	return position{l.File, l.Row, l.Col}
}

// list gathers findings, each once.
type list struct {
	findings []Finding
	has      map[Finding]bool
}

func (l *list) add(at position, severity Severity, code, format string, args ...any) {
	f := Finding{
		File: at.file, Line: at.row, Column: at.col, Severity: severity, Code: code,
		Text: strings.Join(strings.Fields(fmt.Sprintf(format, args...)), " "),
	}
	if l.has == nil {
		l.has = map[Finding]bool{}
	}
	if !l.has[f] {
		l.has[f] = true
		l.findings = append(l.findings, f)
	}
}

func (l *list) sort() {
	slices.SortStableFunc(l.findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column),
			cmp.Compare(a.Code, b.Code), cmp.Compare(a.Text, b.Text))
	})
}
