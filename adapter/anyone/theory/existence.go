package theory

import (
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stagedoor/stagedoor/adapter/criteria"
)

// errTooMany says that a condition has too many cases.
var errTooMany = errors.New("this has too many cases")

// maxCases is how many cases of a condition about an element are looked at, of small ones.
const maxCases, small, maxNodes = 50_000, 1_000, 1 << 19

// Some is where there are elements for which a function holds. It writes the function
// as a disjunction of conjunctions of what is said of the elements; for each of these
// there is a question of its own.
func (t *Theory) Some(elements []int, f criteria.Function) (criteria.Function, error) {
	q := existence{Theory: t}
	return q.some(elements, nil, f)
}

type existence struct {
	*Theory
	cases int
}

func (q *existence) some(elements []int, such []Literal, f criteria.Function) (criteria.Function, error) {
	if f == criteria.Denied || len(elements) == 0 && len(such) == 0 {
		return f, nil
	}
	if q.cases += 1 + q.Space.Size()/small; q.cases > maxCases || q.Space.Size() > maxNodes {
		return criteria.Denied, errTooMany
	}
	for _, n := range elements {
		if !q.Symbolic(q.Domain(n)) {
			return q.enumerated(elements, such, f, n)
		}
	}
	v, a := q.choose(f, elements)
	if a == nil {
		return q.Space.All(f, q.there(elements, such)), nil
	}
	yes, no := q.Space.Given(f, v, true), q.Space.Given(f, v, false)
	either := q.Space.All(yes, no)
	some, err := q.some(elements, such, either)
	if err != nil {
		return criteria.Denied, err
	}
	if yes != either {
		is, err := q.suppose(elements, such, yes, Literal{a, false})
		if err != nil {
			return criteria.Denied, err
		}
		some = q.Space.Any(some, is)
	}
	if no != either {
		is, err := q.suppose(elements, such, no, Literal{a, true})
		if err != nil {
			return criteria.Denied, err
		}
		some = q.Space.Any(some, is)
	}
	return some, nil
}

// suppose goes on with a literal. Where it says what an element is, the element is
// replaced by that.
func (q *existence) suppose(
	elements []int, such []Literal, f criteria.Function, l Literal,
) (criteria.Function, error) {
	if n, by := q.solved(l, elements); by != nil {
		in, err := q.In(by, q.Domain(n))
		if err != nil {
			return criteria.Denied, err
		}
		return q.known(elements, such, q.Space.All(f, in), n, by)
	}
	return q.some(elements, append(slices.Clone(such), l), f)
}

// known is where there are elements of which one is known. What others are of can depend on
// it: these are others then.
func (q *existence) known(
	elements []int, such []Literal, f criteria.Function, n int, by *ast.Term,
) (criteria.Function, error) {
	rest := slices.DeleteFunc(slices.Clone(elements), func(m int) bool { return m == n })
	with := q.moved(rest, map[int]*ast.Term{n: by})
	return q.some(rest, nil, q.Space.All(q.replaceIn(f, with), q.replaceAll(such, with)))
}

// moved puts other elements in the place of those that are of something else once some
// are replaced. It returns what all of these are replaced by.
func (t *Theory) moved(elements []int, by map[int]*ast.Term) map[int]*ast.Term {
	with := maps.Clone(by)
	for i, n := range elements { // What an element is of is about elements before it.
		if domain := t.Domain(n); slices.ContainsFunc(t.FreeOf(domain), func(m int) bool { return with[m] != nil }) {
			other := t.Element(t.Replace(domain, with))
			with[n], elements[i] = other.Token, other.Number
		}
	}
	return with
}

// enumerated is where there are elements of which one is of a list or set that is known.
func (q *existence) enumerated(
	elements []int, such []Literal, f criteria.Function, n int,
) (criteria.Function, error) {
	var of Shape
	members, _ := q.MembersOf(q.Domain(n), &of)
	found := criteria.Denied
	for _, m := range members {
		is, err := q.known(elements, such, f, n, m.Value)
		if err != nil {
			return criteria.Denied, err
		}
		found = q.Space.Any(found, is)
	}
	return found, nil
}

// solved is the element that an equality says all of, and what it is.
func (q *existence) solved(l Literal, elements []int) (int, *ast.Term) {
	if l.Negated || l.Atom.Kind != AsksEqual {
		return 0, nil
	}
	for _, pair := range [][2]*ast.Term{{l.Atom.A, l.Atom.B}, {l.Atom.B, l.Atom.A}} {
		s := q.SymbolOf(pair[0])
		if s != nil && s.Kind == KindElement && slices.Contains(elements, s.Number) &&
			!slices.Contains(q.FreeOf(pair[1]), s.Number) && !q.dependsOn(pair[1], s.Number, elements) {
			return s.Number, pair[1]
		}
	}
	return 0, nil
}

// dependsOn is whether other elements that a term is about are of what an element is.
func (q *existence) dependsOn(term *ast.Term, n int, elements []int) bool {
	return slices.ContainsFunc(q.FreeOf(term), func(m int) bool {
		return slices.Contains(elements, m) && q.isLedTo(m, n)
	})
}

// isLedTo is whether what an element is of is about another, or about one that is.
func (t *Theory) isLedTo(n, from int) bool {
	return slices.ContainsFunc(t.FreeOf(t.Domain(n)), func(m int) bool { return m == from || t.isLedTo(m, from) })
}

// choose is a variable that is about one of the elements, an equality first.
func (q *existence) choose(f criteria.Function, elements []int) (criteria.Function, *Atom) {
	if f == criteria.Granted {
		return 0, nil
	}
	var chosen criteria.Function
	var best *Atom
	for _, v := range q.Space.Variables(f) {
		a := q.Atoms[v]
		if a == nil || !slices.ContainsFunc(a.free, func(n int) bool { return slices.Contains(elements, n) }) {
			continue
		}
		if n, _ := q.solved(Literal{a, false}, elements); n != 0 {
			return v, a
		}
		if best == nil {
			chosen, best = v, a
		}
	}
	return chosen, best
}

// there is where there are elements for which literals hold. What shares no element is
// a question of its own.
func (q *existence) there(elements []int, such []Literal) criteria.Function {
	all := criteria.Granted
	for len(elements) > 0 {
		group := []int{elements[0]}
		var about []Literal
		for grown := true; grown; {
			grown = false
			add := func(free []int) {
				if !slices.ContainsFunc(free, func(n int) bool { return slices.Contains(group, n) }) {
					return
				}
				for _, n := range free {
					if slices.Contains(elements, n) && !slices.Contains(group, n) {
						group, grown = append(group, n), true
					}
				}
			}
			for _, l := range such {
				add(l.Atom.free)
			}
			for _, n := range elements {
				add(append(q.FreeOf(q.Domain(n)), n))
			}
		}
		for _, l := range such {
			if slices.ContainsFunc(l.Atom.free, func(n int) bool { return slices.Contains(group, n) }) {
				about = append(about, l)
			}
		}
		elements = slices.DeleteFunc(slices.Clone(elements), func(n int) bool { return slices.Contains(group, n) })
		slices.Sort(group)
		all = q.Space.All(all, q.someAtom(group, about))
	}
	return all
}

func (t *Theory) someAtom(elements []int, such []Literal) criteria.Function {
	texts := make([]string, len(such))
	var free []int
	for i, l := range such {
		texts[i] = l.Atom.Key
		if l.Negated {
			texts[i] = "not (" + l.Atom.Key + ")"
		}
		free = append(free, l.Atom.free...)
	}
	for _, n := range elements {
		free = append(free, t.FreeOf(t.Domain(n))...)
	}
	slices.Sort(free)
	free = slices.DeleteFunc(slices.Compact(free), func(n int) bool { return slices.Contains(elements, n) })
	if len(elements) == 1 { // the number then says nothing of the order
		slices.Sort(texts)
	}
	key := "some " + t.Renumbered(strings.Join(texts, "; "), elements)
	return t.variable(&Atom{Kind: AsksSome, Exists: elements, Such: such, free: free, Key: key})
}
