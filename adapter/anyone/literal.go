package anyone

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/types"

	"github.com/stagedoor/stagedoor/adapter/criteria"
	"github.com/stagedoor/stagedoor/adapter/explore"
)

// An atom is a question about the caller, the resource or both, with yes or no for an
// answer. It is a variable of the Space.
type atom struct {
	kind atomKind
	a, b *ast.Term // isEqual, isMember, isDefined (a)
	// isRule: what is asked about the resource; rule is nil where no module declares it.
	rule        *explore.PermissionRule
	name, about string
	params      *ast.Term
	exists      []int // isSome: elements that there are
	such        []literal
	free        []int
	key         string
}

type atomKind uint8

const (
	isEqual   atomKind = iota
	isMember           // a is in b
	isDefined          // there is a value
	isRule
	isSome // there are elements for which all literals hold
)

// literal is an atom or its negation.
type literal struct {
	atom    *atom
	negated bool
}

// The rules that say what a caller is.
const (
	// CallerType is what stands for a resource type where a rule is about the caller.
	CallerType = "caller"
	// both is that of questions about caller and resource.
	both = "caller and resource"
	// HasClaim is that one of the claims is among those of the caller.
	HasClaim = "HAS_CLAIM"
	// IsUser is that the caller is one of the users.
	IsUser = "IS_USER"
	// Is is anything else that a policy finds out about a caller, in Rego.
	Is = "IS"
)

// variable is the function that an atom is.
func (t *theory) variable(a *atom) criteria.Function {
	if f, ok := t.byKey[a.key]; ok {
		return f
	}
	f, err := t.name(a)
	if err != nil { // Params of texts alone are JSON.
		panic(err)
	}
	t.byKey[a.key], t.atoms[f] = f, a
	if a.kind == isEqual && len(a.free) == 0 && t.symbolOf(a.a) == t.user {
		t.oneUser(f)
	}
	return f
}

// maxUsers is how many users are told to exclude each other.
const maxUsers = 64

// oneUser assumes that nobody is two users.
func (t *theory) oneUser(f criteria.Function) {
	if len(t.users) < maxUsers {
		for _, other := range t.users {
			t.space.Assume(t.space.All(f, other).Not())
		}
	}
	t.users = append(t.users, f)
}

// name makes the variable of an atom, named so that people can read it.
func (t *theory) name(a *atom) (criteria.Function, error) {
	switch {
	case len(a.free) > 0:
	case a.kind == isEqual && t.symbolOf(a.a) == t.user && isPlainText(t, a.b):
		return t.space.Rule(IsUser, CallerType, map[string]any{"users": []any{textIn(a.b)}}, "users")
	case a.kind == isMember && t.symbolOf(a.b) == t.claims && isPlainText(t, a.a):
		return t.space.Rule(HasClaim, CallerType, map[string]any{"claims": []any{textIn(a.a)}}, "claims")
	case a.kind == isRule:
		return t.ruleVariable(a, a.params)
	case a.kind == isEqual && t.lowered(a.a) == t.user && isPlainText(t, a.b):
		return t.space.Rule(IsUser, CallerType, map[string]any{"users": []any{textIn(a.b)}, "case": anyCase}, "users")
	case a.kind == isSome && len(a.such) == 1 && !a.such[0].negated && a.such[0].atom.kind == isEqual &&
		t.ofClaims(a.exists) && t.isElement(t.lowered(a.such[0].atom.a), a.exists[0]) && isPlainText(t, a.such[0].atom.b):
		of := []any{textIn(a.such[0].atom.b)}
		return t.space.Rule(HasClaim, CallerType, map[string]any{"claims": of, "case": anyCase}, "claims")
	case a.kind == isSome && len(a.such) == 1 && !a.such[0].negated && a.such[0].atom.kind == isRule &&
		t.ofClaims(a.exists) && a.such[0].atom.rule != nil && a.such[0].atom.rule.AnyOf != "":
		return t.ruleVariable(a.such[0].atom, a.such[0].atom.params)
	}
	about := CallerType
	if t.asksResource(a) {
		about = both
	}
	return t.space.Rule(Is, about, map[string]any{"rego": a.key}, "")
}

// anyCase is that a claim or user is compared in lower case.
const anyCase = "any"

// lowered is what a term is the lower case of, or nil.
func (t *theory) lowered(term *ast.Term) *symbol {
	s := t.symbolOf(term)
	if s == nil || s.kind != isCall || s.name != ast.Lower.Name {
		return nil
	}
	return t.symbolOf(s.args[0])
}

func (t *theory) isElement(s *symbol, n int) bool {
	return s != nil && s.kind == isElement && s.number == n
}

func (t *theory) asksResource(a *atom) bool {
	if a.kind == isRule {
		return true
	}
	if slices.ContainsFunc(a.such, func(l literal) bool { return t.asksResource(l.atom) }) {
		return true
	}
	found := false
	for _, term := range []*ast.Term{a.a, a.b} {
		if term == nil {
			continue
		}
		t.eachSymbol(term, func(s *symbol) { found = found || t.symbolAsks(s) })
	}
	return found
}

func (t *theory) symbolAsks(s *symbol) bool {
	found := false
	for _, arg := range s.args {
		t.eachSymbol(arg, func(s *symbol) { found = found || t.symbolAsks(s) })
	}
	if s.of != nil {
		for _, m := range s.of.members {
			for _, v := range t.space.Variables(m.where) {
				if a := t.atoms[v]; a != nil {
					found = found || t.asksResource(a)
				}
			}
		}
	}
	return found
}

// ofClaims is whether there is one element, and it is a claim.
func (t *theory) ofClaims(elements []int) bool {
	return len(elements) == 1 && t.symbolOf(t.byText[elementText(elements[0])].args[0]) == t.claims
}

func isPlainText(t *theory, term *ast.Term) bool {
	_, ok := term.Value.(ast.String)
	return ok && t.symbolOf(term) == nil
}

func textIn(term *ast.Term) string {
	s, _ := term.Value.(ast.String)
	return string(s)
}

// ruleVariable is the variable of a rule about the resource, whose params may have
// symbols in them: they stand there as people write them.
func (t *theory) ruleVariable(a *atom, params *ast.Term) (criteria.Function, error) {
	object := map[string]any{}
	if o, ok := params.Value.(ast.Object); ok {
		o.Foreach(func(key, value *ast.Term) { object[textIn(key)] = t.shown(value) })
	}
	anyOf := ""
	if a.rule != nil {
		anyOf = a.rule.AnyOf
	}
	return t.space.Rule(a.name, a.about, object, anyOf)
}

// shown is a value as JSON, with symbols as people write them.
func (t *theory) shown(term *ast.Term) any {
	if s := t.symbolOf(term); s != nil {
		if s == t.claims {
			return "all of " + s.text
		}
		return t.shownText(s.text)
	}
	switch v := term.Value.(type) {
	case *ast.Array:
		list := make([]any, v.Len())
		for i := range list {
			list[i] = t.shown(v.Elem(i))
		}
		return list
	case ast.Object:
		object := make(map[string]any)
		v.Foreach(func(key, value *ast.Term) { object[textIn(key)] = t.shown(value) })
		return object
	}
	value, err := ast.JSON(term.Value)
	if err != nil {
		return term.String()
	}
	return value
}

// shownText is a text in which an element is written as what it is of.
func (t *theory) shownText(text string) string {
	for i := t.numbers; i > 0 && strings.Contains(text, "\x01"); i-- {
		if s := t.byText[elementText(i)]; s != nil {
			text = replaceSymbol(text, s.text, t.textOf(s.args[0]))
		}
	}
	return text
}

// equal is where two values are equal.
func (t *theory) equal(a, b *ast.Term) (criteria.Function, error) {
	if !t.symbolic(a) && !t.symbolic(b) {
		return known(a.Equal(b)), nil
	}
	x, y := t.symbolOf(a), t.symbolOf(b)
	switch {
	case x != nil && x == y:
		return criteria.Granted, nil
	case x == nil && y == nil:
		return t.equalParts(a, b)
	case x == nil || y != nil && x.kind > y.kind || y != nil && x.kind == y.kind && x.text > y.text:
		return t.equal(b, a)
	}
	if x.kind == isPosition || y != nil && y.kind == isPosition {
		return criteria.Denied, errors.New("this looks at the place of a claim in the list")
	}
	if x.kind == isResource {
		if b.Value.Compare(ast.NullTerm().Value) == 0 {
			return criteria.Denied, nil
		}
		return criteria.Denied, errors.New("this compares the resource")
	}
	for _, s := range []*symbol{x, y} {
		if s != nil && s.of != nil {
			other := b
			if s == y {
				other = a
			}
			return t.equalCollection(s.of, other)
		}
	}
	if y == nil && !fits(x.is, b) || y != nil && types.Compare(x.is, types.B) == 0 && y.isText() {
		return criteria.Denied, nil
	}
	if y == nil && x.kind == isCall && (x.name == ast.Lower.Name && strings.ToLower(textIn(b)) != textIn(b) ||
		x.name == ast.Upper.Name && strings.ToUpper(textIn(b)) != textIn(b)) {
		return criteria.Denied, nil
	}
	if no, ok := b.Value.(ast.Boolean); ok && !bool(no) && types.Compare(x.is, types.B) == 0 {
		return t.equalAtom(a, ast.BooleanTerm(true)).Not(), nil
	}
	return t.equalAtom(a, b), nil
}

func (t *theory) equalAtom(a, b *ast.Term) criteria.Function {
	key := t.textOf(a) + " == " + t.textOf(b)
	if ast.Boolean(true).Equal(b.Value) {
		key = t.textOf(a)
	}
	return t.variable(&atom{kind: isEqual, a: a, b: b, free: t.freeOf(a, b), key: key})
}

func known(holds bool) criteria.Function {
	if holds {
		return criteria.Granted
	}
	return criteria.Denied
}

// fits is whether a plain value can be of a type.
func fits(is types.Type, term *ast.Term) bool {
	switch is.(type) {
	case types.String:
		_, ok := term.Value.(ast.String)
		return ok
	case types.Number:
		_, ok := term.Value.(ast.Number)
		return ok
	case types.Boolean:
		_, ok := term.Value.(ast.Boolean)
		return ok
	case *types.Array:
		_, ok := term.Value.(*ast.Array)
		return ok
	case *types.Set:
		_, ok := term.Value.(ast.Set)
		return ok
	case *types.Object:
		_, ok := term.Value.(ast.Object)
		return ok
	}
	return true
}

// equalParts is where values with symbols in them are equal.
func (t *theory) equalParts(a, b *ast.Term) (criteria.Function, error) {
	all := criteria.Granted
	switch v := a.Value.(type) {
	case *ast.Array:
		w, ok := b.Value.(*ast.Array)
		if !ok || v.Len() != w.Len() {
			return criteria.Denied, nil
		}
		for i := range v.Len() {
			is, err := t.equal(v.Elem(i), w.Elem(i))
			if err != nil {
				return criteria.Denied, err
			}
			all = t.space.All(all, is)
		}
		return all, nil
	case ast.Object:
		w, ok := b.Value.(ast.Object)
		if !ok || v.Len() != w.Len() {
			return criteria.Denied, nil
		}
		err := v.Iter(func(key, value *ast.Term) error {
			other := w.Get(key)
			if other == nil {
				all = criteria.Denied
				return nil
			}
			is, err := t.equal(value, other)
			all = t.space.All(all, is)
			return err
		})
		return all, err
	case ast.Set:
		if _, ok := b.Value.(ast.Set); ok {
			return criteria.Denied, errors.New("this compares sets with sets in them")
		}
	}
	return criteria.Denied, nil
}

// equalCollection is where a collection is another value.
func (t *theory) equalCollection(c *collection, other *ast.Term) (criteria.Function, error) {
	if s := t.symbolOf(other); s != nil && s.of == nil {
		if !s.isText() {
			return criteria.Denied, errors.New("this compares a collection of claims with something that is made of them")
		}
		return criteria.Denied, nil
	}
	with := c.shape
	members, ok := t.membersOf(other, &with)
	if !ok || with != c.shape {
		return criteria.Denied, nil
	}
	if len(members) == 0 {
		some, err := t.anyMember(c.members)
		return some.Not(), err
	}
	if c.shape != isSet {
		return criteria.Denied, errors.New("this compares a list or object that depends on the caller")
	}
	there, err := t.within(c.members, members)
	if err != nil {
		return criteria.Denied, err
	}
	back, err := t.within(members, c.members)
	return t.space.All(there, back), err
}

// within is where every member of a set is one of another.
func (t *theory) within(members, of []member) (criteria.Function, error) {
	all := criteria.Granted
	for _, m := range members {
		is, err := t.memberOf(m.value, of)
		if err != nil {
			return criteria.Denied, err
		}
		missing, err := t.some(m.over, t.space.All(m.where, is.Not()))
		if err != nil {
			return criteria.Denied, err
		}
		all = t.space.All(all, missing.Not())
	}
	return all, nil
}

// anyMember is where there is a member.
func (t *theory) anyMember(members []member) (criteria.Function, error) {
	there := criteria.Denied
	for _, m := range members {
		is, err := t.some(m.over, m.where)
		if err != nil {
			return criteria.Denied, err
		}
		there = t.space.Any(there, is)
	}
	return there, nil
}

// memberOf is where a value is one of the members of a set or list.
func (t *theory) memberOf(value *ast.Term, members []member) (criteria.Function, error) {
	each := make([]criteria.Function, 0, len(members))
	for _, m := range members {
		m = t.fresh(m)
		is, err := t.equal(value, m.value)
		if err != nil {
			return criteria.Denied, err
		}
		if is = t.space.All(is, m.where); is == criteria.Denied {
			continue
		}
		if is, err = t.some(m.over, is); err != nil {
			return criteria.Denied, err
		}
		each = append(each, is)
	}
	return t.space.Any(each...), nil
}

// membersOf are the members of a value, and of which shape it is.
func (t *theory) membersOf(term *ast.Term, s *shape) ([]member, bool) {
	if of := t.symbolOf(term); of != nil {
		switch {
		case of.of != nil:
			*s = of.of.shape
			return of.of.members, true
		case of.kind == isClaims:
			*s = isList
			e := t.element(term)
			return []member{{value: e.token, where: criteria.Granted, over: e.free}}, true
		}
		return nil, false
	}
	var members []member
	switch v := term.Value.(type) {
	case *ast.Array:
		*s = isList
		v.Foreach(func(e *ast.Term) { members = append(members, member{value: e, where: criteria.Granted}) })
	case ast.Set:
		*s = isSet
		v.Foreach(func(e *ast.Term) { members = append(members, member{value: e, where: criteria.Granted}) })
	case ast.Object:
		*s = isObject
		v.Foreach(func(key, e *ast.Term) {
			members = append(members, member{key: key, value: e, where: criteria.Granted})
		})
	default:
		return nil, false
	}
	return members, true
}

// fresh is a member with new elements, so that it can be looked at beside itself.
func (t *theory) fresh(m member) member {
	if len(m.over) == 0 {
		return m
	}
	by := make(map[int]*ast.Term)
	var over []int
	for _, n := range m.over {
		of := t.replace(t.byText[elementText(n)].args[0], by)
		e := t.element(of)
		by[n] = e.token
		over = append(over, e.number)
	}
	f := member{value: t.replace(m.value, by), where: t.replaceIn(m.where, by), over: over}
	if m.key != nil {
		f.key = t.replace(m.key, by)
	}
	return f
}

// in is where a value is in a list or set, or the value of a member of an object.
func (t *theory) in(value, of *ast.Term) (criteria.Function, error) {
	s := t.symbolOf(of)
	if s != nil && s.kind == isClaims {
		if !t.symbolic(value) && !fits(types.S, value) {
			return criteria.Denied, nil
		}
		if v := t.symbolOf(value); v != nil && v.kind == isElement && t.symbolOf(v.args[0]) == s {
			return criteria.Granted, nil
		} else if v != nil && !v.isText() && v.of != nil || v == nil && t.symbolic(value) {
			return criteria.Denied, nil
		}
		key := t.textOf(value) + " in " + s.text
		return t.variable(&atom{kind: isMember, a: value, b: of, free: t.freeOf(value), key: key}), nil
	}
	var with shape
	if members, ok := t.membersOf(of, &with); ok {
		return t.memberOf(value, members)
	}
	switch {
	case s == nil || s.isText():
		return criteria.Denied, nil
	case s.kind == isResource:
		return criteria.Denied, errors.New("this looks into the resource")
	}
	key := t.textOf(value) + " in " + s.text
	return t.variable(&atom{kind: isMember, a: value, b: of, free: t.freeOf(value, of), key: key}), nil
}

// defined is where a value that is looked up is there.
func (t *theory) defined(term *ast.Term) criteria.Function {
	return t.variable(&atom{kind: isDefined, a: term, free: t.freeOf(term), key: "defined " + t.textOf(term)})
}

// open are the elements that a function is about.
func (t *theory) open(f criteria.Function) []int {
	var open []int
	if f == criteria.Denied || f == criteria.Granted {
		return nil
	}
	for _, v := range t.space.Variables(f) {
		if a := t.atoms[v]; a != nil {
			open = append(open, a.free...)
		}
	}
	slices.Sort(open)
	return slices.Compact(open)
}

// functionText writes a function, the same for equal ones as far as it is minimised.
func (t *theory) functionText(f criteria.Function) (string, error) {
	c, err := t.space.Minimise(f)
	if err != nil {
		return "", err
	}
	return strings.ReplaceAll(string(c.AppendJSON(nil)), `\u0001`, "\x01"), nil
}

// errTooMany says that a condition has too many cases.
var errTooMany = errors.New("this has too many cases")

// maxCases is how many cases of a condition about an element are looked at.
const maxCases = 50_000

// some is where there are elements for which a function holds. It writes the function
// as a disjunction of conjunctions of what is said of the elements; for each of these
// there is a question of its own.
func (t *theory) some(elements []int, f criteria.Function) (criteria.Function, error) {
	q := existence{theory: t}
	return q.some(elements, nil, f)
}

type existence struct {
	*theory
	cases int
}

func (q *existence) some(elements []int, such []literal, f criteria.Function) (criteria.Function, error) {
	if f == criteria.Denied || len(elements) == 0 && len(such) == 0 {
		return f, nil
	}
	if q.cases++; q.cases > maxCases {
		return criteria.Denied, errTooMany
	}
	v, a := q.choose(f, elements)
	if a == nil {
		return q.space.All(f, q.there(elements, such)), nil
	}
	yes, no := q.space.Given(f, v, true), q.space.Given(f, v, false)
	either := q.space.All(yes, no)
	some, err := q.some(elements, such, either)
	if err != nil {
		return criteria.Denied, err
	}
	if yes != either {
		is, err := q.suppose(elements, such, yes, literal{a, false})
		if err != nil {
			return criteria.Denied, err
		}
		some = q.space.Any(some, is)
	}
	if no != either {
		is, err := q.suppose(elements, such, no, literal{a, true})
		if err != nil {
			return criteria.Denied, err
		}
		some = q.space.Any(some, is)
	}
	return some, nil
}

// suppose goes on with a literal. Where it says what an element is, the element is
// replaced by that.
func (q *existence) suppose(
	elements []int, such []literal, f criteria.Function, l literal,
) (criteria.Function, error) {
	if n, by := q.solved(l, elements); by != nil {
		with := map[int]*ast.Term{n: by}
		e := q.byText[elementText(n)]
		f = q.replaceIn(f, with)
		rest := slices.DeleteFunc(slices.Clone(elements), func(m int) bool { return m == n })
		for _, other := range such {
			g := q.byKey[other.atom.key]
			if other.negated {
				g = g.Not()
			}
			f = q.space.All(f, q.replaceIn(g, with))
		}
		in, err := q.in(by, q.replace(e.args[0], with))
		if err != nil {
			return criteria.Denied, err
		}
		return q.some(rest, nil, q.space.All(f, in))
	}
	return q.some(elements, append(slices.Clone(such), l), f)
}

// solved is the element that an equality says all of, and what it is.
func (q *existence) solved(l literal, elements []int) (int, *ast.Term) {
	if l.negated || l.atom.kind != isEqual {
		return 0, nil
	}
	for _, pair := range [][2]*ast.Term{{l.atom.a, l.atom.b}, {l.atom.b, l.atom.a}} {
		s := q.symbolOf(pair[0])
		if s != nil && s.kind == isElement && slices.Contains(elements, s.number) &&
			!slices.Contains(q.freeOf(pair[1]), s.number) && !q.dependsOn(pair[1], s.number, elements) {
			return s.number, pair[1]
		}
	}
	return 0, nil
}

// dependsOn is whether other elements that a term is about are of what an element is.
func (q *existence) dependsOn(term *ast.Term, n int, elements []int) bool {
	for _, m := range q.freeOf(term) {
		if slices.Contains(elements, m) && slices.Contains(q.freeOf(q.byText[elementText(m)].args[0]), n) {
			return true
		}
	}
	return false
}

// choose is a variable that is about one of the elements, an equality first.
func (q *existence) choose(f criteria.Function, elements []int) (criteria.Function, *atom) {
	if f == criteria.Granted {
		return 0, nil
	}
	var chosen criteria.Function
	var best *atom
	for _, v := range q.space.Variables(f) {
		a := q.atoms[v]
		if a == nil || !slices.ContainsFunc(a.free, func(n int) bool { return slices.Contains(elements, n) }) {
			continue
		}
		if n, _ := q.solved(literal{a, false}, elements); n != 0 {
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
func (q *existence) there(elements []int, such []literal) criteria.Function {
	all := criteria.Granted
	for len(elements) > 0 {
		group := []int{elements[0]}
		var about []literal
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
				add(l.atom.free)
			}
			for _, n := range elements {
				add(append(q.freeOf(q.byText[elementText(n)].args[0]), n))
			}
		}
		for _, l := range such {
			if slices.ContainsFunc(l.atom.free, func(n int) bool { return slices.Contains(group, n) }) {
				about = append(about, l)
			}
		}
		elements = slices.DeleteFunc(slices.Clone(elements), func(n int) bool { return slices.Contains(group, n) })
		slices.Sort(group)
		all = q.space.All(all, q.someAtom(group, about))
	}
	return all
}

func (t *theory) someAtom(elements []int, such []literal) criteria.Function {
	texts := make([]string, len(such))
	var free []int
	for i, l := range such {
		texts[i] = l.atom.key
		if l.negated {
			texts[i] = "not (" + l.atom.key + ")"
		}
		free = append(free, l.atom.free...)
	}
	for _, n := range elements {
		free = append(free, t.freeOf(t.byText[elementText(n)].args[0])...)
	}
	slices.Sort(free)
	free = slices.DeleteFunc(slices.Compact(free), func(n int) bool { return slices.Contains(elements, n) })
	if len(elements) == 1 { // the number then says nothing of the order
		slices.Sort(texts)
	}
	key := "some " + t.renumbered(strings.Join(texts, "; "), elements)
	return t.variable(&atom{kind: isSome, exists: elements, such: such, free: free, key: key})
}

// replace is a term in which elements are what they are said to be.
func (t *theory) replace(term *ast.Term, by map[int]*ast.Term) *ast.Term {
	if s := t.symbolOf(term); s != nil {
		return t.replaceSymbol(s, by)
	}
	if !t.symbolic(term) {
		return term
	}
	switch v := term.Value.(type) {
	case *ast.Array:
		terms := make([]*ast.Term, v.Len())
		for i := range terms {
			terms[i] = t.replace(v.Elem(i), by)
		}
		return ast.ArrayTerm(terms...)
	case ast.Object:
		object := ast.NewObject()
		v.Foreach(func(key, value *ast.Term) { object.Insert(key, t.replace(value, by)) })
		return ast.NewTerm(object)
	}
	return term
}

func (t *theory) replaceSymbol(s *symbol, by map[int]*ast.Term) *ast.Term {
	if !slices.ContainsFunc(s.free, func(n int) bool { return by[n] != nil }) {
		return s.token
	}
	args := make([]*ast.Term, len(s.args))
	for i, arg := range s.args {
		args[i] = t.replace(arg, by)
	}
	switch s.kind {
	case isElement:
		if is := by[s.number]; is != nil {
			return is
		}
		return s.token
	case isCall:
		if value, ok := t.evaluated(s.name, args); ok {
			return value
		}
		return t.call(s.name, args).token
	case isIndex:
		return t.indexed(args[0], args[1])
	case isCollection:
		c := &collection{shape: s.of.shape}
		for _, m := range s.of.members {
			m.where = t.replaceIn(m.where, by)
			m.value = t.replace(m.value, by)
			if m.key != nil {
				m.key = t.replace(m.key, by)
			}
			c.members = append(c.members, m)
		}
		if term, err := t.collectionTerm(c); err == nil {
			return term
		}
	}
	return s.token
}

// nowhere stands for a value that is not there.
var nowhere = ast.VarTerm("stagedoor undefined")

// indexed is what stands at a key of a value.
func (t *theory) indexed(base, key *ast.Term) *ast.Term {
	if t.symbolOf(base) != nil || t.symbolic(key) {
		return t.index(base, key).token
	}
	value, err := base.Value.Find(ast.Ref{key})
	if err != nil {
		return nowhere
	}
	return ast.NewTerm(value)
}

// evaluated is what a builtin makes of operands that depend on nobody.
func (t *theory) evaluated(name string, args []*ast.Term) (*ast.Term, bool) {
	for _, arg := range args {
		if arg == nowhere || t.symbolic(arg) {
			return nil, false
		}
	}
	value, err := evaluate(name, args)
	if err != nil || value == nil {
		return nowhere, true
	}
	return value, true
}

// replaceIn is a function in which elements are what they are said to be.
func (t *theory) replaceIn(f criteria.Function, by map[int]*ast.Term) criteria.Function {
	if f == criteria.Denied || f == criteria.Granted {
		return f
	}
	for _, v := range t.space.Variables(f) {
		a := t.atoms[v]
		if a == nil || !slices.ContainsFunc(a.free, func(n int) bool { return by[n] != nil }) {
			continue
		}
		f = t.space.If(t.replaceAtom(a, by), t.space.Given(f, v, true), t.space.Given(f, v, false))
	}
	return f
}

func (t *theory) replaceAtom(a *atom, by map[int]*ast.Term) criteria.Function {
	var is criteria.Function
	var err error
	switch a.kind {
	case isEqual, isMember:
		x, y := t.replace(a.a, by), t.replace(a.b, by)
		switch {
		case x == nowhere || y == nowhere:
			return criteria.Denied
		case a.kind == isEqual:
			is, err = t.equal(x, y)
		default:
			is, err = t.in(x, y)
		}
	case isDefined:
		x := t.replace(a.a, by)
		if s := t.symbolOf(x); s == nil {
			return known(x != nowhere)
		}
		return t.defined(x)
	case isRule:
		params := t.replace(a.params, by)
		if !t.symbolic(params) && a.rule != nil {
			is, err = t.plainRule(a, params)
		} else {
			is = t.ruleAtom(a, params)
		}
	case isSome:
		f := criteria.Granted
		for _, l := range a.such {
			g := t.replaceAtom(l.atom, by)
			if l.negated {
				g = g.Not()
			}
			f = t.space.All(f, g)
		}
		// What the elements are of can be about those that are replaced.
		with := by
		var elements []int
		for _, n := range a.exists {
			e := t.byText[elementText(n)]
			if of := t.replace(e.args[0], with); of != e.args[0] {
				other := t.element(of)
				f = t.replaceIn(f, map[int]*ast.Term{n: other.token})
				n = other.number
			}
			elements = append(elements, n)
		}
		is, err = t.some(elements, f)
	}
	if err != nil { // It could be said of the element, so it can be of what it is.
		t.failed = errors.Join(t.failed, fmt.Errorf("%s: %w", a.key, err))
	}
	return is
}

func (t *theory) ruleAtom(a *atom, params *ast.Term) criteria.Function {
	b := *a
	b.params, b.free = params, t.freeOf(params)
	b.key = a.name + " " + a.about + " " + t.textOf(params)
	return t.variable(&b)
}

// plainRule is a rule whose params depend on nobody.
func (t *theory) plainRule(a *atom, params *ast.Term) (criteria.Function, error) {
	value, err := ast.JSON(params.Value)
	if err != nil {
		return criteria.Denied, err
	}
	object, ok := value.(map[string]any)
	if !ok {
		return criteria.Denied, fmt.Errorf("%s takes an object of params, not %v", a.name, params)
	}
	anyOf := ""
	if a.rule != nil {
		anyOf = a.rule.AnyOf
		if err := a.rule.CheckParams(object); err != nil {
			return criteria.Denied, fmt.Errorf("%s: %w", a.name, err)
		}
	}
	text, err := json.Marshal(object)
	if err != nil {
		return criteria.Denied, err
	}
	for _, symbol := range []string{userText, claimsText, actorText} {
		if strings.Contains(string(text), symbol) {
			return criteria.Denied, fmt.Errorf("the params of %s have the text %s in them", a.name, symbol)
		}
	}
	f, err := t.space.Rule(a.name, a.about, object, anyOf)
	if err != nil || f == criteria.Denied {
		return f, err
	}
	if t.atoms[f] == nil {
		b := *a
		b.params, b.free = params, nil
		b.key = a.name + " " + a.about + " " + t.textOf(params)
		t.atoms[f], t.byKey[b.key] = &b, f
	}
	return f, nil
}
