package audit

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/stagedoor/stagedoor/adapter/criteria"
	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// A size is at least a sixth of the event's JSON, whatever is in it, so that what
// is measured no further does fit.
func TestSizesOfEvents(t *testing.T) {
	const chunkBytes = 128 << 10 // of the decision log that stagedoor ships

	nasty := strings.Repeat("\x00\xff<\u2028\"", 1000)
	rule := criteria.Criteria{Op: criteria.Leaf, Rule: criteria.Rule{Name: nasty, ResourceType: nasty, Params: `{"a":[1,2,{"b":null}]}`}}
	outcome := &decision.Outcome{
		Decision: wire.NewConditional(nasty, nasty, criteria.Criteria{Op: criteria.AnyOf, Of: []criteria.Criteria{rule, {Op: criteria.Not, Of: []criteria.Criteria{rule}}}}),
		Reason:   nasty, Excluded: []error{errors.New(nasty), errors.New(nasty)},
		RuleLabels: []map[string]any{{nasty: []any{json.Number("1"), true, nil, map[string]any{"x": 1.5}}}},
	}
	for name, r := range map[string]Record{
		"small": {Permissions: []wire.Permission{{Name: "x"}}, Batch: decision.Batch{Outcomes: []*decision.Outcome{{}}}, Answers: make([]Answer, 1)},
		"everything": {
			RequestID: nasty, TraceID: nasty, Caller: decision.Caller{User: nasty, Claims: []string{nasty, "", ""}, Actor: nasty},
			Permissions: []wire.Permission{{Name: nasty, Action: nasty, Resource: true, ResourceType: nasty}},
			Batch:       decision.Batch{Outcomes: []*decision.Outcome{outcome}, Entrypoint: nasty, Revisions: map[string]string{nasty: nasty}},
			Answers: []Answer{{
				Refs: []string{nasty, "", ""}, Results: make([]wire.Result, 1000), FinalList: make([]wire.Result, 1000),
			}},
		},
		"failures": {
			Permissions: []wire.Permission{{}}, Err: errors.New(nasty), Caller: decision.Caller{Anonymous: true},
			Batch:   decision.Batch{Outcomes: []*decision.Outcome{{Err: &decision.Failure{Kind: decision.FailureAnswer, Cause: errors.New(nasty)}}}},
			Answers: []Answer{{Refs: []string{""}, Err: errors.New(nasty)}},
		},
	} {
		info, err := event(r, 0, decision.Identity(r.Caller))
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(loggedAs(info, nil))
		if err != nil {
			t.Fatal(err)
		}
		if size := eventSize(info); size*6 < int64(len(text)) || name == "small" && size*6 > chunkBytes/2 {
			t.Errorf("%s: a size of %d for %d bytes of JSON", name, size, len(text))
		}
	}
}
