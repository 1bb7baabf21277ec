package anyone

import (
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stagedoor/stagedoor/adapter/anyone/theory"
	"github.com/stagedoor/stagedoor/adapter/criteria"
)

// partOf is that a text has a part: it starts with it, ends with it, or contains it.
type partOf struct {
	builtin, text, part string
}

// partIn is what an atom says of a part of a text.
func partIn(t *theory.Theory, a *theory.Atom) (partOf, bool) {
	if a.Kind != theory.AsksEqual || !ast.Boolean(true).Equal(a.B.Value) {
		return partOf{}, false
	}
	s := t.SymbolOf(a.A)
	if s == nil || s.Kind != theory.KindCall || len(s.Args) != 2 || !t.IsPlainText(s.Args[1]) {
		return partOf{}, false
	}
	switch s.Name {
	case ast.StartsWith.Name, ast.EndsWith.Name, ast.Contains.Name:
		return partOf{s.Name, t.TextOf(s.Args[0]), theory.TextIn(s.Args[1])}, true
	}
	return partOf{}, false
}

// implies is whether what has one part has another.
func (p partOf) implies(other partOf) bool {
	switch {
	case p.text != other.text:
		return false
	case other.builtin == ast.Contains.Name:
		return strings.Contains(p.part, other.part)
	case p.builtin != other.builtin:
		return false
	case p.builtin == ast.StartsWith.Name:
		return strings.HasPrefix(p.part, other.part)
	}
	return strings.HasSuffix(p.part, other.part)
}

// excludes is whether nothing has both parts.
func (p partOf) excludes(other partOf) bool {
	return p.text == other.text && p.builtin == other.builtin && p.builtin != ast.Contains.Name &&
		!p.implies(other) && !other.implies(p)
}

// assumeParts notes what is true of parts of one text.
func (t *assumptions) assumeParts(about []criteria.Function) {
	type said struct {
		partOf
		v criteria.Function
	}
	var all []said
	for _, v := range about {
		part, ok := partIn(t.Theory, t.Atoms[v])
		if !ok {
			continue
		}
		for _, other := range all {
			switch {
			case part.implies(other.partOf):
				t.assumeOnce(t.Space.All(v, other.v.Not()).Not())
			case other.implies(part):
				t.assumeOnce(t.Space.All(other.v, v.Not()).Not())
			case part.excludes(other.partOf):
				t.assumeOnce(t.Space.All(v, other.v).Not())
			}
		}
		all = append(all, said{part, v})
	}
}

// saysPart is whether one literal implies another by the parts that they are about. Both
// are about one element of their own, and these are taken to be the same.
func (t *assumptions) saysPart(more, less *theory.Atom, by, what theory.Literal) bool {
	if by.Negated != what.Negated {
		return false
	}
	a, ok := partIn(t.Theory, by.Atom)
	b, too := partIn(t.Theory, what.Atom)
	if !ok || !too {
		return false
	}
	a.text, b.text = t.Renumbered(a.text, more.Exists), t.Renumbered(b.text, less.Exists)
	if by.Negated {
		a, b = b, a
	}
	return a.implies(b)
}
