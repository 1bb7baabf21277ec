package engine

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/stagedoor/stagedoor/adapter/criteria"
	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/document/touch"
	"github.com/stagedoor/stagedoor/adapter/supply"
	"github.com/stagedoor/stagedoor/adapter/vetted"
	"github.com/stagedoor/stagedoor/adapter/wire"
	"github.com/stagedoor/stagedoor/rego"
)

// engineOf decides by the policy in a folder.
func engineOf(t testing.TB, dir string) *Engine {
	t.Helper()
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	log := logrus.NewEntry(logger)
	vetter, err := vetted.New(vetted.Options{Library: rego.Modules()})
	if err != nil {
		t.Fatal(err)
	}
	policies := supply.New(supply.Options{Path: dir}, vetter, log)
	if _, err := policies.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	e, err := New(Options{}, policies.Serving, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return e
}

// memoEngine decides by one module.
func memoEngine(t testing.TB, module string) *Engine {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{".manifest": `{"roots": ["p"]}`, "p.rego": "package p\n\n" + module} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return engineOf(t, dir)
}

// serves is the policy that the engine decides by.
func serves(t testing.TB, e *Engine) *vetted.State {
	t.Helper()
	s, err := e.serving()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// reading is a policy that reads what the expression does.
func reading(t testing.TB, expression string) *vetted.State {
	t.Helper()
	return serves(t, memoEngine(t, "# METADATA\n# entrypoint: true\nallow if "+expression+"\n"))
}

func decideOne(t testing.TB, e *Engine, c decision.Caller, p wire.Permission) *decision.Outcome {
	t.Helper()
	batch, err := e.Decide(t.Context(), c, []wire.Permission{p})
	if err != nil {
		t.Fatal(err)
	}
	return batch.Outcomes[0]
}

const byUserAndName = `# METADATA
# entrypoint: true
default allow := false

allow if {
	input.identity.user == "user:default/ann"
	input.permission.name == "a"
}
`

// TestMemoTellsApart asks in an order in which a decision that is remembered too
// broadly would be given to somebody else.
func TestMemoTellsApart(t *testing.T) {
	e := memoEngine(t, byUserAndName)
	ann, bob := decision.Caller{User: "user:default/ann"}, decision.Caller{User: "user:default/bob"}
	a, b := wire.Permission{Name: "a"}, wire.Permission{Name: "b"}
	for round := range 2 {
		for _, step := range []struct {
			caller decision.Caller
			ask    wire.Permission
			want   wire.Result
		}{
			{ann, a, wire.Allow},
			{ann, b, wire.Deny},
			{bob, a, wire.Deny},
			{decision.Caller{Anonymous: true}, a, wire.Deny},
			// What the policy does not read makes no difference.
			{decision.Caller{User: ann.User, Claims: []string{"group:default/x"}, Actor: "catalog"}, a, wire.Allow},
			{ann, wire.Permission{Name: "a", Action: "read"}, wire.Allow},
		} {
			got := decideOne(t, e, step.caller, step.ask)
			if got.Err != nil || got.Decision.Result != step.want {
				t.Errorf("round %d: %+v %+v: got %v, %v", round, step.caller, step.ask, got.Decision.Result, got.Err)
			}
			if round > 0 && !got.Remembered {
				t.Errorf("%+v %+v was not remembered", step.caller, step.ask)
			}
		}
	}
}

// TestMemoKnowsTheElse has a policy of one chain, whose later answers depend on what
// the first one does not look at.
func TestMemoKnowsTheElse(t *testing.T) {
	e := engineOf(t, "../../bundles/wrapper")
	ann := decision.Caller{User: "user:default/ann", Claims: []string{"user:default/ann", "group:default/web"}}
	bob := decision.Caller{User: "user:default/bob", Claims: ann.Claims}
	for range 2 {
		for _, step := range []struct {
			name string
			want wire.Result
		}{
			{"catalog.location.read", wire.Allow},
			{"catalog.location.delete", wire.Deny},
			{"scaffolder.task.create", wire.Allow},
			{"catalog.entity.create", wire.Deny},
		} {
			if got := decideOne(t, e, ann, wire.Permission{Name: step.name}); got.Err != nil || got.Decision.Result != step.want {
				t.Errorf("%s, remembered %t: %v, %v", step.name, got.Remembered, got.Decision.Result, got.Err)
			}
		}
		task := wire.Permission{Name: "scaffolder.task.read", Action: "read", Resource: true, ResourceType: "scaffolder-task"}
		for _, caller := range []decision.Caller{ann, bob} {
			if text := decideOne(t, e, caller, task).Decision.Text(); !strings.Contains(text, caller.User) {
				t.Errorf("%s is answered %s", caller.User, text)
			}
		}
	}
}

// TestBatchDecidesOnce holds repetitions in a batch together, remembered or not.
func TestBatchDecidesOnce(t *testing.T) {
	for name, module := range map[string]string{
		"remembered": byUserAndName,
		"not remembered": `# METADATA
# entrypoint: true
default allow := false

allow if rand.intn(input.permission.name, 1000000) >= 0
`,
	} {
		t.Run(name, func(t *testing.T) {
			e := memoEngine(t, module)
			a, b := wire.Permission{Name: "a"}, wire.Permission{Name: "b"}
			batch, err := e.Decide(t.Context(), decision.Caller{User: "user:default/ann"}, []wire.Permission{a, b, a, a})
			if err != nil {
				t.Fatal(err)
			}
			o := batch.Outcomes
			if o[0] != o[2] || o[0] != o[3] || o[0] == o[1] {
				t.Errorf("got the outcomes %p %p %p %p", o[0], o[1], o[2], o[3])
			}
		})
	}
}

// TestMemoIsBoundedByCaller has one caller make up permissions, of which the latest
// are remembered.
func TestMemoIsBoundedByCaller(t *testing.T) {
	e := memoEngine(t, byUserAndName)
	ann := decision.Caller{User: "user:default/ann"}
	key := callerKeyOf(serves(t, e), ann)
	start := 0
	for _, size := range []int{1000, 1000, 1000, 3 * memoPermissions, 1000} {
		var all []wire.Permission
		for n := range size {
			all = append(all, wire.Permission{Name: fmt.Sprint("made-up-", start+n)})
		}
		start += size
		if _, err := e.Decide(t.Context(), ann, all); err != nil {
			t.Fatal(err)
		}
		known := knownOf(e.memo, key)
		if n := len(known.answered); n == 0 || n > memoPermissions || known.weight < uint32(n*questionOverhead) {
			t.Fatalf("after %d: %d outcomes of weight %d", start, n, known.weight)
		}
		if o := decideOne(t, e, ann, all[0]); size < memoPermissions && !o.Remembered {
			t.Errorf("after %d: what was asked last is forgotten", start)
		}
	}
	if o := decideOne(t, e, ann, wire.Permission{Name: "a"}); o.Decision.Result != wire.Allow {
		t.Errorf("got %v, %v", o.Decision.Result, o.Err)
	}
}

// TestMemoSharesAnswers asks for permissions of which some have the same answer, found
// in the same way.
func TestMemoSharesAnswers(t *testing.T) {
	e := memoEngine(t, `# METADATA
# entrypoint: true
default decision := {"result": "DENY"}

# METADATA
# labels:
#   rule: odd
decision := {"result": "ALLOW", "reason": reason} if endswith(input.permission.name, "1")

# METADATA
# labels:
#   rule: even
decision := {"result": "ALLOW", "reason": reason} if endswith(input.permission.name, "2")

reason := split(input.permission.name, "-")[0]
`)
	caller := decision.Caller{User: "user:default/ann"}
	outcomes := map[string]*decision.Outcome{}
	for round := range 3 {
		for n := range 60 {
			name := fmt.Sprintf("%c-%02d", 'a'+n%2, n/2%10*10+1+n/20%2)
			o := decideOne(t, e, caller, wire.Permission{Name: name})
			labels := []map[string]any{{"rule": []string{"", "odd", "even"}[name[len(name)-1]-'0']}}
			if o.Err != nil || o.Decision.Result != wire.Allow || o.Reason != name[:1] || !reflect.DeepEqual(o.RuleLabels, labels) {
				t.Fatalf("round %d, %s: got %+v", round, name, o)
			}
			if round > 0 && !o.Remembered {
				t.Errorf("%s is not remembered", name)
			}
			outcomes[name] = o
		}
	}
	different := map[*decision.Outcome]bool{}
	for _, o := range outcomes {
		different[o] = true
	}
	if len(outcomes) != 40 || len(different) != 4 {
		t.Errorf("%d questions have %d outcomes", len(outcomes), len(different))
	}
}

// TestCallersHaveKeysOfTheirOwn has states and callers who could be taken for one
// another.
func TestCallersHaveKeysOfTheirOwn(t *testing.T) {
	long := strings.Repeat("x", 253)
	keys := map[callerKey]string{}
	state := *reading(t, "input.identity")
	for _, number := range []uint64{1, 2, 257, 1 << 32} {
		state.Policy = number
		for _, c := range []decision.Caller{
			{},
			{Anonymous: true},
			{User: "a"},
			{Actor: "a"},
			{Claims: []string{}, User: "ab", Actor: "c"},
			{User: "a", Actor: "bc"},
			{Claims: []string{"a"}},
			{Claims: []string{""}},
			{Claims: []string{"", ""}},
			{Claims: []string{"ab", "c"}},
			{Claims: []string{"a", "bc"}},
			{Claims: []string{"abc"}},
			{Claims: []string{"bc", "a"}},
			{Claims: []string{long}},
			{Claims: []string{"", long}},
			{Claims: []string{long, ""}},
			// These are one, were a length a byte.
			{User: "\x00\x03\xfd" + long},
			{Claims: []string{long, "", ""}},
		} {
			who := fmt.Sprintf("%d %+v", number, c)
			key := callerKeyOf(&state, c)
			if other, known := keys[key]; known {
				t.Errorf("%.60s has the key of %.60s", who, other)
			}
			keys[key] = who
		}
	}
}

// remember remembers what was decided without reading any data.
func remember(m *memo, key callerKey, known *remembered, decided map[question]*decision.Outcome) {
	var none touch.Reads
	answers := make(map[question]answer, len(decided))
	for of, outcome := range decided {
		read := none.Read()
		answers[of] = answer{outcome: outcome, read: &read}
	}
	m.add(key, 1, callerKey{}, known, answers, nil)
}

// asking is the question about a permission of that name.
func asking(m *memo, name string) question {
	p := wire.Permission{Name: name}
	return question{p, maphash.Comparable(m.seed, p)}
}

// knownOf is what is remembered under a key; nil for nothing.
func knownOf(m *memo, key callerKey) *remembered {
	r, _ := m.cache.GetIfPresent(key)
	return r
}

// TestMemoAddsTwice adds to what is known twice, as two requests at a time do.
func TestMemoAddsTwice(t *testing.T) {
	m, err := newMemo(defaultMemo)
	if err != nil {
		t.Fatal(err)
	}
	add := func(known *remembered, names ...string) *remembered {
		decided := map[question]*decision.Outcome{}
		for _, name := range names {
			decided[asking(m, name)] = &decision.Outcome{Reason: name}
		}
		remember(m, callerKey{}, known, decided)
		return knownOf(m, callerKey{})
	}
	known := add(nil, "a", "b", "c", "d", "e")
	first, second := add(known, "f"), add(known, "g")
	if first.answers[5].Reason != "f" || second.answers[5].Reason != "g" || len(known.answers) != 5 {
		t.Errorf("got %s and %s beside %d", first.answers[5].Reason, second.answers[5].Reason, len(known.answers))
	}
}

// TestMemoTellsHashesApart has two questions with the same hash, and answers one of them anew.
func TestMemoTellsHashesApart(t *testing.T) {
	m, err := newMemo(defaultMemo)
	if err != nil {
		t.Fatal(err)
	}
	a, b, c := question{wire.Permission{Name: "a"}, 7}, question{wire.Permission{Name: "b"}, 7}, question{wire.Permission{Name: "c"}, 7}
	because := func(reason string) *decision.Outcome { return &decision.Outcome{Reason: reason} }
	remember(m, callerKey{}, nil, map[question]*decision.Outcome{a: because("a"), b: because("b")})
	remember(m, callerKey{}, knownOf(m, callerKey{}), map[question]*decision.Outcome{b: because("b again")})
	known := knownOf(m, callerKey{})
	if got := known.outcome(a).Reason + ", " + known.outcome(b).Reason; got != "a, b again" || known.outcome(c) != nil {
		t.Errorf("got %s, and %v of what was not asked", got, known.outcome(c))
	}
}

// TestMemoSharesPlain has callers whose answers say no more than a result and a reason,
// and such as say more.
func TestMemoSharesPlain(t *testing.T) {
	m, err := newMemo(defaultMemo)
	if err != nil {
		t.Fatal(err)
	}
	allow := wire.Decision{Result: wire.Allow}
	outcomes := map[string]decision.Outcome{
		"allow":       {Decision: allow},
		"deny":        {},
		"reason":      {Decision: allow, Reason: "because"},
		"labels":      {Decision: allow, RuleLabels: []map[string]any{{"rule": "one"}}},
		"excluded":    {Decision: allow, Excluded: []error{errors.New("failed")}},
		"conditional": {Decision: wire.NewConditional("catalog", "catalog-entity", criteria.Criteria{Op: criteria.Leaf, Rule: criteria.Rule{Name: "IS_ENTITY_OWNER"}})},
	}
	ann, bob := callerKey{1}, callerKey{2}
	for _, key := range []callerKey{ann, bob} {
		decided := map[question]*decision.Outcome{}
		for name, outcome := range outcomes {
			decided[asking(m, name)] = &outcome
		}
		remember(m, key, nil, decided)
	}
	for name, want := range outcomes {
		of := asking(m, name)
		anns, bobs := knownOf(m, ann).outcome(of), knownOf(m, bob).outcome(of)
		want.Remembered = true
		if expect := fmt.Sprintf("%+v", want); fmt.Sprintf("%+v", *anns) != expect || fmt.Sprintf("%+v", *bobs) != expect {
			t.Errorf("%s: got %+v and %+v", name, *anns, *bobs)
		}
		if shared := name == "allow" || name == "deny" || name == "reason"; (anns == bobs) != shared {
			t.Errorf("%s: the same for both: %t", name, anns == bobs)
		}
	}
}

// TestMemoSharesSome shares so many reasons and no more, and gives each caller its own.
func TestMemoSharesSome(t *testing.T) {
	m, err := newMemo(defaultMemo)
	if err != nil {
		t.Fatal(err)
	}
	for n := range 3 * maxShared {
		reason := strconv.Itoa(n)
		if o := m.shareReasoned(&decision.Outcome{Reason: reason}); o.Reason != reason || !o.Remembered {
			t.Fatalf("%s: %+v", reason, o)
		}
	}
	if len(m.reasoned.by) > maxShared {
		t.Errorf("%d outcomes are shared", len(m.reasoned.by))
	}
}

// TestMemoKeepsExcluded has answers that say the same, though a branch failed for one
// of them.
func TestMemoKeepsExcluded(t *testing.T) {
	m, err := newMemo(defaultMemo)
	if err != nil {
		t.Fatal(err)
	}
	failed := errors.New("division by zero")
	decided := map[question]*decision.Outcome{}
	for n := range 20 {
		o := &decision.Outcome{Decision: wire.Decision{Result: wire.Allow}}
		if n%2 == 0 {
			o.Excluded = []error{failed}
		}
		decided[asking(m, strconv.Itoa(n))] = o
	}
	remember(m, callerKey{}, nil, decided)
	for of, made := range decided {
		if got := knownOf(m, callerKey{}).outcome(of); !slices.Equal(got.Excluded, made.Excluded) || !got.Remembered || made.Remembered {
			t.Errorf("%s: got %+v", of.Name, got)
		}
	}
}

// TestMemoOfAKindThatFails asks a policy that fails for callers whom it cannot tell apart.
func TestMemoOfAKindThatFails(t *testing.T) {
	e := memoEngine(t, `# METADATA
# entrypoint: true
allow := input.permission.name == "a" if input.identity.user

allow := "twice" if input.identity.user
`)
	for _, user := range []string{"user:default/ann", "user:default/bob", "user:default/ann"} {
		o := decideOne(t, e, decision.Caller{User: user, Claims: []string{user}}, wire.Permission{Name: "a"})
		if failed, ok := errors.AsType[*decision.Failure](o.Err); !ok || o.Decision.Result != wire.Deny {
			t.Errorf("%s: %+v, %v", user, o, failed)
		}
	}
}

// TestMemoOfAKind has callers of a kind rely on one another, also once what is remembered of
// the kind is gone, or has more than they rely on.
func TestMemoOfAKind(t *testing.T) {
	e := memoEngine(t, `# METADATA
# entrypoint: true
default decision := {"result": "DENY"}

decision := {"result": "ALLOW"} if {
	startswith(input.permission.name, "everybody")
	input.identity.user
}

decision := {"result": "ALLOW"} if {
	input.permission.name == "sre"
	"group:default/sre" in input.identity.claims
}

decision := {
	"result": "CONDITIONAL", "pluginId": "catalog", "resourceType": "catalog-entity",
	"conditions": {"rule": "IS_ENTITY_OWNER", "resourceType": "catalog-entity", "params": {"claims": input.identity.claims}},
} if input.permission.name == "owners"

decision := {"result": "ALLOW", "reason": input.identity.user} if input.permission.name == "named"
`)
	ask := func(user string, names ...string) []*decision.Outcome {
		t.Helper()
		claims := []string{user, "group:default/of-" + user}
		if user == "user:default/sre" {
			claims = append(claims, "group:default/sre")
		}
		var all []wire.Permission
		for _, name := range names {
			p := wire.Permission{Name: name}
			if name == "owners" {
				p.Resource, p.ResourceType = true, "catalog-entity"
			}
			all = append(all, p)
		}
		caller := decision.Caller{User: user, Claims: claims}
		batch, err := e.Decide(t.Context(), caller, all)
		if err != nil {
			t.Fatal(err)
		}
		for i, o := range batch.Outcomes {
			switch want := user == "user:default/sre"; {
			case o.Err != nil:
				t.Errorf("%s, %s: %v", user, names[i], o.Err)
			case names[i] == "sre" && (o.Decision.Result == wire.Allow) != want,
				strings.HasPrefix(names[i], "everybody") && o.Decision.Result != wire.Allow,
				names[i] == "nobody" && o.Decision.Result != wire.Deny,
				names[i] == "named" && o.Reason != user,
				names[i] == "owners" && !strings.Contains(o.Decision.Text(), `"group:default/of-`+user+`"`):
				t.Errorf("%s, %s: got %+v", user, names[i], o)
			}
		}
		return batch.Outcomes
	}
	known := func(user string) *remembered {
		return knownOf(e.memo, callerKeyOf(serves(t, e), decision.Caller{User: user, Claims: []string{user, "group:default/of-" + user}}))
	}
	// A few of many users look as if the policy knew them (the filter of package alike), and are
	// of a kind of their own.
	kinds := map[callerKey][]string{}
	for n := range 60 {
		user := fmt.Sprintf("user:default/%d", n)
		key := kindKeyOf(serves(t, e), decision.Caller{User: user, Claims: []string{user, "group:default/of-" + user}})
		kinds[key] = append(kinds[key], user)
	}
	alike := slices.MaxFunc(slices.Collect(maps.Values(kinds)), func(a, b []string) int { return len(a) - len(b) })
	of := func(n int) string { return alike[n] }
	names := []string{"everybody", "sre", "owners", "named", "nobody", "owners", "everybody"}
	for round := range 2 {
		for n := range 4 {
			for i, o := range ask(of(n), names...) {
				if (round > 0 || n > 0 && !slices.Contains([]string{"owners", "named"}, names[i])) && !o.Remembered {
					t.Errorf("round %d, %s, %s: not remembered", round, of(n), names[i])
				}
			}
		}
		ask("user:default/sre", names...)
	}
	if own := known(of(1)); len(own.answered) > 0 || len(own.own) != 2 || own.kind == (callerKey{}) || len(own.common) > 0 {
		t.Errorf("%d answers are the caller's own, and %d outcomes, want those to owners and named", len(own.answered), len(own.own))
	}
	ask(of(9), "everybody")
	ask(of(9), names...) // of which the kind knows more than the caller
	e.memo.cache.Invalidate(known(of(1)).kind)
	ask(of(1), names...)
	ask(of(2), names...)

	var madeUp []string
	for n := range maxCommon {
		madeUp = append(madeUp, fmt.Sprint("everybody-", n))
	}
	ask(of(3), madeUp...)
	ask(of(4), names...)
	if own := known(of(4)); len(own.answered) != 5 {
		t.Errorf("%d answers are the caller's own where the kind has many, want all 5", len(own.answered))
	}
	for n := range 3 * memoPermissions / maxCommon {
		for i := range madeUp {
			madeUp[i] = fmt.Sprintf("everybody-%d-%d", n, i)
		}
		ask(of(3), madeUp...)
	}
	for i, o := range ask(of(4), names...) {
		if !o.Remembered {
			t.Errorf("%s is forgotten, since another caller made up names", names[i])
		}
	}
	ask(of(1), names...)
}

// readsAlmostAll is a policy that reads who asks, and the name of what is asked.
func readsAlmostAll(t testing.TB) *vetted.State {
	t.Helper()
	return reading(t, `{input.identity.user, input.permission.name} == {c | some c in input.identity.claims}`)
}

// remembering has a memo remember the answers to questions of callers: each of them
// the half of its questions with ALLOW, the other half with its own conditions.
func remembering(t *testing.T, s *vetted.State, callers, questions int, name func(caller, question int) string) (*memo, []callerKey) {
	t.Helper()
	m, err := newMemo(defaultMemo)
	if err != nil {
		t.Fatal(err)
	}
	keys := make([]callerKey, callers)
	for n := range keys {
		user := fmt.Sprintf("user:default/user-%05d", n)
		keys[n] = callerKeyOf(s, decision.Caller{User: user, Claims: []string{user, strings.Repeat("x", 200)}})
		decided := map[question]*decision.Outcome{}
		for q := range questions {
			o := &decision.Outcome{Decision: wire.Decision{Result: wire.Allow}}
			if q%2 == 0 {
				params := fmt.Sprintf(`{"claims":[%q,%q]}`, user, strings.Repeat("x", 300))
				o.Decision = wire.NewConditional("catalog", "catalog-entity", criteria.Criteria{Op: criteria.Leaf, Rule: criteria.Rule{
					Name: "IS_ENTITY_OWNER", ResourceType: "catalog-entity", Params: params,
				}})
			}
			decided[m.question(s, wire.Permission{Name: name(n, q)})] = o
		}
		remember(m, keys[n], nil, decided)
	}
	m.cache.CleanUp()
	return m, keys
}

// TestMemoHoldsManyCallers has as many callers, with as many questions and answers as
// long, as there are in a large company.
func TestMemoHoldsManyCallers(t *testing.T) {
	const callers = 4500
	m, keys := remembering(t, readsAlmostAll(t), callers, 50, func(_, q int) string { return fmt.Sprintf("catalog.entity.something.%02d", q) })
	for n, key := range keys {
		if knownOf(m, key) == nil {
			t.Fatalf("caller %d of %d is forgotten; the memo weighs %d", n, callers, m.cache.WeightedSize())
		}
	}
}

// TestMemoWeighsWhatItTakes has callers who make up their own permissions, few and
// many.
func TestMemoWeighsWhatItTakes(t *testing.T) {
	s := readsAlmostAll(t)
	for _, questions := range []int{1, 10, 500} {
		before := heap()
		m, keys := remembering(t, s, 10_000/questions, questions, func(n, q int) string { return fmt.Sprintf("made-up-by-%05d-%05d", n, q) })
		took, weight := heap()-before, float64(m.cache.WeightedSize())
		if ratio := took / weight; ratio > 1.3 || ratio < 0.3 {
			t.Errorf("%d questions each: %.0f bytes weigh %.0f", questions, took, weight)
		}
		if knownOf(m, keys[0]) == nil {
			t.Errorf("%d questions each: not all are remembered, and the comparison is worth nothing", questions)
		}
	}
}

// heap is how many bytes are in use.
func heap() float64 {
	var m runtime.MemStats
	for range 3 { // the last of which finds what finalizers of the first let go
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// TestMemoUnderConcurrency has many ask about one caller at a time, each of them
// adding to what is remembered.
func TestMemoUnderConcurrency(t *testing.T) {
	e := memoEngine(t, byUserAndName)
	ann := decision.Caller{User: "user:default/ann"}
	var group sync.WaitGroup
	for w := range 8 {
		group.Go(func() {
			for n := range 200 {
				p := wire.Permission{Name: fmt.Sprint("p-", (n*7+w)%50)}
				if n%3 == 0 {
					p.Name = "a"
				}
				batch, err := e.Decide(t.Context(), ann, []wire.Permission{p})
				if err != nil || (batch.Outcomes[0].Decision.Result == wire.Allow) != (p.Name == "a") {
					t.Errorf("%s: got %v, %v", p.Name, batch.Outcomes, err)
				}
			}
		})
	}
	group.Wait()
}

// TestDecisionsTakeTurns lets others evaluate and not come to an end: what is
// remembered is answered meanwhile, and what is not waits until its request gives up.
func TestDecisionsTakeTurns(t *testing.T) {
	e := memoEngine(t, byUserAndName)
	ann, a, b := decision.Caller{User: "user:default/ann"}, wire.Permission{Name: "a"}, wire.Permission{Name: "b"}
	decideOne(t, e, ann, a)
	var held []*turn
	for range runtime.GOMAXPROCS(0) {
		other, err := e.turns.begin(t.Context(), "other", time.Hour, false, func() {})
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, other)
	}
	if o := decideOne(t, e, ann, a); o.Decision.Result != wire.Allow || !o.Remembered {
		t.Errorf("got %v, %v", o.Decision.Result, o.Err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := e.Decide(ctx, ann, []wire.Permission{b}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got the error %v", err)
	}
	for _, other := range held {
		other.end()
	}
	if o := decideOne(t, e, ann, b); o.Err != nil || o.Decision.Result != wire.Deny || o.Remembered {
		t.Errorf("got %v, %v", o.Decision.Result, o.Err)
	}
}

// TestNotRemembered has a policy that allows for a moment.
func TestNotRemembered(t *testing.T) {
	e := memoEngine(t, fmt.Sprintf("# METADATA\n# entrypoint: true\ndefault allow := false\n\nallow if time.now_ns() < %d\n", time.Now().Add(time.Hour).UnixNano()))
	ask := wire.Permission{Name: "a"}
	if got := decideOne(t, e, decision.Caller{}, ask); got.Decision.Result != wire.Allow {
		t.Fatalf("at first: %+v", got)
	}
	e.options.Now = func() time.Time { return time.Now().Add(2 * time.Hour) }
	if got := decideOne(t, e, decision.Caller{}, ask); got.Decision.Result != wire.Deny {
		t.Errorf("later: %+v", got)
	}
}
