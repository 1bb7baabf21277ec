// Package saying says conditions about callers in words, and calls what the data lists by
// its name: a set such as data.roles.admin.members, or those who have a role.
package saying

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stagedoor/stagedoor/adapter/anyone/theory"
	"github.com/stagedoor/stagedoor/adapter/criteria"
	"github.com/stagedoor/stagedoor/adapter/offline"
	"github.com/stagedoor/stagedoor/adapter/words"
)

// vocabularyOf is how rules are said, those about callers too.
func vocabularyOf(of words.Vocabulary) words.Vocabulary {
	v := maps.Clone(of)
	for rule, text := range map[words.Rule]string{
		{Name: theory.HasClaim, ResourceType: theory.CallerType}:  "in {claims}[ in {case} case]",
		{Name: theory.IsUser, ResourceType: theory.CallerType}:    "by {users}[ in {case} case]",
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

// Speaker says conditions about callers in words. It is not safe for concurrent use.
type Speaker struct {
	vocabulary words.Vocabulary
	sets       []namedSet
	used       map[string][]string
}

// New returns a Speaker that knows the rules of policies and the sets in their data. Where
// the policies say a rule otherwise, the last one counts. The error is that of reading data.
func New(ctx context.Context, policies ...*offline.Policy) (*Speaker, error) {
	s := &Speaker{vocabulary: words.Vocabulary{}, used: make(map[string][]string)}
	for _, p := range policies {
		maps.Copy(s.vocabulary, vocabularyOf(p.Vocabulary()))
		sets, err := setsOf(ctx, p)
		if err != nil {
			return nil, err
		}
		s.sets = append(s.sets, sets...)
	}
	return s, nil
}

// Sets are the claims and users of each set that was named so far. What is said later is
// added to it.
func (s *Speaker) Sets() map[string][]string { return s.used }

// somebody is the caller in words: whoever asks.
var somebody = words.Caller{User: theory.UserText, Claims: []string{theory.ClaimsText}}

// Say is a condition about callers, or about both them and the resource, in words.
func (s *Speaker) Say(c criteria.Criteria) string {
	var found cases
	found.see(c)
	return s.vocabulary.Condition(s.plain(c, found.asIs && found.lowered), somebody)
}

// cases is whether the caller's references are compared as they are, and in lower case.
// Backstage writes them in lower case. So that is said only where there is both.
type cases struct{ asIs, lowered bool }

func (f *cases) see(c criteria.Criteria) {
	for _, child := range c.Of {
		f.see(child)
	}
	if c.Op != criteria.Leaf {
		return
	}
	about := c.Rule.ResourceType == theory.CallerType && c.Rule.Name != theory.Is
	_, anyCase := paramsOf(c.Rule)["case"]
	rest := asTheyAre.Replace(c.Rule.Params)
	f.lowered = f.lowered || about && anyCase || rest != c.Rule.Params
	f.asIs = f.asIs || about && !anyCase || strings.Contains(rest, theory.ClaimsText) ||
		strings.Contains(rest, theory.UserText)
}

func paramsOf(r criteria.Rule) map[string]any {
	var params map[string]any
	if json.Unmarshal([]byte(r.Params), &params) != nil {
		return nil
	}
	return params
}

// plain is a condition as it is said: without what only programs need to know, and with
// the names of sets. It says what is in lower case, or no more than whose it is.
func (s *Speaker) plain(c criteria.Criteria, sayCase bool) criteria.Criteria {
	if c.Op != criteria.Leaf {
		of := make([]criteria.Criteria, len(c.Of))
		for i, child := range c.Of {
			of[i] = s.plain(child, sayCase)
		}
		return criteria.Criteria{Op: c.Op, Of: of}
	}
	params := paramsOf(c.Rule)
	if params == nil {
		return c
	}
	spoken := lowered
	if sayCase {
		spoken = lowerCase
	}
	_, anyCase := params["case"]
	if about := c.Rule.ResourceType == theory.CallerType; about && !sayCase {
		delete(params, "case")
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
			list = s.named(list, anyCase)
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

// asTheyAre leaves out the caller's references in lower case. The other two are how these
// are said: as those of the caller, or as what they are.
var (
	asTheyAre = strings.NewReplacer("lower("+theory.ClaimsText+")", "", "lower("+theory.UserText+")", "")
	lowered   = strings.NewReplacer(
		"lower("+theory.ClaimsText+")", theory.ClaimsText, "lower("+theory.UserText+")", theory.UserText,
	)
	lowerCase = strings.NewReplacer(
		"lower("+theory.ClaimsText+")", strings.ToLower(theory.ClaimsText),
		"lower("+theory.UserText+")", strings.ToLower(theory.UserText),
	)
)

// namedSet is a list of references in the data, or an object with such keys; or what the
// same is listed for, such as the groups that have a role.
type namedSet struct {
	name string
	refs []string // sorted
	// lower are the refs in lower case, sorted. A set is called by its name where it is
	// compared as it is, and where both sides are lowered.
	lower []string
}

// fewestNamed is how many references a set has that is called by its name, and that no set
// named before it has.
const fewestNamed = 3

// maxData is how many values there may be in the data of a policy for which a formula is
// looked for.
const maxData = 20_000

// TooLarge is why no formula is looked for, the data having too many values, or empty. The
// error is that of reading the data.
func TooLarge(ctx context.Context, p *offline.Policy) (string, error) {
	data, err := p.Document(ctx)
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

// setsOf are the named sets in a policy's data, the largest first.
func setsOf(ctx context.Context, p *offline.Policy) ([]namedSet, error) {
	data, err := p.Document(ctx)
	if err != nil {
		return nil, err
	}
	var sets []namedSet
	add := func(name string, refs []string) {
		lower := make([]string, len(refs))
		for i, ref := range refs {
			lower[i] = strings.ToLower(ref)
		}
		slices.Sort(refs)
		slices.Sort(lower)
		refs, lower = slices.Compact(refs), slices.Compact(lower)
		if len(refs) >= fewestNamed {
			sets = append(sets, namedSet{name, refs, lower})
		}
	}
	var visit func(name string, v any)
	visit = func(name string, v any) {
		var refs []string
		switch v := v.(type) {
		case []any:
			for _, element := range v {
				if text, ok := element.(string); ok {
					refs = append(refs, text)
				}
			}
			if len(refs) < len(v) {
				return
			}
		case map[string]any:
			for _, key := range slices.Sorted(maps.Keys(v)) {
				visit(name+step(key), v[key])
				refs = append(refs, key)
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

// holders are the keys of an object by what their lists have.
func holders(object map[string]any) map[string][]string {
	by := make(map[string][]string)
	for key, value := range object {
		list, _ := value.([]any)
		for _, element := range list {
			if text, ok := element.(string); ok {
				by[text] = append(by[text], key)
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

// named is a list in which whole sets are called by their name. In any case, those in lower
// case are meant.
func (s *Speaker) named(list []any, anyCase bool) []any {
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
		refs := set.refs
		if anyCase {
			refs = set.lower
		}
		for _, ref := range refs {
			whole = whole && all[ref]
			if rest[ref] {
				more++
			}
		}
		if !whole || more < fewestNamed {
			continue
		}
		for _, ref := range refs {
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
