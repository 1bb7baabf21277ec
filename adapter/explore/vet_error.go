package explore

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// A Problem is one reason why a policy cannot be served.
type Problem struct {
	File     string
	Row, Col int // from 1
	// Expression is the author's text that is at fault, on one line.
	Expression string
	// Message says what is wrong with it.
	Message string
	// Hint says what to write instead; it can be empty.
	Hint string
}

// String returns the problem on one line, such as
//
//	policy.rego:11:2: input.resource.kind == "API": the resource is known only ... (hint: ...)
func (p Problem) String() string {
	text := fmt.Sprintf("%s:%d:%d: %s: %s", p.File, p.Row, p.Col, p.Expression, p.Message)
	if p.Hint != "" {
		text += " (hint: " + p.Hint + ")"
	}
	return text
}

// A VetError says why a policy cannot be served, with every problem that was
// found, in the order of files and lines.
type VetError struct {
	Problems []Problem
}

// Error returns the problems, one on each line.
func (e *VetError) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// problems gathers problems; the same one is kept once.
type problems struct {
	list []Problem
}

func (p *problems) add(at *ast.Location, expression, message, hint string) {
	problem := Problem{Expression: oneLine(expression), Message: message, Hint: hint}
	if at != nil {
		problem.File, problem.Row, problem.Col = at.File, at.Row, at.Col
	}
	if !slices.Contains(p.list, problem) {
		p.list = append(p.list, problem)
	}
}

// err returns a VetError, or nil where there is no problem.
func (p *problems) err() error {
	if len(p.list) == 0 {
		return nil
	}
	slices.SortStableFunc(p.list, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Row, b.Row), cmp.Compare(a.Col, b.Col))
	})
	return &VetError{Problems: p.list}
}

// maxExpression is how many bytes of an expression a problem shows.
const maxExpression = 200

func oneLine(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > maxExpression {
		text = strings.ToValidUTF8(text[:maxExpression], "") + " …"
	}
	return text
}
