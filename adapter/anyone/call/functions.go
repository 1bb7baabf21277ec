package call

import (
	"context"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stagedoor/stagedoor/adapter/anyone/theory"
	"github.com/stagedoor/stagedoor/adapter/criteria"
)

// Found is called for each value of a term, with where it has it.
type Found func(of *ast.Term, where criteria.Function) error

// Functions are what builtins and permission rules make of values that depend on the caller.
type Functions struct {
	*theory.Theory
	Ctx context.Context //nolint:containedctx // They are those of one question and end with it.
	Now time.Time       // of the question
	// Basic is where the permission is about no resource.
	Basic bool
	// Walk finds the values at a path in a value.
	Walk func(v *ast.Term, path ast.Ref, where criteria.Function, found Found) error
}

// Outcome is a value, or that the evaluation fails, and where it is so.
type Outcome struct {
	Value *ast.Term         // nil where the evaluation fails
	Fails bool              // there is no value
	Where criteria.Function // where it is so
}

// Settled makes a failure of the places where a document has two values.
func (f *Functions) Settled(found []Outcome) ([]Outcome, error) {
	found = f.Merged(found)
	conflict := criteria.Denied
	for i, a := range found {
		for _, b := range found[:i] {
			both := f.Space.All(a.Where, b.Where)
			if a.Fails || b.Fails || !f.Possible(both) {
				continue
			}
			alike, err := f.Equal(a.Value, b.Value)
			if err != nil {
				return nil, err
			}
			if where := f.Space.All(both, alike.Not()); f.Possible(where) {
				conflict = f.Space.Any(conflict, where)
			}
		}
	}
	if conflict == criteria.Denied {
		return found, nil
	}
	for i := range found {
		found[i].Where = f.Space.All(found[i].Where, conflict.Not())
	}
	return append(found, Outcome{Fails: true, Where: conflict}), nil
}

// Merged joins outcomes that are the same, and leaves out those that never are.
func (f *Functions) Merged(outcomes []Outcome) []Outcome {
	var merged []Outcome
	at := make(map[string]int)
	for _, o := range outcomes {
		if o.Where == criteria.Denied {
			continue
		}
		key := "fails"
		if !o.Fails {
			key = "value " + f.TextOf(o.Value)
		}
		if i, ok := at[key]; ok {
			merged[i].Where = f.Space.Any(merged[i].Where, o.Where)
			continue
		}
		at[key] = len(merged)
		merged = append(merged, o)
	}
	return merged
}
