package explore

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// String writes the plan for people, a document after the other. Below a document
// stand its clauses, each with its value and the parts of its body. A line that
// begins with a word in capitals is a premise, with the bodies that it has below it.
func (p *plan) String() string {
	w := planWriter{plan: p}
	for _, doc := range p.order {
		w.document(doc)
	}
	for done := 0; done < len(w.sets); { // The bodies of a set can add sets.
		w.set(w.sets[done])
		done++
	}
	return w.b.String()
}

// planWriter writes a plan. Variables of the compiler's are numbered anew in each
// document, so that the text depends on that document alone.
type planWriter struct {
	*plan
	b       strings.Builder
	given   map[ast.Var]ast.Var // the names given to variables
	numbers int                 // how many of them are the compiler's
	sets    []*collection       // those with a path that premises are about
}

// line writes a line; mark is what stands before the text.
func (w *planWriter) line(depth int, mark, text string) {
	w.b.WriteString(strings.Repeat("  ", depth) + mark + oneLine(text) + "\n")
}

func (w *planWriter) begin() { w.given, w.numbers = make(map[ast.Var]ast.Var), 0 }

func (w *planWriter) document(doc *document) {
	w.begin()
	head := doc.ref.String()
	if doc.function {
		head += "(…)"
	}
	if !doc.proved {
		w.line(0, "", head+" is explored")
		return
	}
	w.line(0, "", head+" is proved")
	for _, c := range doc.chains {
		word := ""
		for _, clause := range c.clauses {
			head := word + "a value"
			if clause.value != nil {
				head = word + w.text(clause.value)
			}
			if len(clause.args) > 0 {
				head += " for " + w.list(clause.args)
			}
			w.line(1, "", head+" where")
			w.body(2, clause.body)
			word = "else "
		}
	}
	if doc.fallback != nil {
		w.line(1, "", "by default "+w.text(doc.fallback))
	}
}

// set writes the bodies of a partial set.
func (w *planWriter) set(c *collection) {
	w.begin()
	w.line(0, "", c.ref.String()+" is a set of")
	for _, b := range c.bodies {
		w.line(1, "", "a value where")
		w.body(2, b)
	}
}

// body writes the parts of a body, each after a dash.
func (w *planWriter) body(depth int, b *bodyPlan) {
	for _, part := range b.parts {
		w.exprs(depth, part)
	}
}

func (w *planWriter) exprs(depth int, body ast.Body) {
	mark := "- "
	for _, e := range body {
		if premise, out := w.premiseOf(e); premise != nil {
			w.premise(depth, mark, premise, out)
		} else {
			w.line(depth, mark, w.text(e))
		}
		mark = "  "
	}
}

// premiseOf is the premise that an expression stands for, if it does, and what it
// binds.
func (w *planWriter) premiseOf(e *ast.Expr) (*premise, *ast.Term) {
	terms, ok := e.Terms.([]*ast.Term)
	if !ok || !terms[0].Equal(premiseOperator) {
		return nil, nil
	}
	if len(terms) > 3 {
		return &w.premises[intOf(terms[1])], terms[3]
	}
	return &w.premises[intOf(terms[1])], nil
}

// premise writes a premise and, below it, the bodies that it has.
func (w *planWriter) premise(depth int, mark string, p *premise, out *ast.Term) {
	if p.negated {
		mark += "NOT "
	}
	below := depth + 2
	say := func(format string, args ...any) { w.line(depth, mark, fmt.Sprintf(format, args...)) }
	switch p.kind {
	case isQuestion:
		say("ASK %s%s", p.rule.Name, w.list(p.args))
	case isDocument:
		say("RULE %v%s", p.doc.ref, w.list(p.args))
	case isBody:
		say("BODY")
		w.body(below, p.lhs)
	case isAnd, isOr:
		say("%s", map[premiseKind]string{isAnd: "AND", isOr: "OR"}[p.kind])
		w.body(below, p.lhs)
		w.line(depth+1, "", "with")
		w.body(below, p.rhs)
	case isEvery:
		say("EVERY %s, %s in %s", w.text(p.every.Key), w.text(p.every.Value), w.text(p.every.Domain))
		w.body(below, p.lhs)
	case isGroup:
		say("EXPLORE")
		w.exprs(below, p.body)
	case isSet, isSome, isEqual, isCount, isElement, isEach:
		w.collected(depth, mark, p, out)
	}
}

// collected writes a premise about the elements of a collection, or the values of
// a document or a question.
func (w *planWriter) collected(depth int, mark string, p *premise, out *ast.Term) {
	of := "a collection"
	switch {
	case p.doc != nil:
		of = p.doc.ref.String() + w.list(p.args)
	case p.rule != nil:
		of = p.rule.Name + w.list(p.args)
	case p.of.ref != nil:
		if of = p.of.ref.String(); !slices.Contains(w.sets, p.of) {
			w.sets = append(w.sets, p.of)
		}
	}
	text := ""
	switch p.kind {
	case isSet:
		text = "DEFINED " + of
	case isSome:
		text = "SOME of " + of
	case isEqual:
		text = "EQUAL " + w.text(p.args[len(p.args)-1]) + " and " + of
	case isCount:
		text = "COUNT " + w.text(p.count) + " of " + of
	case isElement:
		if text = "ELEMENT " + w.text(p.args[len(p.args)-1]) + " of "; p.doc != nil {
			of = p.doc.ref.String() + w.list(p.args[:len(p.args)-1])
		}
		text += of
	case isEach:
		if p.pair {
			out = elementOf(out)
		}
		text = "EACH " + w.text(out) + " of " + of
	}
	w.line(depth, mark, text)
	if p.kind == isCount {
		w.exprs(depth+2, p.body)
	}
	if p.of != nil && p.of.ref == nil {
		for _, b := range p.of.bodies {
			w.line(depth+1, "", "of each proof of")
			w.body(depth+2, b)
		}
	}
}

// elementOf is the first of the two terms that a premise of the kind isEach binds.
func elementOf(pair *ast.Term) *ast.Term {
	if list, ok := pair.Value.(*ast.Array); ok && list.Len() > 0 {
		return list.Elem(0)
	}
	return pair
}

func (w *planWriter) list(terms []*ast.Term) string {
	texts := make([]string, len(terms))
	for i, t := range terms {
		texts[i] = w.text(t)
	}
	if len(texts) == 0 {
		return ""
	}
	return "(" + strings.Join(texts, ", ") + ")"
}

// text is a term or an expression with the author's names for variables.
func (w *planWriter) text(x any) string {
	vars := varsOf(x).Sorted()
	slices.SortFunc(vars, compareVars)
	for _, v := range vars {
		w.name(v)
	}
	renamed, err := ast.TransformVars(copyOf(x), func(v ast.Var) (ast.Value, error) {
		if name, ok := w.given[v]; ok {
			return name, nil
		}
		return v, nil
	})
	if err != nil {
		return fmt.Sprint(x)
	}
	return questionNames.ReplaceAllString(fmt.Sprint(renamed), "ask.$1")
}

// questionNames are the names of the builtins that questions are directed to. Their
// numbers are those of all rules that the modules have.
var questionNames = regexp.MustCompile(`stagedoor\.(\w+)_\d+\b`)

// copyOf is a copy of a term or an expression: OPA renames variables in place.
func copyOf(x any) any {
	switch x := x.(type) {
	case *ast.Term:
		return x.Copy()
	case *ast.Expr:
		return x.Copy()
	}
	return x
}

// compareVars orders the variables of the compiler's by their numbers.
func compareVars(a, b ast.Var) int {
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	return strings.Compare(string(a), string(b))
}

// name gives a variable a name: the author's, or the next number.
func (w *planWriter) name(v ast.Var) {
	if _, ok := w.given[v]; ok {
		return
	}
	switch name, ok := w.names[v]; {
	case v.IsWildcard(), ok && name.IsWildcard():
		w.given[v] = ast.Var("_")
	case ok && !name.IsGenerated():
		w.given[v] = name
	case v.Equal(resultVar.Value):
		w.given[v] = ast.Var("value")
	case v.IsGenerated(), strings.HasPrefix(string(v), "stagedoor "):
		w.numbers++
		w.given[v] = ast.Var(fmt.Sprintf("t%d", w.numbers))
	}
}
