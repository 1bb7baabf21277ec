package explore

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Limits bound what a decision may cost. A decision that would cost more ends with
// a [*LimitError].
type Limits struct {
	// Evaluations is how many evaluations a decision may take.
	Evaluations int
	// Questions is how many different questions about the resource may be asked.
	Questions int
	// Branches is how many of the evaluations may be to explore rules and expressions
	// that cannot be proved.
	Branches int
	// Answers is how many times questions may be asked in all evaluations together.
	Answers int
}

// The default [Limits]. Each is reached in some tenths of a second.
const (
	DefaultEvaluations = 20_000
	DefaultQuestions   = 20_000
	DefaultBranches    = 4_096
	DefaultAnswers     = 100_000
)

func (l Limits) withDefaults() Limits {
	if l.Evaluations == 0 {
		l.Evaluations = DefaultEvaluations
	}
	if l.Questions == 0 {
		l.Questions = DefaultQuestions
	}
	if l.Branches == 0 {
		l.Branches = DefaultBranches
	}
	if l.Answers == 0 {
		l.Answers = DefaultAnswers
	}
	return l
}

// A LimitError says that a decision would have cost more than its [Limits] allow.
type LimitError struct {
	// Message names the expression or rule that was looked at, with its file and
	// line, and the questions that it asks.
	Message string
}

// Error returns the message.
func (e *LimitError) Error() string { return e.Message }

// task is what a decision is busy with.
type task struct {
	at        *ast.Location
	text      string
	questions map[int]bool // that it asks; nil where it is not explored
}

// begin notes what the decision is busy with, until the function that it returns
// is called.
func (w *world) begin(t task) (end func()) {
	w.tasks = append(w.tasks, t)
	return func() { w.tasks = w.tasks[:len(w.tasks)-1] }
}

// limit says that the decision takes too much, and of what.
func (w *world) limit(most int, what string) error {
	return &LimitError{fmt.Sprintf("%sthe decision takes more than %d %s%s", w.where(), most, what, w.asking())}
}

// where is the place of what the decision is busy with.
func (w *world) where() string {
	if len(w.tasks) == 0 {
		return ""
	}
	t := w.tasks[len(w.tasks)-1]
	return fmt.Sprintf("%s:%d: %s: ", t.at.File, t.at.Row, oneLine(t.text))
}

// asking lists what is asked by what the decision is busy with, or in all.
func (w *world) asking() string {
	names := make(map[string]int)
	last := len(w.tasks) - 1
	if last >= 0 && w.tasks[last].questions != nil {
		for q := range w.tasks[last].questions {
			names[w.questions[q].name]++
		}
	} else {
		for _, q := range w.questions {
			names[q.name]++
		}
	}
	list := make([]string, 0, len(names))
	for _, name := range slices.Sorted(maps.Keys(names)) {
		list = append(list, fmt.Sprintf("%s (%d)", name, names[name]))
	}
	return "; asked are " + strings.Join(list, ", ")
}
