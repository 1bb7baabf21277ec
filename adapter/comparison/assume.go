package comparison

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/stagedoor/stagedoor/adapter/criteria"
)

const catalogEntity = "catalog-entity"

// keyed are the rules of the catalog that ask for a key and perhaps for its value, by
// the name of the key's parameter. Keys and values are compared in lower case.
var keyed = map[string]string{
	"HAS_LABEL":      "label",
	"HAS_ANNOTATION": "annotation",
	"HAS_METADATA":   "key",
	"HAS_SPEC":       "key",
}

// assume notes what is known of all entities, as far as rules of the conditions are
// about it: an entity has one kind; what has a key with a value has the key; and
// neither kinds nor keys differ by case alone. Without that a review would tell
// differences that no entity can show.
func (c *Comparer) assume(s *criteria.Space, of ...criteria.Criteria) error {
	a := assumptions{space: s, kinds: make(map[string][]criteria.Function), pairs: make(map[pair]criteria.Function)}
	seen := make(map[criteria.Rule]bool)
	for _, condition := range of {
		for r := range condition.Rules() {
			if r.ResourceType != catalogEntity || seen[r] {
				continue
			}
			seen[r] = true
			if err := a.note(r); err != nil {
				return err
			}
		}
	}
	a.oneKind()
	return nil
}

type assumptions struct {
	space *criteria.Space
	kinds map[string][]criteria.Function // by the kind in lower case
	pairs map[pair]criteria.Function
}

// pair is a rule with a key, and a value where hasValue, in lower case.
type pair struct {
	rule, key, value string
	hasValue         bool
}

func (a *assumptions) note(r criteria.Rule) error {
	var params map[string]any
	if r.Params == "" || json.Unmarshal([]byte(r.Params), &params) != nil {
		return nil //nolint:nilerr // params that are no object assume nothing
	}
	if r.Name == "IS_ENTITY_KIND" {
		kinds, _ := params["kinds"].([]any)
		for _, kind := range kinds {
			if err := a.kind(kind); err != nil {
				return err
			}
		}
		return nil
	}
	if name, ok := keyed[r.Name]; ok {
		return a.key(r, name, params)
	}
	return nil
}

func (a *assumptions) kind(kind any) error {
	name, ok := kind.(string)
	if !ok {
		return nil
	}
	f, err := a.space.Rule("IS_ENTITY_KIND", catalogEntity, map[string]any{"kinds": []any{name}}, "kinds")
	if err != nil {
		return err
	}
	lower := strings.ToLower(name)
	if !slices.Contains(a.kinds[lower], f) {
		a.kinds[lower] = append(a.kinds[lower], f)
	}
	return nil
}

// oneKind assumes that an entity has one kind, in whatever case a rule asks for it.
func (a *assumptions) oneKind() {
	var kinds []criteria.Function
	for _, alike := range a.kinds {
		for _, f := range alike[1:] {
			a.same(f, alike[0])
		}
		kinds = append(kinds, alike[0])
	}
	slices.Sort(kinds)
	for i, f := range kinds {
		for _, other := range kinds[:i] {
			a.space.Assume(a.space.All(f, other).Not())
		}
	}
}

func (a *assumptions) key(r criteria.Rule, name string, params map[string]any) error {
	key, ok := params[name].(string)
	value, isText := params["value"].(string)
	_, hasValue := params["value"]
	if !ok || hasValue && !isText {
		return nil
	}
	f, err := a.space.Rule(r.Name, r.ResourceType, params, "")
	if err != nil {
		return err
	}
	p := pair{r.Name, strings.ToLower(key), strings.ToLower(value), hasValue}
	if known, ok := a.pairs[p]; ok {
		a.same(f, known)
		return nil
	}
	a.pairs[p] = f
	if !hasValue {
		return nil
	}
	there, err := a.space.Rule(r.Name, r.ResourceType, map[string]any{name: key}, "")
	if err != nil {
		return err
	}
	a.space.Assume(a.space.Any(f.Not(), there))
	return a.key(r, name, map[string]any{name: key})
}

// same assumes that two rules always answer alike.
func (a *assumptions) same(f, g criteria.Function) {
	if f != g {
		a.space.Assume(a.space.If(f, g, g.Not()))
	}
}
