package anyone

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"

	"github.com/stagedoor/stagedoor/adapter/anyone/evaluation"
	"github.com/stagedoor/stagedoor/adapter/anyone/theory"
	"github.com/stagedoor/stagedoor/adapter/criteria"
	"github.com/stagedoor/stagedoor/adapter/offline"
	"github.com/stagedoor/stagedoor/adapter/wire"
	"github.com/stagedoor/stagedoor/adapter/words"
)

// Open compiles a policy that was opened, so that it can be asked about all callers.
func Open(p *offline.Policy) (*Policy, error) {
	modules := offline.Library()
	maps.Copy(modules, p.Modules())
	return Compile(Options{Modules: modules, Entrypoint: p.Entrypoint(), Store: p.Data()})
}

// A Who says which callers may do something, of all that there can be.
type Who struct {
	// Callers are the kinds of callers, those folded that may do the same.
	Callers []Said `json:"callers,omitempty"`
	// Sets are the claims and users of each set that the words name.
	Sets map[string][]string `json:"sets,omitempty"`
	// Outside says why there is no formula, with file and line; it is empty where there is.
	Outside string `json:"outside,omitempty"`
}

// Said is what kinds of callers may do.
type Said struct {
	Kinds []Kind `json:"kinds"`
	// Result is ALLOW, DENY or CONDITIONAL: by who the caller is, by what the resource is,
	// or both.
	Result   string             `json:"result"`
	Criteria *criteria.Criteria `json:"criteria,omitempty"`
	InWords  string             `json:"inWords,omitempty"`
}

// WhoMay says which callers may do something by a policy. The error is the context's, or
// that of compiling it.
func WhoMay(ctx context.Context, p *offline.Policy, permission wire.Permission) (*Who, error) {
	if why, err := TooLarge(ctx, p); why != "" || err != nil {
		return &Who{Outside: why}, err
	}
	policy, err := Open(p)
	if err != nil {
		return nil, err
	}
	answer, err := policy.May(ctx, permission)
	if outside, ok := errors.AsType[*evaluation.OutsideError](err); ok && ctx.Err() == nil {
		return &Who{Outside: outside.Error()}, nil
	}
	if err != nil {
		return nil, err
	}
	sets, err := setsOf(ctx, p)
	if err != nil {
		return nil, err
	}
	s := speaker{vocabulary: Vocabulary(p.Vocabulary()), sets: sets, used: make(map[string][]string)}
	w := &Who{Sets: s.used}
	for _, kind := range Kinds {
		c, err := answer.Criteria(kind)
		if errors.Is(err, criteria.ErrTooLarge) {
			return &Who{Outside: "the condition is too large to be told"}, nil
		}
		if err != nil {
			return nil, err
		}
		w.add(kind, c, &s)
	}
	return w, nil
}

func (w *Who) add(kind Kind, c criteria.Criteria, s *speaker) {
	said := Said{Kinds: []Kind{kind}}
	switch c.Op {
	case criteria.Never:
		said.Result = wire.Deny.String()
	case criteria.Always:
		said.Result = wire.Allow.String()
	default:
		said.Result, said.Criteria, said.InWords = wire.Conditional.String(), &c, s.say(c)
	}
	for i, other := range w.Callers {
		if other.Result == said.Result && (other.Criteria == nil || other.Criteria.Equal(c)) {
			w.Callers[i].Kinds = append(w.Callers[i].Kinds, kind)
			return
		}
	}
	w.Callers = append(w.Callers, said)
}

// Text says it in lines.
func (w *Who) Text() string {
	var b strings.Builder
	if w.Outside != "" {
		fmt.Fprintf(&b, "every caller: no formula is found: %s\n", w.Outside)
		return b.String()
	}
	b.WriteString("every caller:\n")
	for _, said := range w.Callers {
		kinds := make([]string, len(said.Kinds))
		for i, kind := range said.Kinds {
			kinds[i] = string(kind)
		}
		fmt.Fprintf(&b, "  %s  %s\n", said.Result, strings.Join(kinds, "; "))
		if said.InWords != "" {
			fmt.Fprintf(&b, "    %s\n", said.InWords)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(w.Sets)) {
		fmt.Fprintf(&b, "  %s: %s\n", name, listed(w.Sets[name]))
	}
	return b.String()
}

// mostListed is how many members of a set a line lists.
const mostListed = 20

func listed(names []string) string {
	text := strings.Join(names[:min(len(names), mostListed)], ", ")
	if more := len(names) - mostListed; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// Vocabulary is how rules are said, those about callers too.
func Vocabulary(of words.Vocabulary) words.Vocabulary {
	v := maps.Clone(of)
	for rule, text := range map[words.Rule]string{
		{Name: theory.HasClaim, ResourceType: theory.CallerType}:  "in {claims}",
		{Name: theory.IsUser, ResourceType: theory.CallerType}:    "by {users}",
		{Name: theory.Is, ResourceType: theory.CallerType}:        "where {rego}",
		{Name: theory.Is, ResourceType: theory.CallerAndResource}: "where {rego}",
	} {
		template, err := words.Parse(text)
		if err != nil { // It is a constant.
			panic(err)
		}
		v[rule] = template
	}
	return v
}

// speaker says conditions about callers in words.
type speaker struct {
	vocabulary words.Vocabulary
	sets       []namedSet
	used       map[string][]string
}

// somebody is the caller in words: whoever asks.
var somebody = words.Caller{User: theory.UserText, Claims: []string{theory.ClaimsText}}

func (s *speaker) say(c criteria.Criteria) string {
	return s.vocabulary.Condition(s.plain(c), somebody)
}

// plain is a condition as it is said: without what only programs need to know, and with
// the names of sets.
func (s *speaker) plain(c criteria.Criteria) criteria.Criteria {
	if c.Op != criteria.Leaf {
		of := make([]criteria.Criteria, len(c.Of))
		for i, child := range c.Of {
			of[i] = s.plain(child)
		}
		return criteria.Criteria{Op: c.Op, Of: of}
	}
	var params map[string]any
	if json.Unmarshal([]byte(c.Rule.Params), &params) != nil {
		return c
	}
	for name, value := range params {
		list, ok := value.([]any)
		if !ok {
			if text, ok := value.(string); ok && name != "rego" {
				params[name] = spoken.Replace(text)
			}
			continue
		}
		if c.Rule.ResourceType == theory.CallerType {
			list = s.named(list)
		}
		for i, element := range list {
			if text, ok := element.(string); ok {
				list[i] = spoken.Replace(text)
			}
		}
		params[name] = list
	}
	text, err := json.Marshal(params)
	if err != nil {
		return c
	}
	c.Rule.Params = string(text)
	return c
}

// spoken is how what is made of the caller is said.
var spoken = strings.NewReplacer(
	"lower("+theory.ClaimsText+")", theory.ClaimsText, "lower("+theory.UserText+")", theory.UserText,
)

// namedSet is a list of references in the data, or an object with such keys; or what the
// same is listed for, such as the groups that have a role.
type namedSet struct {
	name string
	refs []string // in lower case, sorted
}

// fewestNamed is how many references a set has that is called by its name, and that no set
// named before it has.
const fewestNamed = 3

// maxData is how many values there may be in the data of a policy for which a formula is
// looked for.
const maxData = 20_000

// TooLarge is why no formula is looked for, or empty.
func TooLarge(ctx context.Context, p *offline.Policy) (string, error) {
	data, err := dataOf(ctx, p)
	if err != nil {
		return "", err
	}
	if n := valuesIn(data); n > maxData {
		return fmt.Sprintf("the data of %s has %d values, and a formula is looked for up to %d", p.Path, n, maxData), nil
	}
	return "", nil
}

func valuesIn(v any) int {
	n := 1
	switch v := v.(type) {
	case []any:
		for _, element := range v {
			n += valuesIn(element)
		}
	case map[string]any:
		for _, member := range v {
			n += valuesIn(member)
		}
	}
	return n
}

func dataOf(ctx context.Context, p *offline.Policy) (any, error) {
	data, err := storage.ReadOne(ctx, p.Data(), storage.Path{})
	if err != nil {
		return nil, err
	}
	if value, ok := data.(ast.Value); ok {
		return ast.JSON(value)
	}
	return data, nil
}

// setsOf are the named sets in a policy's data, the largest first.
func setsOf(ctx context.Context, p *offline.Policy) ([]namedSet, error) {
	data, err := dataOf(ctx, p)
	if err != nil {
		return nil, err
	}
	var sets []namedSet
	add := func(name string, refs []string) {
		slices.Sort(refs)
		if refs = slices.Compact(refs); len(refs) >= fewestNamed {
			sets = append(sets, namedSet{name, refs})
		}
	}
	var visit func(name string, v any)
	visit = func(name string, v any) {
		var refs []string
		switch v := v.(type) {
		case []any:
			for _, element := range v {
				if text, ok := element.(string); ok {
					refs = append(refs, strings.ToLower(text))
				}
			}
			if len(refs) < len(v) {
				return
			}
		case map[string]any:
			for _, key := range slices.Sorted(maps.Keys(v)) {
				visit(name+step(key), v[key])
				refs = append(refs, strings.ToLower(key))
			}
			for text, keys := range holders(v) {
				add(text+"@"+name, keys)
			}
		default:
			return
		}
		add(name, refs)
	}
	visit("data", data)
	slices.SortStableFunc(sets, func(a, b namedSet) int {
		return cmp.Or(cmp.Compare(len(b.refs), len(a.refs)), cmp.Compare(a.name, b.name))
	})
	return sets, nil
}

// holders are the keys of an object, in lower case, by what their lists have.
func holders(object map[string]any) map[string][]string {
	by := make(map[string][]string)
	for key, value := range object {
		list, _ := value.([]any)
		for _, element := range list {
			if text, ok := element.(string); ok {
				by[text] = append(by[text], strings.ToLower(key))
			}
		}
	}
	return by
}

func step(key string) string {
	if ast.IsVarCompatibleString(key) {
		return "." + key
	}
	return fmt.Sprintf("[%q]", key)
}

// named is a list in which whole sets are called by their name.
func (s *speaker) named(list []any) []any {
	all, rest := make(map[string]bool, len(list)), make(map[string]bool, len(list))
	for _, element := range list {
		text, ok := element.(string)
		if !ok {
			return list
		}
		all[text], rest[text] = true, true
	}
	var names []any
	for _, set := range s.sets {
		whole, more := true, 0
		for _, ref := range set.refs {
			whole = whole && all[ref]
			if rest[ref] {
				more++
			}
		}
		if !whole || more < fewestNamed {
			continue
		}
		for _, ref := range set.refs {
			delete(rest, ref)
		}
		names = append(names, set.name)
		s.used[set.name] = set.refs
	}
	for _, element := range list {
		if text, _ := element.(string); rest[text] {
			names = append(names, element)
		}
	}
	return names
}
