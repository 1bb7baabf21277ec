package explore

import (
	"slices"
	"strconv"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/types"
)

// A document is a rule or function of the policy that depends on the resource:
// all that is defined at one path. It is a function of its own, which others refer
// to as a question.
type document struct {
	ref      ast.Ref
	function bool
	chains   []*chain
	of       map[*ast.Rule]int // the chain of a rule
	// proved is whether the value is known in each proof of a body, so that the
	// document is known from all of them. Otherwise it is explored.
	proved   bool
	fallback *ast.Term // the default's value, nil where there is none
	indexed  bool      // whether OPA's rule index tells which chains can matter
}

// chain is a rule with its else branches.
type chain struct {
	clauses []clause
}

// clause is one body and the value that it gives.
type clause struct {
	rule  *ast.Rule
	args  []*ast.Term
	value *ast.Term // nil where it is that of resultVar
	body  *bodyPlan
}

// bodyPlan is a body whose solutions are enumerated to find all its proofs: the sets
// of premises under which it has a solution. A premise is something that depends
// on the resource and binds no variable that is used elsewhere; it is replaced by
// a call which notes it and goes on as if it held.
//
// The expressions fall apart into parts that share no variables, each of which can
// be proved by itself: what is alternatives in one part and alternatives in
// another is not multiplied out.
type bodyPlan struct {
	parts []ast.Body
	keyed int // the part that binds resultVar, of the body of a collection
}

// A premise is one of the calls that a planned body was given. Its operands are
// the values of args.
type premise struct {
	kind    premiseKind
	negated bool
	args    []*ast.Term
	at      *ast.Location

	rule  *PermissionRule // isQuestion
	doc   *document       // isDocument
	lhs   *bodyPlan       // isBody, isAnd, isOr, isEvery
	rhs   *bodyPlan       // isAnd, isOr
	vars  []*ast.Term     // what args are the values of, of a body
	every *ast.Every
	body  ast.Body // isGroup; isCount: what must hold for the number
	of    *collection
	over  []*ast.Term // what the first args are the values of, for of
	count *ast.Term   // the number
	out   *ast.Term   // isEach: what is bound to the value
	pair  bool        // isEach: to an array of the element, twice
}

type premiseKind uint8

const (
	isQuestion premiseKind = iota // a permission rule about the resource
	isDocument                    // a rule, or the call of a function, that depends on it
	isBody                        // the body of a not
	isAnd
	isOr
	isEvery
	isGroup // expressions that are explored
	// Of a collection, whether
	isSet   // it is defined: always
	isSome  // there is an element
	isEqual // it is its last arg
	isCount // the number of elements is one for which the body holds
	// Of the elements of a collection, the values of a document or the answer to a
	// question, whether
	isElement // the last arg is one
	isEach    // there is one that is the value of the call
)

// A plan is how a decision is found: of every rule that depends on the resource,
// what must be known so that it is. It is made once, when a policy is compiled, and
// is immutable.
type plan struct {
	documents tree[*document] // those that depend on the resource
	order     []*document     // the same, as the entrypoint reaches them
	dependent tree[bool]      // whether the rules there depend on it
	premises  []premise       // by their number
	names     map[ast.Var]ast.Var
}

// planner makes a plan.
type planner struct {
	*reach
	*plan
	questions   map[*ast.Expr]*PermissionRule // the calls that ask about the resource
	depending   map[*ast.Rule]bool            // the rules that depend on it
	collections map[string]*collection        // by path; nil for what is none
	rule        *ast.Rule                     // the one being planned
	values      int                           // how many variables were added
}

// newPlan plans every document that depends on the resource.
func newPlan(r *reach, questions map[*ast.Expr]*PermissionRule) *plan {
	p := &planner{
		reach:       r,
		plan:        &plan{names: r.compiler.RewrittenVars},
		questions:   questions,
		depending:   make(map[*ast.Rule]bool),
		collections: make(map[string]*collection),
	}
	p.findDependent()
	for _, rule := range p.reached {
		if ref := rule.Ref(); p.depending[rule] && p.separate(rule) && p.documents.at(ref) == nil {
			doc := &document{ref: ref, function: len(rule.Head.Args) > 0}
			p.documents.put(ref, doc)
			p.order = append(p.order, doc)
		}
	}
	for _, doc := range p.order {
		p.planDocument(doc)
	}
	for _, rule := range p.reached {
		if p.depending[rule] {
			p.dependent.put(rule.Ref().GroundPrefix(), true)
		}
	}
	return p.plan
}

// findDependent finds the rules from which a question can be reached. It ends
// because every round but the last adds a rule.
func (p *planner) findDependent() {
	for changed := true; changed; {
		changed = false
		for _, rule := range p.reached {
			if p.depending[rule] {
				continue
			}
			own := rule.Else
			if own != nil && p.depending[own] || p.depends(rule.Body) {
				p.depending[rule] = true
				changed = true
			}
		}
	}
}

// depends is whether what is evaluated for x depends on the resource.
func (p *planner) depends(x any) bool {
	found := false
	ast.NewGenericVisitor(func(x any) bool {
		switch x := x.(type) {
		case *ast.Expr:
			found = found || p.questions[x] != nil
		case ast.Ref:
			found = found || slices.ContainsFunc(p.rulesAt(x), func(r *ast.Rule) bool { return p.depending[r] })
		}
		return found
	}).Walk(x)
	return found
}

// separate is whether a rule is a document of its own: complete, or a function, and
// all that there is at its path.
func (p *planner) separate(rule *ast.Rule) bool {
	return rule.Head.RuleKind() == ast.SingleValue && rule.Head.Reference.IsGround() && alone(p.compiler, rule.Ref())
}

// alone is whether what is at a path comes from the rules at exactly this path, not
// from rules below it or from one above it, such as p[x] for p.a.
func alone(compiler *ast.Compiler, ref ast.Ref) bool {
	node := compiler.RuleTree
	for i, part := range ref {
		if node = node.Child(part.Value); node == nil || i < len(ref)-1 && len(node.Values) > 0 {
			return false
		}
	}
	return len(node.Values) > 0 && len(node.Children) == 0
}

func (p *planner) planDocument(doc *document) {
	doc.proved, doc.indexed = true, !doc.function
	doc.of = make(map[*ast.Rule]int)
	for _, rule := range p.compiler.GetRulesExact(doc.ref) {
		if rule.Default {
			doc.fallback = rule.Head.Value
			continue
		}
		c := &chain{}
		for r := rule; r != nil; r = r.Else {
			b := p.clause(r)
			if b.body == nil {
				doc.proved = false
				return
			}
			c.clauses = append(c.clauses, b)
			doc.indexed = doc.indexed && r == rule
		}
		doc.of[rule] = len(doc.chains)
		doc.chains = append(doc.chains, c)
	}
}

func (p *planner) clause(rule *ast.Rule) clause {
	p.rule = rule
	bound := ast.NewVarSet()
	for _, arg := range rule.Head.Args {
		bound.Update(varsOf(arg))
	}
	if ast.IsConstant(rule.Head.Value.Value) {
		return clause{rule, rule.Head.Args, rule.Head.Value, p.planBody(rule.Body, bound)}
	}
	return clause{rule, rule.Head.Args, nil, p.planKeyed(rule.Body, rule.Head.Value, bound, false)}
}

// varsOf are the variables of x, of closures within it too.
func varsOf(x any) ast.VarSet { return collect(x, ast.VarVisitorParams{SkipRefCallHead: true}) }

// ownVars are the variables of x without those of closures within it.
func ownVars(x any) ast.VarSet {
	return collect(x, ast.VarVisitorParams{SkipRefCallHead: true, SkipClosures: true})
}

func collect(x any, params ast.VarVisitorParams) ast.VarSet {
	vis := ast.NewVarVisitor().WithParams(params)
	vis.Walk(x)
	vars := vis.Vars()
	for v := range vars {
		if ast.RootDocumentNames.Contains(ast.NewTerm(v)) {
			delete(vars, v)
		}
	}
	return vars
}

// cluster is a set of expressions that must be looked at together.
type cluster struct {
	exprs []*ast.Expr
	last  int // the place of the last of them
}

// planBody plans how to find all proofs of a body in which some variables are bound.
func (p *planner) planBody(body ast.Body, outer ast.VarSet) *bodyPlan {
	body = p.apart(body)
	clusters, bound := p.clusters(body, outer)
	exprs := make(ast.Body, len(body))
	generates := make([]bool, len(body))
	isPremise := make([]bool, len(body))
	seen := outer.Copy()
	for i, e := range body {
		if c := clusters[i]; c == nil {
			exprs[i] = e
			generates[i] = isGenerator(e, seen)
			seen.Update(ownVars(e))
		} else if c.last == i {
			exprs[i] = p.premise(c.exprs, bound[i])
			isPremise[i] = true
		}
	}
	return &bodyPlan{parts: splitParts(exprs, outer, generates, isPremise)}
}

// apart gives each side of an equality whose sides both depend on the resource an
// expression of its own.
func (p *planner) apart(body ast.Body) ast.Body {
	var whole ast.Body
	for _, e := range body {
		if !e.IsEquality() || e.Negated || len(e.With) > 0 || !p.depends(e.Operand(0)) || !p.depends(e.Operand(1)) {
			whole = append(whole, e)
			continue
		}
		p.values++
		value := ast.VarTerm("stagedoor value " + strconv.Itoa(p.values))
		for i := range 2 {
			side := ast.Equality.Expr(value, e.Operand(i))
			side.Location = e.Location
			whole = append(whole, side)
		}
	}
	return whole
}

// clusters are, by the place of each expression that depends on the resource, those
// that belong together because they share a variable whose value depends on it.
// Of every place it tells the variables that are bound there to known values.
func (p *planner) clusters(body ast.Body, outer ast.VarSet) ([]*cluster, []ast.VarSet) {
	bound := outer.Copy()
	unknown := make(map[ast.Var]*cluster)
	clusters := make([]*cluster, len(body))
	known := make([]ast.VarSet, len(body))
	for i, e := range body {
		known[i] = bound.Copy()
		vars := varsOf(e)
		depends := p.depends(e)
		for v := range vars {
			depends = depends || unknown[v] != nil
		}
		if !depends {
			bound.Update(ownVars(e))
			continue
		}
		c := &cluster{}
		for v := range vars {
			if other := unknown[v]; other != nil && other != c {
				c.exprs = append(c.exprs, other.exprs...)
				for j := range clusters[:i] {
					if clusters[j] == other {
						clusters[j] = c
					}
				}
				for u, of := range unknown {
					if of == other {
						unknown[u] = c
					}
				}
			}
		}
		c.exprs, c.last = append(c.exprs, e), i
		clusters[i] = c
		if _, ok := p.planEach(e); ok && len(c.exprs) == 1 {
			bound.Update(ownVars(e)) // A proof knows the value.
			continue
		}
		for v := range ownVars(e) {
			if !bound.Contains(v) {
				unknown[v] = c
			}
		}
	}
	for _, c := range clusters {
		if c != nil {
			place := func(e *ast.Expr) int { return slices.Index(body, e) }
			slices.SortFunc(c.exprs, func(a, b *ast.Expr) int { return place(a) - place(b) })
		}
	}
	return clusters, known
}

// isGenerator is whether an expression without premises may have several solutions.
func isGenerator(e *ast.Expr, bound ast.VarSet) bool {
	if e.Negated {
		return false
	}
	switch terms := e.Terms.(type) {
	case *ast.Term:
		return iterates(terms, bound)
	case []*ast.Term:
		if e.IsEquality() {
			return iterates(terms[1], bound) || iterates(terms[2], bound)
		}
		return terms[0].Value.Compare(ast.WalkBuiltin.Ref()) == 0
	}
	return false
}

// iterates is whether a term is a reference with a part that is not known.
func iterates(t *ast.Term, bound ast.VarSet) bool {
	ref, ok := t.Value.(ast.Ref)
	if !ok {
		return false
	}
	for v := range varsOf(ref) {
		if !bound.Contains(v) {
			return true
		}
	}
	return false
}

// splitParts joins the expressions that share variables which are not bound from
// outside, and then the parts of which neither has several solutions.
func splitParts(exprs []*ast.Expr, outer ast.VarSet, generates, isPremise []bool) []ast.Body {
	of := make([]int, len(exprs))
	for i := range of {
		of[i] = i
	}
	join := func(i, j int) {
		from, to := max(of[i], of[j]), min(of[i], of[j])
		for k := range of {
			if of[k] == from {
				of[k] = to
			}
		}
	}
	owner := make(map[ast.Var]int)
	for i, e := range exprs {
		if e == nil {
			continue
		}
		for v := range varsOf(e) {
			if outer.Contains(v) {
				continue
			}
			if first, ok := owner[v]; ok {
				join(first, i)
			} else {
				owner[v] = i
			}
		}
	}
	known, single := -1, -1
	for i := range exprs {
		if exprs[i] == nil {
			continue
		}
		several, premises := false, false
		for j := range exprs {
			if of[j] == of[i] && exprs[j] != nil {
				several = several || generates[j]
				premises = premises || isPremise[j]
			}
		}
		switch {
		case several && premises:
		case several && known < 0:
			known = i
		case several:
			join(known, i)
		case single < 0:
			single = i
		default:
			join(single, i)
		}
	}
	var bodies []ast.Body
	place := make(map[int]int)
	for i, e := range exprs {
		if e == nil {
			continue
		}
		n, ok := place[of[i]]
		if !ok {
			n = len(bodies)
			place[of[i]] = n
			bodies = append(bodies, nil)
		}
		bodies[n] = append(bodies[n], e)
	}
	return bodies
}

// premise plans a premise and returns the call that stands for it.
func (p *planner) premise(exprs []*ast.Expr, bound ast.VarSet) *ast.Expr {
	l, ok := p.planSingle(exprs, bound)
	if !ok {
		l, ok = p.planCollected(exprs, bound)
	}
	if !ok {
		l = premise{kind: isGroup, body: exprs}
		l.given(l.body, bound)
	}
	if l.at = exprs[len(exprs)-1].Location; l.at == nil { // an operand of rego.v2
		l.at = p.rule.Location
	}
	number := ast.IntNumberTerm(len(p.premises))
	p.premises = append(p.premises, l)
	terms := []*ast.Term{premiseOperator, number, ast.ArrayTerm(l.args...)}
	if l.out != nil {
		terms = append(terms, l.out)
	}
	call := ast.NewExpr(terms)
	call.Location = l.at
	return call
}

// premiseDecl is the function that stands for premises: of the premise's number
// and the values of its args. Of isEach, it has several values.
var premiseDecl = &ast.Builtin{
	Name: "stagedoor.premise",
	Decl: types.NewFunction(types.Args(types.N, types.A), types.A),
}

var premiseOperator = ast.NewTerm(premiseDecl.Ref())

// given makes the premise one of the values that the known variables of x have.
func (l *premise) given(x any, bound ast.VarSet) {
	for _, v := range varsOf(x).Sorted() {
		if bound.Contains(v) {
			l.vars = append(l.vars, ast.NewTerm(v))
		}
	}
	l.args = l.vars
}

// planSingle plans the premises that are a single expression of a known form.
func (p *planner) planSingle(exprs []*ast.Expr, bound ast.VarSet) (premise, bool) {
	e := exprs[0]
	if len(exprs) > 1 || len(e.With) > 0 {
		return premise{}, false
	}
	if l, ok := p.planEach(e); ok {
		return l, true
	}
	l := premise{negated: e.Negated}
	switch terms := e.Terms.(type) {
	case *ast.Term:
		l.kind, l.doc = isDocument, p.documentAt(terms)
		return l, l.doc != nil
	case []*ast.Term:
		if e.IsEquality() {
			return p.negatedEquality(l, e, bound)
		}
		return p.planCall(l, e, terms)
	case *ast.Not:
		l.kind, l.negated = isBody, !e.Negated
		l.lhs = p.planBody(terms.Body, bound)
	case *ast.LogicalAnd:
		l.kind = isAnd
		l.lhs, l.rhs = p.planBody(terms.Lhs, bound), p.planBody(terms.Rhs, bound)
	case *ast.LogicalOr:
		l.kind = isOr
		l.lhs, l.rhs = p.planBody(terms.Lhs, bound), p.planBody(terms.Rhs, bound)
	case *ast.Every:
		return p.planEvery(l, terms, bound)
	default:
		return premise{}, false
	}
	l.given(e, bound)
	return l, true
}

// documentAt is the document that a term refers to, if it is one and no function.
func (p *planner) documentAt(t *ast.Term) *document {
	doc := p.documents.at(refOf(t))
	if doc == nil || doc.function {
		return nil
	}
	return doc
}

// planEach plans an expression that binds something to a value which a proof knows: of
// a document, a question or the elements of a partial set.
func (p *planner) planEach(e *ast.Expr) (premise, bool) {
	l := premise{kind: isEach}
	if e.Negated || len(e.With) > 0 {
		return l, false
	}
	if terms, ok := e.Terms.([]*ast.Term); ok && !e.IsEquality() {
		last := len(terms) - 1
		l.args, l.out = terms[1:last], terms[last]
		if l.rule = p.questions[e]; l.rule != nil {
			return l, len(l.args) == 2
		}
		function := refOf(terms[0])
		l.doc = p.documents.at(function)
		return l, l.doc != nil && len(l.args) == p.compiler.GetArity(function)
	}
	if e.IsEquality() {
		for i := range 2 {
			l.doc, l.out = p.documentAt(e.Operand(i)), e.Operand(1-i)
			if l.doc != nil {
				return l, !p.depends(l.out)
			}
		}
	}
	ref, x, y := iterated(e)
	if ref == nil || p.depends(x) {
		return l, false
	}
	l.of, l.out, l.pair = p.collectionAt(ref), ast.ArrayTerm(x, y), true
	return l, l.of != nil
}

// negatedEquality plans not d = x.
func (p *planner) negatedEquality(l premise, e *ast.Expr, bound ast.VarSet) (premise, bool) {
	l.kind = isElement
	for i := range 2 {
		other := e.Operand(1 - i)
		if l.doc = p.documentAt(e.Operand(i)); l.doc != nil && e.Negated && isKnown(other, bound) {
			l.args = []*ast.Term{other}
			return l, true
		}
	}
	return l, false
}

// planCall plans the call of a permission rule or of a function, whose result is not
// used otherwise.
func (p *planner) planCall(l premise, e *ast.Expr, terms []*ast.Term) (premise, bool) {
	l.args = terms[1:]
	if rule := p.questions[e]; rule != nil {
		l.kind, l.rule = isQuestion, rule
		return l, len(l.args) == 2
	}
	function := refOf(terms[0])
	l.kind, l.doc = isDocument, p.documents.at(function)
	return l, l.doc != nil && len(l.args) == p.compiler.GetArity(function)
}

func (p *planner) planEvery(l premise, every *ast.Every, bound ast.VarSet) (premise, bool) {
	inner := bound.Copy()
	if every.Key == nil || p.depends(every.Domain) {
		return premise{}, false
	}
	inner.Update(varsOf(every.Key))
	inner.Update(varsOf(every.Value))
	l.kind, l.every = isEvery, every
	l.lhs = p.planBody(every.Body, inner)
	l.given(&ast.Expr{Terms: every}, bound)
	return l, true
}
