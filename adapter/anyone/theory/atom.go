package theory

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

// An Atom is a question about the caller, the resource or both, with yes or no for an
// answer. It is a variable of the Space.
type Atom struct {
	Kind AtomKind  // what is asked
	A, B *ast.Term // what is equal, a member, or defined (a alone)
	// Rule is what is asked about the resource; nil where no module declares it.
	Rule        *explore.PermissionRule
	Name, About string    // of the rule, and its resource type
	Params      *ast.Term // of the rule
	Exists      []int     // elements that there are
	Such        []Literal // what holds of them
	free        []int     // the elements that it is about
	Key         string    // the same for equal atoms
}

// AtomKind is what an atom asks.
type AtomKind uint8

// What atoms ask.
const (
	AsksEqual   AtomKind = iota // whether two values are equal
	AsksMember                  // whether one is in the other
	AsksDefined                 // whether there is a value
	AsksRule                    // whether a rule about the resource holds
	AsksSome                    // whether there are elements for which all literals hold
)

// A Literal is an atom or its negation.
type Literal struct {
	Atom    *Atom // what is asked
	Negated bool  // the answer is no
}

// The rules that say what a caller is.
const (
	// CallerType is what stands for a resource type where a rule is about the caller.
	CallerType = "caller"
	// CallerAndResource is that of questions about caller and resource.
	CallerAndResource = "caller and resource"
	// HasClaim is that one of the claims is among those of the caller.
	HasClaim = "HAS_CLAIM"
	// IsUser is that the caller is one of the users.
	IsUser = "IS_USER"
	// Is is anything else that a policy finds out about a caller, in Rego.
	Is = "IS"
)

// variable is the function that an atom is.
func (t *Theory) variable(a *Atom) criteria.Function {
	if f, ok := t.byKey[a.Key]; ok {
		return f
	}
	f, err := t.name(a)
	if err != nil { // Params of texts alone are JSON.
		panic(err)
	}
	t.byKey[a.Key], t.Atoms[f] = f, a
	if a.Kind == AsksEqual && len(a.free) == 0 && t.SymbolOf(a.A) == t.User && t.IsPlainText(a.B) {
		t.oneUser(f)
	}
	return f
}

// maxUsers is how many users are told to exclude each other.
const maxUsers = 64

// oneUser assumes that nobody is two users.
func (t *Theory) oneUser(f criteria.Function) {
	if len(t.users) < maxUsers {
		for _, other := range t.users {
			t.Space.Assume(t.Space.All(f, other).Not())
		}
	}
	t.users = append(t.users, f)
}

// name makes the variable of an atom, named so that people can read it.
func (t *Theory) name(a *Atom) (criteria.Function, error) {
	switch {
	case len(a.free) > 0:
	case a.Kind == AsksEqual && t.SymbolOf(a.A) == t.User && t.IsPlainText(a.B):
		return t.Space.Rule(IsUser, CallerType, map[string]any{"users": []any{TextIn(a.B)}}, "users")
	case a.Kind == AsksMember && t.SymbolOf(a.B) == t.Claims && t.IsPlainText(a.A):
		return t.Space.Rule(HasClaim, CallerType, map[string]any{"claims": []any{TextIn(a.A)}}, "claims")
	case a.Kind == AsksRule:
		return t.ruleVariable(a, a.Params)
	case a.Kind == AsksEqual && t.lowered(a.A) == t.User && t.IsPlainText(a.B):
		return t.Space.Rule(IsUser, CallerType, map[string]any{"users": []any{TextIn(a.B)}, "case": anyCase}, "users")
	case a.Kind == AsksSome && len(a.Such) == 1 && !a.Such[0].Negated && a.Such[0].Atom.Kind == AsksEqual &&
		t.OfClaims(a.Exists) && t.isElement(t.lowered(a.Such[0].Atom.A), a.Exists[0]) && t.IsPlainText(a.Such[0].Atom.B):
		of := []any{TextIn(a.Such[0].Atom.B)}
		return t.Space.Rule(HasClaim, CallerType, map[string]any{"claims": of, "case": anyCase}, "claims")
	case a.Kind == AsksSome && len(a.Such) == 1 && !a.Such[0].Negated && a.Such[0].Atom.Kind == AsksRule &&
		t.OfClaims(a.Exists) && a.Such[0].Atom.Rule != nil && a.Such[0].Atom.Rule.AnyOf != "":
		return t.ruleVariable(a.Such[0].Atom, a.Such[0].Atom.Params)
	}
	about := CallerType
	if t.asksResource(a) {
		about = CallerAndResource
	}
	return t.Space.Rule(Is, about, map[string]any{"rego": a.Key}, "")
}

// anyCase is that a claim or user is compared in lower case.
const anyCase = "any"

// lowered is what a term is the lower case of, or nil.
func (t *Theory) lowered(term *ast.Term) *Symbol {
	s := t.SymbolOf(term)
	if s == nil || s.Kind != KindCall || s.Name != ast.Lower.Name {
		return nil
	}
	return t.SymbolOf(s.Args[0])
}

func (t *Theory) isElement(s *Symbol, n int) bool {
	return s != nil && s.Kind == KindElement && s.Number == n
}

func (t *Theory) asksResource(a *Atom) bool {
	if a.Kind == AsksRule {
		return true
	}
	if slices.ContainsFunc(a.Such, func(l Literal) bool { return t.asksResource(l.Atom) }) {
		return true
	}
	found := false
	for _, term := range []*ast.Term{a.A, a.B} {
		if term == nil {
			continue
		}
		t.EachSymbol(term, func(s *Symbol) { found = found || t.symbolAsks(s) })
	}
	return found
}

func (t *Theory) symbolAsks(s *Symbol) bool {
	found := false
	for _, arg := range s.Args {
		t.EachSymbol(arg, func(s *Symbol) { found = found || t.symbolAsks(s) })
	}
	if s.Of != nil {
		for _, m := range s.Of.Members {
			for _, v := range t.Space.Variables(m.Where) {
				if a := t.Atoms[v]; a != nil {
					found = found || t.asksResource(a)
				}
			}
		}
	}
	return found
}

// OfClaims is whether there is one element, and it is a claim.
func (t *Theory) OfClaims(elements []int) bool {
	return len(elements) == 1 && t.SymbolOf(t.byText[elementText(elements[0])].Args[0]) == t.Claims
}

// IsPlainText is whether a term is a text that depends on nobody.
func (t *Theory) IsPlainText(term *ast.Term) bool {
	_, ok := term.Value.(ast.String)
	return ok && t.SymbolOf(term) == nil
}

// TextIn is the text that a term is, or the empty one.
func TextIn(term *ast.Term) string {
	s, _ := term.Value.(ast.String)
	return string(s)
}

// ruleVariable is the variable of a rule about the resource, whose params may have
// symbols in them: they stand there as people write them.
func (t *Theory) ruleVariable(a *Atom, params *ast.Term) (criteria.Function, error) {
	object := map[string]any{}
	if o, ok := params.Value.(ast.Object); ok {
		o.Foreach(func(key, value *ast.Term) { object[TextIn(key)] = t.shown(value) })
	}
	anyOf := ""
	if a.Rule != nil {
		anyOf = a.Rule.AnyOf
	}
	return t.Space.Rule(a.Name, a.About, object, anyOf)
}

// shown is a value as JSON, with symbols as people write them.
func (t *Theory) shown(term *ast.Term) any {
	if s := t.SymbolOf(term); s != nil {
		if s == t.Claims {
			return "all of " + s.Text
		}
		return t.shownText(s.Text)
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
		v.Foreach(func(key, value *ast.Term) { object[TextIn(key)] = t.shown(value) })
		return object
	}
	value, err := ast.JSON(term.Value)
	if err != nil {
		return term.String()
	}
	return value
}

// shownText is a text in which an element is written as what it is of.
func (t *Theory) shownText(text string) string {
	for i := t.numbers; i > 0 && strings.Contains(text, "\x01"); i-- {
		if s := t.byText[elementText(i)]; s != nil {
			text = replaceSymbol(text, s.Text, t.TextOf(s.Args[0]))
		}
	}
	return text
}

// AnyMember is where there is a member.
func (t *Theory) AnyMember(members []Member) (criteria.Function, error) {
	there := criteria.Denied
	for _, m := range members {
		is, err := t.Some(m.Over, m.Where)
		if err != nil {
			return criteria.Denied, err
		}
		there = t.Space.Any(there, is)
	}
	return there, nil
}

// MemberOf is where a value is one of the members of a set or list.
func (t *Theory) MemberOf(value *ast.Term, members []Member) (criteria.Function, error) {
	each := make([]criteria.Function, 0, len(members))
	for _, m := range members {
		m = t.Fresh(m)
		is, err := t.Equal(value, m.Value)
		if err != nil {
			return criteria.Denied, err
		}
		if is = t.Space.All(is, m.Where); is == criteria.Denied {
			continue
		}
		if is, err = t.Some(m.Over, is); err != nil {
			return criteria.Denied, err
		}
		each = append(each, is)
	}
	return t.Space.Any(each...), nil
}

// MembersOf are the members of a value, and of which shape it is.
func (t *Theory) MembersOf(term *ast.Term, s *Shape) ([]Member, bool) {
	if of := t.SymbolOf(term); of != nil {
		switch {
		case of.Of != nil:
			*s = of.Of.Shape
			return of.Of.Members, true
		case of.Kind == KindClaims:
			*s = List
			e := t.Element(term)
			return []Member{{Value: e.Token, Where: criteria.Granted, Over: e.Free}}, true
		}
		return nil, false
	}
	var members []Member
	switch v := term.Value.(type) {
	case *ast.Array:
		*s = List
		v.Foreach(func(e *ast.Term) { members = append(members, Member{Value: e, Where: criteria.Granted}) })
	case ast.Set:
		*s = Set
		v.Foreach(func(e *ast.Term) { members = append(members, Member{Value: e, Where: criteria.Granted}) })
	case ast.Object:
		*s = Object
		v.Foreach(func(key, e *ast.Term) {
			members = append(members, Member{Key: key, Value: e, Where: criteria.Granted})
		})
	default:
		return nil, false
	}
	return members, true
}

// Fresh is a member with new elements, so that it can be looked at beside itself.
func (t *Theory) Fresh(m Member) Member {
	if len(m.Over) == 0 {
		return m
	}
	by := make(map[int]*ast.Term)
	var over []int
	for _, n := range m.Over {
		of := t.Replace(t.Domain(n), by)
		e := t.Element(of)
		by[n] = e.Token
		over = append(over, e.Number)
	}
	f := Member{Value: t.Replace(m.Value, by), Where: t.replaceIn(m.Where, by), Over: over}
	if m.Key != nil {
		f.Key = t.Replace(m.Key, by)
	}
	return f
}

// In is where a value is in a list or set, or the value of a member of an object.
func (t *Theory) In(value, of *ast.Term) (criteria.Function, error) {
	s := t.SymbolOf(of)
	if s != nil && s.Kind == KindClaims {
		if !t.Symbolic(value) && !fits(types.S, value) {
			return criteria.Denied, nil
		}
		if v := t.SymbolOf(value); v != nil && v.Kind == KindElement && t.SymbolOf(v.Args[0]) == s {
			return criteria.Granted, nil
		} else if v != nil && !v.IsText() && v.Of != nil || v == nil && t.Symbolic(value) {
			return criteria.Denied, nil
		}
		key := t.TextOf(value) + " in " + s.Text
		return t.variable(&Atom{Kind: AsksMember, A: value, B: of, free: t.FreeOf(value), Key: key}), nil
	}
	var with Shape
	if members, ok := t.MembersOf(of, &with); ok {
		return t.MemberOf(value, members)
	}
	switch {
	case s == nil || s.IsText():
		return criteria.Denied, nil
	case s.Kind == KindResource:
		return criteria.Denied, errors.New("this looks into the resource")
	}
	key := t.TextOf(value) + " in " + s.Text
	return t.variable(&Atom{Kind: AsksMember, A: value, B: of, free: t.FreeOf(value, of), Key: key}), nil
}

// Defined is where a value that is looked up is there.
func (t *Theory) Defined(term *ast.Term) criteria.Function {
	return t.variable(&Atom{Kind: AsksDefined, A: term, free: t.FreeOf(term), Key: "defined " + t.TextOf(term)})
}

// Open are the elements that a function is about.
func (t *Theory) Open(f criteria.Function) []int {
	var open []int
	if f == criteria.Denied || f == criteria.Granted {
		return nil
	}
	for _, v := range t.Space.Variables(f) {
		if a := t.Atoms[v]; a != nil {
			open = append(open, a.free...)
		}
	}
	slices.Sort(open)
	return slices.Compact(open)
}

// functionText writes a function, the same for equal ones as far as it is minimised.
func (t *Theory) functionText(f criteria.Function) (string, error) {
	c, err := t.Space.Minimise(f)
	if err != nil {
		return "", err
	}
	return strings.ReplaceAll(string(c.AppendJSON(nil)), `\u0001`, "\x01"), nil
}

// RuleAtom is where a rule holds with params that depend on the caller.
func (t *Theory) RuleAtom(a *Atom, params *ast.Term) criteria.Function {
	b := *a
	b.Params, b.free = params, t.FreeOf(params)
	b.Key = a.Name + " " + a.About + " " + t.TextOf(params)
	return t.variable(&b)
}

// PlainRule is a rule whose params depend on nobody.
func (t *Theory) PlainRule(a *Atom, params *ast.Term) (criteria.Function, error) {
	value, err := ast.JSON(params.Value)
	if err != nil {
		return criteria.Denied, err
	}
	object, ok := value.(map[string]any)
	if !ok {
		return criteria.Denied, fmt.Errorf("%s takes an object of params, not %v", a.Name, params)
	}
	anyOf := ""
	if a.Rule != nil {
		anyOf = a.Rule.AnyOf
		if err := a.Rule.CheckParams(object); err != nil {
			return criteria.Denied, fmt.Errorf("%s: %w", a.Name, err)
		}
	}
	text, err := json.Marshal(object)
	if err != nil {
		return criteria.Denied, err
	}
	for _, symbol := range []string{UserText, ClaimsText, actorText} {
		if strings.Contains(string(text), symbol) {
			return criteria.Denied, fmt.Errorf("the params of %s have the text %s in them", a.Name, symbol)
		}
	}
	f, err := t.Space.Rule(a.Name, a.About, object, anyOf)
	if err != nil || f == criteria.Denied {
		return f, err
	}
	if t.Atoms[f] == nil {
		b := *a
		b.Params, b.free = params, nil
		b.Key = a.Name + " " + a.About + " " + t.TextOf(params)
		t.Atoms[f], t.byKey[b.Key] = &b, f
	}
	return f, nil
}

// Possible is whether a function holds for some caller and resource.
func (t *Theory) Possible(f criteria.Function) bool {
	if f == criteria.Denied {
		return false
	}
	never, err := t.Space.Implies(f, criteria.Denied)
	return err != nil || !never
}

// Failure is why an atom could not be made of another since it was last asked for.
func (t *Theory) Failure() error {
	err := t.failed
	t.failed = nil
	return err
}
