// Package example finds callers by whom a function of the caller can hold.
//
// A model of the function says how each question about the caller must be answered. The
// texts that these questions name are gathered: constants, the beginnings and ends that a
// text must have, and a text that a regular expression matches. They are tried together
// until the questions are answered so. What is found is a guess: whoever tells of it asks
// the policy first.
package example

import (
	"fmt"
	"regexp/syntax"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stagedoor/stagedoor/adapter/anyone/theory"
	"github.com/stagedoor/stagedoor/adapter/anyone/valuation"
	"github.com/stagedoor/stagedoor/adapter/criteria"
	"github.com/stagedoor/stagedoor/adapter/decision"
)

// mostModels is how many ways to answer the questions are tried.
const mostModels = 4

// Callers are callers of whom a function may hold: those who are and have what some answers
// say. Beyond that they are like some, a caller who is signed in. There can be none.
func Callers(t *theory.Theory, some decision.Caller, f criteria.Function) []decision.Caller {
	var found []decision.Caller
	for range mostModels {
		answers, ok := t.Space.Model(f)
		if !ok {
			break
		}
		e := example{Theory: t, caller: some}
		other := criteria.Denied // the answers that are others
		for _, v := range t.Space.Variables(f) {
			a := t.Atoms[v]
			if a == nil {
				continue
			}
			yes := answers(v)
			e.all = append(e.all, theory.Literal{Atom: a, Negated: !yes})
			if yes {
				other = t.Space.Any(other, v.Not())
			}
		}
		found = append(found, e.callers()...)
		f = t.Space.All(f, other)
	}
	return found
}

// callers are those that the answers lead to.
func (e *example) callers() []decision.Caller {
	e.text(&e.caller.User, theory.KindUser)
	if e.caller.Actor != "" {
		e.text(&e.caller.Actor, theory.KindActor)
	}
	counts, indexes := false, false
	for _, l := range e.all {
		counts = counts || strings.Contains(l.Atom.Key, ast.Count.Name+"(")
		e.symbols(l.Atom, func(s *theory.Symbol) { indexes = indexes || s.Kind == theory.KindIndex })
		if !l.Negated {
			e.claim(l.Atom)
		}
	}
	sorted := e.caller
	sorted.Claims = slices.Sorted(slices.Values(e.caller.Claims))
	owns := sorted
	owns.Claims = append([]string{sorted.User}, sorted.Claims...) // as Backstage's users do
	found := []decision.Caller{owns, sorted, e.caller}
	if indexes {
		for _, c := range found {
			for i := range c.Claims {
				turned := c
				turned.Claims = slices.Concat(c.Claims[i:], c.Claims[:i])
				found = append(found, turned)
			}
			before := c
			before.Claims = slices.Concat([]string{"group:default/a-first"}, c.Claims)
			found = append(found, before)
		}
	}
	if counts {
		for _, c := range found {
			for i := range mostMore {
				c.Claims = append(slices.Clone(c.Claims), fmt.Sprintf("group:default/some-%d", i+1))
				found = append(found, c)
			}
		}
	}
	return found
}

// mostMore is how many claims more are tried where they are counted.
const mostMore = 12

// example is a caller who is being found, and the answers that are wanted.
type example struct {
	*theory.Theory
	caller decision.Caller
	all    []theory.Literal
}

// text finds what a text of the caller can be so that all that is about it alone is
// answered as wanted.
func (e *example) text(of *string, kind theory.SymbolKind) {
	var about []theory.Literal
	var texts parts
	for _, l := range e.all {
		if e.isAbout(l.Atom, kind) {
			about = append(about, l)
			e.gather(l.Atom, &texts)
		}
	}
	before := *of
	for _, *of = range append([]string{before}, texts.pool(before)...) {
		if !slices.ContainsFunc(about, func(l theory.Literal) bool { return e.holds(l.Atom, e.caller) == l.Negated }) {
			return
		}
	}
	*of = before
}

// isAbout is whether an atom is about nothing of the caller but the user, or but the plugin.
func (e *example) isAbout(a *theory.Atom, kind theory.SymbolKind) bool {
	if a.Kind != theory.AsksEqual && a.Kind != theory.AsksDefined {
		return false
	}
	found, only := false, true
	e.symbols(a, func(s *theory.Symbol) {
		found = found || s.Kind == kind
		only = only && (s.Kind == kind || s.Kind == theory.KindCall || s.Kind == theory.KindIndex)
	})
	return found && only
}

// symbols visits the symbols of what an atom asks, and those that they are made of.
func (e *example) symbols(a *theory.Atom, visit func(*theory.Symbol)) {
	var each func(s *theory.Symbol)
	each = func(s *theory.Symbol) {
		visit(s)
		for _, arg := range s.Args {
			e.EachSymbol(arg, each)
		}
	}
	for _, term := range []*ast.Term{a.A, a.B} {
		if term != nil {
			e.EachSymbol(term, each)
		}
	}
}

// most is how many texts are tried together with one another.
const most = 40

// claim gives the caller claims so that an atom holds, if it finds some.
func (e *example) claim(a *theory.Atom) {
	owns := e.caller
	owns.Claims = slices.Concat(owns.Claims, []string{owns.User})
	if a.Kind == theory.AsksRule || e.holds(a, e.caller) || e.holds(a, owns) {
		return
	}
	var texts parts
	e.gather(a, &texts)
	if a.Kind == theory.AsksMember && e.SymbolOf(a.B) == e.Claims {
		if v := valuation.New(e.Theory, e.caller, anything).Value(a.A); v != nil && e.IsPlainText(v) {
			e.caller.Claims = append(e.caller.Claims, theory.TextIn(v))
		}
		return
	}
	pool := texts.pool("group:default/some")
	before, unwanted := e.caller, e.unwanted(e.caller)
	fits := false
	with := func(claims ...string) bool { // the first that fits, or one that does not contradict another answer
		c := before
		c.Claims = slices.Concat(claims, c.Claims)
		if !e.holds(a, c) {
			return false
		}
		well := e.unwanted(c) <= unwanted
		if !fits || well {
			e.caller, fits = c, true
		}
		return well
	}
	for _, claim := range pool {
		if with(claim) {
			return
		}
	}
	if fits {
		return
	}
	pool = pool[:min(len(pool), most)]
	for _, claim := range pool {
		for _, other := range pool {
			if with(claim, other) {
				return
			}
		}
	}
}

// unwanted is how many questions a caller answers with yes, and no is wanted.
func (e *example) unwanted(c decision.Caller) int {
	n := 0
	for _, l := range e.all {
		if l.Negated && l.Atom.Kind != theory.AsksRule && e.holds(l.Atom, c) {
			n++
		}
	}
	return n
}

func anything(criteria.Rule) (bool, error) { return true, nil }

// holds is whether an atom does of a caller, where rules about the resource do.
func (e *example) holds(a *theory.Atom, c decision.Caller) bool {
	is, err := valuation.New(e.Theory, c, anything).Answer(a)
	return err == nil && is
}

// parts are texts that an atom compares with, and those that something of the caller begins
// with, contains and ends with.
type parts struct{ plain, starts, inner, ends []string }

// gather adds the texts in an atom.
func (e *example) gather(a *theory.Atom, to *parts) {
	for _, l := range a.Such {
		e.gather(l.Atom, to)
	}
	if a.Kind == theory.AsksEqual {
		for _, sides := range [][2]*ast.Term{{a.A, a.B}, {a.B, a.A}} {
			if !e.IsPlainText(sides[1]) {
				continue
			}
			if text := e.preimage(sides[0], theory.TextIn(sides[1])); text != "" {
				to.plain = append(to.plain, text)
			}
		}
	}
	for _, term := range []*ast.Term{a.A, a.B, a.Params} {
		if term != nil {
			e.gatherTerm(term, to)
		}
	}
}

func (e *example) gatherTerm(term *ast.Term, to *parts) {
	switch v := term.Value.(type) {
	case *ast.Array:
		v.Foreach(func(t *ast.Term) { e.gatherTerm(t, to) })
	case ast.Set:
		v.Foreach(func(t *ast.Term) { e.gatherTerm(t, to) })
	}
	s := e.SymbolOf(term)
	if s == nil {
		if e.IsPlainText(term) {
			to.plain = append(to.plain, theory.TextIn(term))
		}
		return
	}
	if s.Kind == theory.KindElement {
		return
	}
	if s.Of != nil {
		for _, m := range s.Of.Members {
			e.gatherTerm(m.Value, to)
			for _, v := range e.Space.Variables(m.Where) {
				if a := e.Atoms[v]; a != nil {
					e.gather(a, to)
				}
			}
		}
		return
	}
	for i, arg := range s.Args {
		if !e.IsPlainText(arg) {
			e.gatherTerm(arg, to)
			continue
		}
		text := theory.TextIn(arg)
		switch {
		case s.Name == ast.StartsWith.Name:
			to.starts = append(to.starts, text)
		case s.Name == ast.EndsWith.Name:
			to.ends = append(to.ends, text)
		case s.Name == ast.Contains.Name:
			to.inner = append(to.inner, text)
		case s.Name == ast.RegexMatch.Name && i == 0:
			if pattern, err := syntax.Parse(text, syntax.Perl); err == nil {
				to.plain = append(to.plain, matching(pattern))
			}
		case s.Name == ast.GlobMatch.Name && i == 0:
			to.plain = append(to.plain, strings.NewReplacer("**", "some", "*", "some", "?", "s").Replace(text))
		default:
			to.plain = append(to.plain, text)
		}
	}
}

// matching is a text that a pattern matches, but for what it says of beginnings and ends.
func matching(p *syntax.Regexp) string {
	var b strings.Builder
	times := 1
	switch p.Op {
	case syntax.OpLiteral:
		return string(p.Rune)
	case syntax.OpCharClass:
		for i := 0; i+1 < len(p.Rune); i += 2 { // a letter, if one is among them
			if p.Rune[i] <= 's' && 's' <= p.Rune[i+1] {
				return "s"
			}
		}
		if len(p.Rune) > 0 {
			return string(p.Rune[:1])
		}
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return "s"
	case syntax.OpAlternate:
		return matching(p.Sub[0])
	case syntax.OpStar, syntax.OpQuest:
		return ""
	case syntax.OpRepeat:
		times = p.Min
	}
	for range times {
		for _, sub := range p.Sub {
			b.WriteString(matching(sub))
		}
	}
	return b.String()
}

// long is how long a long text is at least.
const long = 100

// pool are texts made of the parts, the likeliest first.
func (p parts) pool(some string) []string {
	var all []string
	for _, start := range append(slices.Clone(p.starts), "") {
		for _, end := range append(slices.Clone(p.ends), "") {
			rest := strings.Join(p.inner, "") + end
			if start == "" && !strings.Contains(rest, ":") {
				all = append(all, some+rest)
			}
			all = append(all, start+"some"+rest, start+rest)
		}
	}
	texts := slices.Concat(p.plain, p.starts, p.inner, p.ends)
	for _, text := range texts {
		all = append(all, text, strings.ToUpper(text), text+"some", some+text)
	}
	all = append(all, some+strings.Repeat("e", long))
	for _, text := range texts {
		all = append(all, "group:default/"+text, "user:default/"+text, "group:"+text+"/some", "plugin:"+text)
		for _, other := range texts {
			all = append(all, text+other, text+"some"+other, text+"/"+other, text+":"+other)
		}
	}
	var distinct []string
	for _, text := range all {
		if len(distinct) < 1_000 && !slices.Contains(distinct, text) {
			distinct = append(distinct, text)
		}
	}
	return distinct
}
