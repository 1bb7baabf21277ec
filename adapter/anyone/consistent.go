package anyone

import (
	"context"
	"math"
	"regexp/syntax"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stagedoor/stagedoor/adapter/anyone/theory"
	"github.com/stagedoor/stagedoor/adapter/criteria"
)

// mostLemmas is how many contradictions are taken out of a function.
const mostLemmas = 200

// consistent leaves out of a function what no caller can be, since texts and numbers
// contradict each other: nothing begins with both group:a and group:b. It is the lazy way of
// satisfiability modulo theories: a model is asked for, and what contradicts itself in it is
// excluded, until a model does not or there is none. The function is [criteria.Denied] then.
// It ends with ctx, too.
func consistent(ctx context.Context, t *theory.Theory, f criteria.Function) criteria.Function {
	for range mostLemmas {
		if ctx.Err() != nil {
			return f
		}
		answers, ok := t.Space.Model(f)
		if !ok {
			if t.Space.Possible(f) { // it takes too long to find out
				return f
			}
			return criteria.Denied
		}
		var literals []theory.Literal
		var functions []criteria.Function
		for _, v := range t.Space.Variables(f) {
			a := t.Atoms[v]
			if a == nil {
				continue
			}
			is := v
			if !answers(v) {
				is = v.Not()
			}
			literals = append(literals, theory.Literal{Atom: a, Negated: !answers(v)})
			functions = append(functions, is)
		}
		lemma := contradiction(t, literals)
		if len(lemma) == 0 {
			return f
		}
		together := criteria.Granted
		for _, i := range lemma {
			together = t.Space.All(together, functions[i])
		}
		f = t.Space.All(f, together.Not())
	}
	return f
}

// contradiction are the literals, one or two by number, that cannot hold together; none
// where no such are known.
func contradiction(t *theory.Theory, literals []theory.Literal) []int {
	facts := make([]fact, len(literals))
	for i, l := range literals {
		if l.Atom.Kind == theory.AsksSome && !l.Negated && len(contradiction(t, l.Atom.Such)) > 0 {
			return []int{i}
		}
		facts[i] = factOf(t, l)
		if facts[i].alone() {
			return []int{i}
		}
	}
	for i, f := range facts {
		for j, g := range facts[:i] {
			if f.about != "" && f.about == g.about && (f.excludes(g) || g.excludes(f)) {
				return []int{j, i}
			}
		}
	}
	return nil
}

// fact is what a literal says of a value.
type fact struct {
	about  string // what the value is, in words
	counts bool   // whether it is how many of something there are
	is     *ast.Term
	test   string // starts, ends or contains
	text   string
	not    bool
	lower  bool // whether it is a text in lower case
	// from and to are between which numbers it is.
	number   bool
	from, to float64
}

// factOf is what a literal says, without anything where that is not known here.
func factOf(t *theory.Theory, l theory.Literal) fact {
	a := l.Atom
	if a.Kind != theory.AsksEqual {
		return fact{}
	}
	s := t.SymbolOf(a.A)
	if s == nil {
		return fact{}
	}
	if !ast.Boolean(true).Equal(a.B.Value) {
		if l.Negated || t.Symbolic(a.B) {
			return fact{}
		}
		f := fact{about: t.TextOf(a.A), is: a.B, counts: s.Name == ast.Count.Name}
		if n, ok := numberOf(a.B); ok {
			f.number, f.from, f.to = true, n, n
		}
		return f
	}
	if s.Kind != theory.KindCall || len(s.Args) < 2 {
		return fact{}
	}
	of, with := s.Args[0], s.Args[1]
	switch s.Name {
	case ast.StartsWith.Name, ast.EndsWith.Name, ast.Contains.Name:
		return testOf(t, s.Name, of, with, l.Negated)
	case ast.GreaterThan.Name, ast.GreaterThanEq.Name, ast.LessThan.Name, ast.LessThanEq.Name:
		if !l.Negated {
			return rangeOf(t, s.Name, of, with)
		}
	case ast.RegexMatch.Name, ast.GlobMatch.Name: // of a pattern, and a text that is the last operand
		if begins := beginning(s.Name, theory.TextIn(of)); begins != "" && !l.Negated && t.IsPlainText(of) {
			return testOf(t, ast.StartsWith.Name, s.Args[len(s.Args)-1], ast.StringTerm(begins), false)
		}
	}
	return fact{}
}

// testOf is that a value begins with a text, ends with it, or contains it; or does not.
func testOf(t *theory.Theory, test string, of, with *ast.Term, not bool) fact {
	s := t.SymbolOf(of)
	if s == nil || !t.IsPlainText(with) {
		return fact{}
	}
	return fact{about: t.TextOf(of), test: test, text: theory.TextIn(with), not: not, lower: s.Name == ast.Lower.Name}
}

// beginning is what all texts begin with that a pattern matches, or nothing.
func beginning(builtin, pattern string) string {
	if builtin == ast.GlobMatch.Name {
		if at := strings.IndexAny(pattern, `*?[{\`); at >= 0 {
			return pattern[:at]
		}
		return pattern
	}
	parsed, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil || parsed.Op != syntax.OpConcat || len(parsed.Sub) < 2 || parsed.Sub[0].Op != syntax.OpBeginText {
		return ""
	}
	if literal := parsed.Sub[1]; literal.Op == syntax.OpLiteral && literal.Flags&syntax.FoldCase == 0 {
		return string(literal.Rune)
	}
	return ""
}

// rangeOf is between which numbers a value is that is compared with one.
func rangeOf(t *theory.Theory, name string, of, with *ast.Term) fact {
	inf := math.Inf(1)
	f := fact{number: true, from: -inf, to: inf}
	s, n, ok := t.SymbolOf(of), 0.0, false
	if s != nil {
		n, ok = numberOf(with)
	} else if s = t.SymbolOf(with); s != nil {
		n, ok = numberOf(of)
		name = map[string]string{
			ast.GreaterThan.Name: ast.LessThan.Name, ast.GreaterThanEq.Name: ast.LessThanEq.Name,
			ast.LessThan.Name: ast.GreaterThan.Name, ast.LessThanEq.Name: ast.GreaterThanEq.Name,
		}[name]
		of = with
	}
	if !ok || s.Name != ast.Count.Name { // what is no number is compared with numbers, too
		return fact{}
	}
	f.about, f.counts = t.TextOf(of), true
	switch name { // of whole numbers
	case ast.GreaterThan.Name:
		f.from = math.Floor(n) + 1
	case ast.GreaterThanEq.Name:
		f.from = math.Ceil(n)
	case ast.LessThan.Name:
		f.to = math.Ceil(n) - 1
	case ast.LessThanEq.Name:
		f.to = math.Floor(n)
	}
	return f
}

func numberOf(term *ast.Term) (float64, bool) {
	n, ok := term.Value.(ast.Number)
	if !ok {
		return 0, false
	}
	return n.Float64()
}

// alone is whether no value is so.
func (f fact) alone() bool {
	return f.counts && f.number && f.to < 0 || f.lower && !f.not && strings.ToLower(f.text) != f.text
}

// excludes is whether no value is as both say.
func (f fact) excludes(g fact) bool {
	switch {
	case f.number && g.number:
		return max(f.from, g.from) > min(f.to, g.to)
	case f.is != nil && g.is != nil:
		return !f.is.Equal(g.is)
	case f.is != nil && g.test != "":
		text, isText := f.is.Value.(ast.String)
		return isText && holdsOf(g.test, string(text), g.text) == g.not || !isText && !g.not
	case f.test == "" || g.test == "" || f.not:
		return false
	case g.not: // f says that some text is a part of the value, and g that another is none
		return g.test == f.test && holdsOf(f.test, f.text, g.text) ||
			g.test == ast.Contains.Name && strings.Contains(f.text, g.text)
	case f.test != g.test || f.test == ast.Contains.Name:
		return false
	}
	return !holdsOf(f.test, f.text, g.text) && !holdsOf(f.test, g.text, f.text)
}

func holdsOf(test, text, part string) bool {
	switch test {
	case ast.StartsWith.Name:
		return strings.HasPrefix(text, part)
	case ast.EndsWith.Name:
		return strings.HasSuffix(text, part)
	}
	return strings.Contains(text, part)
}
