package wire

import (
	"encoding/json"
	"fmt"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/stagedoor/stagedoor/adapter/criteria"
)

func TestAppendAnswers(t *testing.T) {
	todo := NewConditional("todo", "todo-item", rule("A"))
	const conditional = `"result":"CONDITIONAL","pluginId":"todo","resourceType":"todo-item",` +
		`"conditions":{"rule":"A","resourceType":"todo-item"}}`
	byHand := Decision{Result: Conditional, PluginID: "todo", ResourceType: "todo-item", Conditions: rule("A")}
	tests := []struct {
		name string
		of   []Answer
		want string
	}{
		{"none", nil, `{"items":[]}`},
		{"allow", []Answer{{ID: `"1"`, Decision: &Decision{Result: Allow}}}, `{"items":[{"id":"1","result":"ALLOW"}]}`},
		{"forgotten", []Answer{{ID: `"1"`}}, `{"items":[{"id":"1","result":"DENY"}]}`},
		{"conditional", []Answer{{ID: `"1"`, Decision: &todo}}, `{"items":[{"id":"1",` + conditional + `]}`},
		{"conditional by hand", []Answer{{ID: `"1"`, Decision: &byHand}}, `{"items":[{"id":"1",` + conditional + `]}`},
		{"list", []Answer{{ID: `"1"`, Results: []Result{Allow, Deny, Allow}}},
			`{"items":[{"id":"1","result":["ALLOW","DENY","ALLOW"]}]}`},
		{"list of one", []Answer{{ID: `"1"`, Results: []Result{Deny}}}, `{"items":[{"id":"1","result":["DENY"]}]}`},
		{"a list goes before its decision", []Answer{{ID: `"1"`, Decision: &todo, Results: []Result{Allow}}},
			`{"items":[{"id":"1","result":["ALLOW"]}]}`},
		{"no result of a ref is conditional", []Answer{{ID: `"1"`, Results: []Result{Conditional, 9}}},
			`{"items":[{"id":"1","result":["DENY","DENY"]}]}`},
		{"order and duplicates", []Answer{{ID: `"b"`, Decision: &Decision{Result: Allow}}, {ID: `"a"`}, {ID: `"b"`,
			Decision: &todo}},
			`{"items":[{"id":"b","result":"ALLOW"},{"id":"a","result":"DENY"},{"id":"b",` + conditional + `]}`},
		{"ids as they came", []Answer{{ID: `"\ud800"`}, {ID: `"\u0061"`}, {ID: `""`}},
			`{"items":[{"id":"\ud800","result":"DENY"},{"id":"\u0061","result":"DENY"},{"id":"","result":"DENY"}]}`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := AppendAnswers([]byte("> "), test.of)
			if diff := cmp.Diff("> "+test.want, string(got)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if !json.Valid(got[2:]) {
				t.Error("not JSON")
			}
		})
	}
}

// A decision is answered many times over; its JSON must not be changed by that.
func TestAppendAnswersLeavesDecisionsAlone(t *testing.T) {
	todo := NewConditional("todo", "todo-item", rule("A"))
	first := string(AppendAnswers(nil, []Answer{{ID: `"1"`, Decision: &todo}}))
	if again := string(AppendAnswers(nil, []Answer{{ID: `"1"`, Decision: &todo}})); again != first {
		t.Errorf("first %s, then %s", first, again)
	}
}

func BenchmarkAppendAnswers(b *testing.B) {
	claims := make([]criteria.Criteria, 20)
	for i := range claims {
		claims[i] = criteria.Criteria{Op: criteria.Leaf, Rule: criteria.Rule{
			Name: "HAS_LABEL", ResourceType: "catalog-entity", Params: fmt.Sprintf(`{"label":"team-%d"}`, i),
		}}
	}
	decisions := []Decision{{Result: Allow}, NewConditional("catalog", "catalog-entity", anyOf(claims...))}
	for _, decision := range decisions {
		for _, n := range []int{1, 50, 500} {
			b.Run(fmt.Sprintf("%v/%d", decision.Result, n), func(b *testing.B) {
				answers := make([]Answer, n)
				for i := range answers {
					answers[i] = Answer{ID: strconv.Quote(fmt.Sprintf("0f8c7a52-93f1-4a51-9d0e-%012d", i)), Decision: &decision}
				}
				var body []byte
				b.ReportAllocs()
				for b.Loop() {
					body = AppendAnswers(body[:0], answers)
				}
				b.SetBytes(int64(len(body)))
			})
		}
	}
}
