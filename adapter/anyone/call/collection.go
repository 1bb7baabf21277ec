package call

import (
	"errors"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stagedoor/stagedoor/adapter/anyone/theory"
)

// Joined is a collection whose equal members are one, as a term.
func (f *Functions) Joined(c *theory.Collection) (*ast.Term, error) {
	if c.Shape != theory.List {
		var members []theory.Member
		at := make(map[string]int)
		for _, m := range c.Members {
			if hasOddNumber(theory.KeyOf(c.Shape, m)) {
				return nil, errors.New("a number is written here in a way in which it need not be")
			}
			var parts strings.Builder
			for _, part := range m.Parts() {
				parts.WriteString(f.TextOf(part) + "\n")
			}
			key := parts.String()
			if i, ok := at[key]; ok && len(m.Over) == 0 && len(members[i].Over) == 0 {
				members[i].Where = f.Space.Any(members[i].Where, m.Where)
				continue
			}
			at[key] = len(members)
			members = append(members, m)
		}
		c.Members = members
	}
	if c.Shape == theory.Object {
		if err := f.DistinctKeys(c); err != nil {
			return nil, err
		}
	}
	return f.CollectionTerm(c)
}

// DistinctKeys refuses an object of which a key can have two values.
func (f *Functions) DistinctKeys(c *theory.Collection) error {
	if slices.ContainsFunc(c.Members, func(m theory.Member) bool { return f.Symbolic(m.Key) || len(m.Over) > 0 }) {
		for i := range c.Members {
			for j := range c.Members[:i+1] {
				a, b := c.Members[i], f.Fresh(c.Members[j])
				if i == j && len(a.Over) == 0 {
					continue
				}
				if err := f.distinct(a, b); err != nil {
					return err
				}
			}
		}
		return nil
	}
	by := make(map[string][]theory.Member)
	for _, m := range c.Members {
		key := m.Key.String()
		for _, other := range by[key] {
			if err := f.distinct(m, other); err != nil {
				return err
			}
		}
		by[key] = append(by[key], m)
	}
	return nil
}

func (f *Functions) distinct(a, b theory.Member) error {
	same, err := f.Equal(a.Key, b.Key)
	if err != nil {
		return err
	}
	alike, err := f.Equal(a.Value, b.Value)
	if err != nil {
		return err
	}
	where, err := f.Some(slices.Concat(a.Over, b.Over), f.Space.All(a.Where, b.Where, same, alike.Not()))
	if err != nil {
		return err
	}
	if f.Possible(where) {
		return errors.New("a key of an object can have two values")
	}
	return nil
}
