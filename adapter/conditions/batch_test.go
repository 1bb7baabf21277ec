package conditions

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/stagedoor/stagedoor/adapter/conditions/guard"
	"github.com/stagedoor/stagedoor/adapter/criteria"
)

// A body of exactly the plugin's limit is one call, and a byte more makes two.
func TestApplySplitsAtTheLimit(t *testing.T) {
	for _, test := range []struct {
		name  string
		old   bool
		refs  int
		extra int
		calls int
	}{
		{name: "array at the limit", refs: 100, calls: 1},
		{name: "array over the limit", refs: 100, extra: 1, calls: 2},
		{name: "one by one at the limit", old: true, refs: 100, calls: 1},
		{name: "one by one over the limit", old: true, refs: 100, extra: 1, calls: 2},
		{name: "one ref at the limit", refs: 1, calls: 1},
		{name: "one ref over the limit", refs: 1, extra: 1, calls: 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := &fakePlugin{old: test.old}
			c := serve(t, p)
			if test.old {
				c.Apply(t.Context(), ann(), []Question{ask("todo", oneOf("a"), "a", "b")})
				if c.plugin("todo").singlyUntil.before(time.Now()) {
					t.Fatal("not recognised as old")
				}
			}
			before := len(p.callsOf("todo"))
			refs, want := make([]string, test.refs), strings.Repeat("A", test.refs)
			for i := range refs {
				refs[i] = fmt.Sprint("ref-", i)
			}
			question := ask("todo", not(oneOf("other")), refs...)
			measure := slices.Collect(pack(newBatch([]Question{question}).inquiries[0].spans(), !test.old))
			if len(measure) != 1 {
				t.Fatalf("%d calls without padding", len(measure))
			}
			question.Refs[test.refs-1] += strings.Repeat("x", maxBody-len(measure[0].body)+test.extra)
			o := c.Apply(t.Context(), ann(), []Question{question})[0]
			if test.calls == 0 && (o.Err == nil || !strings.Contains(o.Err.Error(), "come to 102401 bytes")) {
				t.Errorf("got %v", o)
			}
			if test.calls > 0 && results(o) != want {
				t.Errorf("results %s", results(o))
			}
			calls := p.callsOf("todo")[before:]
			if len(calls) != test.calls {
				t.Errorf("%d calls, want %d", len(calls), test.calls)
			}
			if test.extra == 0 && len(calls[0].body) != 102400 {
				t.Errorf("the body has %d bytes, want 102400", len(calls[0].body))
			}
		})
	}
}

func TestApplyRefusesWhatFitsIntoNoCall(t *testing.T) {
	p := &fakePlugin{}
	c := serve(t, p)
	long := strings.Repeat("x", maxBody)
	o := c.Apply(t.Context(), ann(), []Question{
		ask("todo", oneOf("a"), "a", long),
		ask("todo", oneOf(long), "a"),
		ask("todo", oneOf("a"), "a", "b"),
	})
	for _, o := range o[:2] {
		if diff := cmp.Diff(any(guard.RefusedError{PluginID: "todo"}), kind(o.Err)); diff != "" || o.Results != nil {
			t.Errorf("%v:\n%s", o.Err, diff)
		}
		text := o.Err.Error()
		if !strings.Contains(text, "bytes in a call, and the plugin reads at most 102400") || len(text) > 500 {
			t.Errorf("error %v", o.Err)
		}
	}
	if got := results(o[2]); got != "AD" {
		t.Errorf("the next question is answered %s", got)
	}
}

// Ten thousand refs and many conditions: few calls, each within the limit, and
// every answer where it belongs.
func TestApplyMany(t *testing.T) {
	p := &fakePlugin{}
	c := serve(t, p)
	var questions []Question
	var want []string
	for i := range 40 {
		var q []string
		var results strings.Builder
		for j := range 250 {
			ref := fmt.Sprintf("component:default/%d-%d", i, j)
			q = append(q, ref)
			results.WriteString(map[bool]string{true: "A", false: "D"}[j == i])
		}
		questions = append(questions, ask("catalog", oneOf(q[i]), q...))
		want = append(want, results.String())
	}
	var got []string
	for _, o := range c.Apply(t.Context(), ann(), questions) {
		got = append(got, results(o))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if calls := len(p.callsOf("catalog")); calls != 3 {
		t.Errorf("%d calls, want 3", calls)
	}
}

// Conditions that leave a body room for little more take one call for every few refs.
// Only those under way, and one, are in memory at a time, and once time is over no
// more are packed.
func TestCallsArePackedAsTheyAreMade(t *testing.T) {
	for _, arrays := range []bool{true, false} {
		refs := make([]string, 1000)
		for i := range refs {
			refs[i] = fmt.Sprintf("component:default/%0100d", i)
		}
		spans := newBatch([]Question{ask("todo", oneOf(strings.Repeat("x", 98<<10)), refs...)}).inquiries[0].spans()
		var packed, made atomic.Int64
		counted := func(yield func(call) bool) {
			for one := range pack(spans, arrays) {
				packed.Add(1)
				if !yield(one) {
					return
				}
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		err := each(ctx, counted, func(ctx context.Context, _ call) error {
			n := made.Add(1)
			if ahead := packed.Load() - n; ahead > callsAtOnce+1 {
				t.Errorf("%d calls are packed ahead", ahead)
			}
			if n == 10 {
				cancel()
			}
			return ctx.Err()
		})
		cancel()
		if err == nil || packed.Load() > 10+callsAtOnce+2 {
			t.Errorf("%d calls packed, %v", packed.Load(), err)
		}
	}
}

// What was not asked as there was no time left is an error, also between two calls
// that went well.
func TestApplyThatIsCancelledBetweenCalls(t *testing.T) {
	refs := make([]string, 100)
	for i := range refs {
		refs[i] = strconv.Itoa(i)
	}
	p := &fakePlugin{}
	c := serve(t, p)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	caller := Caller{Token: func(_ context.Context, _ string) (string, error) {
		cancel()
		return "", nil
	}}
	o := c.Apply(ctx, caller, []Question{ask("todo", not(oneOf(strings.Repeat("x", 102000))), refs...)})[0]
	if !errors.Is(o.Err, context.Canceled) || o.Results != nil {
		t.Errorf("%v", o)
	}
	spans := newBatch([]Question{ask("todo", oneOf(strings.Repeat("x", 102000)), refs...)}).inquiries[0].spans()
	ctx, cancel = context.WithCancel(t.Context())
	done := 0
	err := each(ctx, func(yield func(call) bool) {
		for one := range pack(spans, true) {
			if done++; done == 2 {
				cancel() // after the first went well, and before the next
			}
			if !yield(one) {
				return
			}
		}
	}, func(ctx context.Context, _ call) error { return ctx.Err() })
	if !errors.Is(err, context.Canceled) || done > 3 {
		t.Errorf("%d calls, %v", done, err)
	}
}

// pack loses nothing, repeats nothing, keeps the order and the limit, and leaves
// no body that could have taken the next ref.
func TestPack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		arrays := rapid.Bool().Draw(t, "arrays")
		in := &inquiry{pluginID: "todo", byTail: map[string]*group{}}
		type asked struct{ ref, conditions string }
		var want []asked
		for i := range rapid.IntRange(1, 5).Draw(t, "groups") {
			condition := oneOf(strconv.Itoa(i), strings.Repeat("c", rapid.IntRange(0, 30_000).Draw(t, "condition")))
			g := in.group(ask("todo", condition).Decision)
			for j := range rapid.IntRange(1, 30).Draw(t, "refs") {
				ref := fmt.Sprint(i, "-", j, strings.Repeat("\"", rapid.IntRange(0, 20_000).Draw(t, "ref")))
				if _, err := g.add("todo", ref); err != nil {
					t.Fatal(err)
				}
				want = append(want, asked{ref, string(condition.AppendJSON(nil))})
			}
		}
		var got []asked
		calls := slices.Collect(pack(in.spans(), arrays))
		for i, call := range calls {
			if len(call.body) > maxBody {
				t.Fatalf("a body of %d bytes", len(call.body))
			}
			if i+1 < len(calls) {
				next := calls[i+1].spans[0]
				next.to = next.from + 1
				trial := calls[i]
				trial.body = trial.body[:len(trial.body)-len(bodyEnd)]
				if last := trial.spans[len(trial.spans)-1]; last.group == next.group && arrays {
					brackets := 0
					if last.len() == 1 {
						brackets = len("[]")
					}
					if len(call.body)+len(",")+len(next.group.refs.list(next.from, next.to))+brackets <= maxBody {
						t.Fatal("an array could have taken one more ref")
					}
				} else if next.fit(trial.room(next), arrays) > 0 {
					t.Fatal("a body could have taken one more item")
				}
			}
			var body struct {
				Items []struct {
					ID, ResourceType string
					ResourceRef      any
					Conditions       json.RawMessage
				}
			}
			if err := json.Unmarshal(call.body, &body); err != nil {
				t.Fatal(err)
			}
			for j, item := range body.Items {
				if item.ID != strconv.Itoa(j) || item.ResourceType != "thing" {
					t.Fatalf("item %d has id %q and resource type %q", j, item.ID, item.ResourceType)
				}
				refs, isArray := item.ResourceRef.([]any)
				if !isArray {
					refs = []any{item.ResourceRef}
				}
				if isArray && (!arrays || len(refs) == 1) {
					t.Fatalf("an array of %d refs", len(refs))
				}
				for _, ref := range refs {
					got = append(got, asked{ref.(string), string(item.Conditions)})
				}
			}
		}
		if !slices.Equal(want, got) {
			t.Fatal("the items are not what was to be asked, in its order")
		}
	})
}

// Whatever refs and conditions come together, each ref gets its own answer.
func TestApplyAgainstEvaluation(t *testing.T) {
	p := &fakePlugin{}
	c := serve(t, p)
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.SampledFrom([]string{"a", "b", "c", "d", "e"})
		var questions []Question
		var want []string
		for range rapid.IntRange(0, 8).Draw(t, "questions") {
			conditions := oneOf(rapid.SliceOf(name).Draw(t, "listed")...)
			if rapid.Bool().Draw(t, "not") {
				conditions = criteria.Criteria{Op: criteria.AnyOf, Of: []criteria.Criteria{not(conditions), oneOf("a")}}
			}
			plugin := rapid.SampledFrom([]string{"x", "y", "z"}).Draw(t, "plugin")
			q := ask(plugin, conditions, rapid.SliceOf(name).Draw(t, "refs")...)
			questions = append(questions, q)
			var results strings.Builder
			for _, ref := range q.Refs {
				results.WriteString(decide(conditions, ref)[:1])
			}
			want = append(want, results.String())
		}
		var got []string
		for _, o := range c.Apply(t.Context(), ann(), questions) {
			got = append(got, results(o))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
	})
}

func FuzzReadAnswer(f *testing.F) {
	for _, seed := range []string{
		`{"items":[{"id":"0","result":["ALLOW","DENY"]},{"id":"1","result":"ALLOW"}]}`,
		`{"items":[{"id":"1","result":"DENY"},{"id":"0","result":["DENY","DENY"],"more":{}}],"x":null}`,
		`{"items":[{"id":"0","result":"ALLOW"}]}`, `{"items":[]}`, `null`, ``, `{`,
	} {
		f.Add([]byte(seed))
	}
	spans := []span{{from: 3, to: 5}, {from: 0, to: 1}}
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := readAnswer(body, spans)
		if err != nil {
			if got != nil {
				t.Fatalf("results %v beside an error", got)
			}
			if len(err.Error()) > 200 {
				t.Fatalf("long error: %v", err)
			}
			return
		}
		// What was accepted must read the same to a decoder that knows nothing of ids.
		var a struct {
			Items []struct {
				ID     string
				Result any
			}
		}
		if err := json.Unmarshal(body, &a); err != nil || len(a.Items) != 2 {
			t.Fatalf("accepted %s", body)
		}
		results := map[string]any{}
		for _, item := range a.Items {
			results[item.ID] = item.Result
		}
		read := func(r any) string { s, _ := r.(string); return s }
		pair, _ := results["0"].([]any)
		if len(pair) != 2 {
			t.Fatalf("accepted %s", body)
		}
		want := []string{read(pair[0]), read(pair[1]), read(results["1"])}
		for i, r := range got {
			if want[i] != map[string]string{"A": "ALLOW", "D": "DENY"}["DAC"[r:r+1]] {
				t.Fatalf("result %d of %s is %v", i, body, r)
			}
		}
	})
}
