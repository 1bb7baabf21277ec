// Package evaluation interprets what OPA's compiler made of a policy, with symbols in place
// of the caller and the resource. The literature calls that symbolic execution (King 1976),
// with guarded values: each value is found with the function that says where it is one.
//
// A frame is a body that is evaluated (body.go), with the values of its variables. It refers
// to documents that rules define, and to data (document.go), and it calls functions and
// builtins (call.go). At the end of a body its elements are closed. What a document has for
// values is found once for all who refer to it.
//
// What cannot be said is an [*OutsideError], with file and line.
package evaluation

import (
	"fmt"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"

	"github.com/stagedoor/stagedoor/adapter/anyone/call"
	"github.com/stagedoor/stagedoor/adapter/anyone/scope"
	"github.com/stagedoor/stagedoor/adapter/anyone/theory"
	"github.com/stagedoor/stagedoor/adapter/criteria"
	"github.com/stagedoor/stagedoor/adapter/explore"
	"github.com/stagedoor/stagedoor/adapter/reading/ruleindex"
)

// A Question is put to a policy by one kind of caller.
type Question struct {
	call.Functions
	Compiler    *ast.Compiler                      // of the policy
	Permissions map[string]*explore.PermissionRule // by the path of their function
	Store       storage.Store                      // of the data
	Txn         storage.Transaction                // in which the data is read
	// Input has symbols for the caller and the resource.
	Input *ast.Term
	// ResourceType is that of the permission.
	ResourceType string
}

// Values finds the values of a reference to data. It returns where the evaluation fails.
func (q Question) Values(ref ast.Ref, found call.Found) (fails criteria.Function, err error) {
	w := &world{
		Question: q, foreign: make(map[string]criteria.Function), docs: make(map[string][]call.Outcome),
		sets: make(map[string]*ast.Term),
	}
	f := w.frame(scope.New(q.Theory, q.Compiler, q.Store, q.Txn, q.Input))
	err = f.wrong(f.data(ref, criteria.Granted, found))
	return f.fails, err
}

// world is one question, with what was found out so far.
type world struct {
	Question
	asked   *explore.PermissionRule
	foreign map[string]criteria.Function

	steps int
	docs  map[string][]call.Outcome
	sets  map[string]*ast.Term
}

// maxSteps is how many expressions are evaluated for one question.
const maxSteps = 1_000_000

func (w *world) count() error {
	if w.steps++; w.steps > maxSteps {
		return fmt.Errorf("more than %d steps", maxSteps)
	}
	if w.steps%256 == 0 {
		return w.Ctx.Err()
	}
	return nil
}

// ref finds the values of a reference.
func (f *frame) ref(ref ast.Ref, where criteria.Function, found call.Found) error {
	switch head := ref[0]; {
	case head.Equal(ast.DefaultRootDocument):
		return f.data(ref, where, found)
	case head.Equal(ast.InputRootDocument):
		if f.scope.Input == nil {
			return nil
		}
		return f.walk(f.scope.Input, ref[1:], where, found)
	default:
		return f.values(head, where, func(v *ast.Term, where criteria.Function) error {
			return f.walk(v, ref[1:], where, found)
		})
	}
}

// data finds the values of a reference to data: of rules as far as there are any, and of
// the data itself.
func (f *frame) data(ref ast.Ref, where criteria.Function, found call.Found) error {
	path := ast.Ref{ref[0]}
	node := f.Compiler.RuleTree.Child(ast.DefaultRootDocument.Value)
	for i := 1; ; i++ {
		switch v, is, err := f.scope.ReplacedAt(path); {
		case err != nil:
			return err
		case is:
			return f.walk(v, ref[i:], where, found)
		}
		if node == nil {
			return f.baseData(path, ref[i:], where, found)
		}
		if len(node.Values) > 0 {
			return f.ruled(node, path, ref[i:], where, found)
		}
		if i == len(ref) {
			return f.whole(node, path, where, found)
		}
		bound := true
		var at *ast.Term
		switch key := ref[i].Value.(type) {
		case ast.Var:
			at, bound = f.vars[key]
		default:
			at = ref[i]
		}
		if !bound || f.Symbolic(at) {
			if len(node.Children) == 0 {
				return f.baseData(path, ref[i:], where, found)
			}
			return f.outside("this goes over all that there is at %v", path)
		}
		path = append(path, at)
		node = node.Child(at.Value)
	}
}

// baseData finds values in the data.
func (f *frame) baseData(path, rest ast.Ref, where criteria.Function, found call.Found) error {
	for len(rest) > 0 { // as far as the path is known
		at := rest[0]
		if v, ok := at.Value.(ast.Var); ok {
			if at = f.vars[v]; at == nil {
				break
			}
		}
		if _, ok := at.Value.(ast.String); !ok || f.Symbolic(at) {
			break
		}
		path, rest = append(path[:len(path):len(path)], at), rest[1:]
	}
	v, err := f.scope.Read(f.Ctx, path)
	if err != nil || v == nil {
		return err
	}
	return f.walkData(v, rest, where, found)
}

// walkData finds the values at a path in the data. OPA reads that by paths of text, where
// 1 and "1" are the same key.
func (f *frame) walkData(v *ast.Term, path ast.Ref, where criteria.Function, found call.Found) error {
	if len(path) == 0 {
		return found(v, where)
	}
	at := path[0]
	next := func(v *ast.Term, where criteria.Function) error { return f.walkData(v, path[1:], where, found) }
	if f.isPattern(at) {
		return f.over(v, at, where, next)
	}
	return f.values(at, where, func(key *ast.Term, where criteria.Function) error {
		key, err := f.keyOfData(v, key)
		if err != nil {
			return err
		}
		return f.lookup(v, key, where, next)
	})
}

// keyOfData is a key of data as what stands there has it.
func (f *frame) keyOfData(v, key *ast.Term) (*ast.Term, error) {
	_, isObject := v.Value.(ast.Object)
	_, isArray := v.Value.(*ast.Array)
	switch k := key.Value.(type) {
	case ast.String:
		s := f.SymbolOf(key)
		switch {
		case s == nil && isArray:
			return nil, f.outside("a text is the position in a list here")
		case s != nil && isObject && s.Of == nil && !s.IsText():
			return nil, f.outside("a key of the data is made of the caller here, and no text")
		}
	case ast.Number:
		if isObject && f.scope.ReplacesData() {
			return nil, f.outside("a number is a key of data here, of which with replaces a part")
		}
		if isObject {
			return ast.StringTerm(k.String()), nil
		}
	case *ast.Array, ast.Set, ast.Object:
		if !f.scope.ReplacesData() {
			return nil, f.outside("the evaluation fails here, since a list, set or object is no key of the data")
		}
	}
	return key, nil
}

// whole is all that there is at a path of rules.
func (f *frame) whole(node *ast.TreeNode, path ast.Ref, where criteria.Function, found call.Found) error {
	v, err := f.scope.Read(f.Ctx, path)
	if err != nil {
		return err
	}
	c := &theory.Collection{Shape: theory.Object}
	if v != nil {
		if o, ok := v.Value.(ast.Object); ok {
			o.Foreach(func(key, value *ast.Term) {
				if node.Child(key.Value) == nil {
					c.Members = append(c.Members, theory.Member{Key: key, Value: value, Where: criteria.Granted})
				}
			})
		}
	}
	for _, key := range node.Sorted {
		child := node.Child(key)
		if child == nil || len(child.Values) > 0 && len(child.Values[0].Head.Args) > 0 {
			continue
		}
		at := slices.Concat(path, ast.Ref{ast.NewTerm(key)})
		err := f.data(at, criteria.Granted, func(v *ast.Term, where criteria.Function) error {
			return f.addMember(c, theory.Member{Key: ast.NewTerm(key), Value: v, Where: where})
		})
		if err != nil {
			return err
		}
	}
	term, err := f.joined(c)
	if err != nil {
		return err
	}
	return found(term, where)
}

// ruled finds the values of what rules define at a path.
func (f *frame) ruled(node *ast.TreeNode, path, rest ast.Ref, where criteria.Function, found call.Found) error {
	ground := len(node.Children) == 0
	for _, r := range node.Values {
		ground = ground && r.Ref().IsGround()
	}
	switch first := node.Values[0]; {
	case len(first.Head.Args) > 0:
		return f.outside("%v is a function", path)
	case !ground:
		term, err := f.partialObject(node, path)
		if err != nil {
			return err
		}
		return f.walk(term, rest, where, found)
	case first.Head.RuleKind() == ast.MultiValue:
		term, err := f.partialSet(node, path)
		if err != nil {
			return err
		}
		return f.walk(term, rest, where, found)
	}
	outcomes, err := f.outcomes(path, node.Values, nil)
	if err != nil {
		return err
	}
	return f.each(outcomes, where, func(v *ast.Term, where criteria.Function) error {
		return f.walk(v, rest, where, found)
	})
}

// each goes on with each value of a document.
func (f *frame) each(outcomes []call.Outcome, where criteria.Function, found call.Found) error {
	for _, o := range outcomes {
		at := f.Space.All(where, o.Where)
		if at == criteria.Denied {
			continue
		}
		if o.Fails {
			if err := f.fail(at); err != nil {
				return err
			}
			continue
		}
		if err := found(o.Value, at); err != nil {
			return err
		}
	}
	return nil
}

// document runs something that is the same for all who refer to a document.
func (f *frame) document(key string) (*frame, string) {
	return f.frame(f.scope), key + "\n" + f.scope.Key
}

// partialSet is the set that rules define.
func (f *frame) partialSet(node *ast.TreeNode, path ast.Ref) (*ast.Term, error) {
	doc, key := f.document(path.String())
	if known, ok := f.sets[key]; ok {
		return known, nil
	}
	c := &theory.Collection{Shape: theory.Set}
	for _, rule := range node.Values {
		if err := doc.partial(rule, func(body *frame, where criteria.Function) error {
			return body.memberOfHead(c, nil, rule.Head.Key, where)
		}); err != nil {
			return nil, err
		}
	}
	term, err := doc.joined(c)
	if err == nil {
		f.sets[key] = term
	}
	return term, err
}

// partial evaluates the body of a rule that defines members of something.
func (f *frame) partial(rule *ast.Rule, found func(*frame, criteria.Function) error) error {
	if rule.Else != nil {
		return f.outside("an else of a rule that is not complete")
	}
	body := f.frame(f.scope)
	body.at = rule.Location
	if err := body.indexed(rule); err != nil {
		return err
	}
	if err := body.solve(rule.Body, criteria.Granted, func(where criteria.Function) error {
		return found(body, where)
	}); err != nil {
		return err
	}
	if body.fails != criteria.Denied {
		return body.outside("the evaluation can fail here")
	}
	return nil
}

// partialObject is the object that rules define at a path and below.
func (f *frame) partialObject(node *ast.TreeNode, path ast.Ref) (*ast.Term, error) {
	doc, key := f.document(path.String())
	if known, ok := f.sets[key]; ok {
		return known, nil
	}
	doc.at = firstOf(node)
	term, err := doc.object(node, path)
	if err == nil {
		f.sets[key] = term
	}
	return term, err
}

func firstOf(node *ast.TreeNode) *ast.Location {
	if len(node.Values) == 0 {
		return nil
	}
	return node.Values[0].Location
}

// object puts together an object whose keys are variables, constants or both. Below a
// key there can be sets and objects of the same kind.
func (f *frame) object(node *ast.TreeNode, path ast.Ref) (*ast.Term, error) {
	c := &theory.Collection{Shape: theory.Object}
	sets := make(map[string]*theory.Collection) // by the key under which they stand
	keys := make(map[string]*ast.Term)
	var order []string
	for _, rule := range node.Values {
		tail := rule.Ref()[len(path):]
		if len(tail) > 2 || len(tail) == 2 && rule.Head.RuleKind() != ast.MultiValue && !f.allPairs(node, path) {
			return nil, f.outside("an object of objects whose keys depend on something")
		}
		err := f.partial(rule, func(body *frame, where criteria.Function) error {
			if len(tail) == 0 {
				return body.outside("a value and members of it at one path")
			}
			return body.list(tail, nil, where, func(at []*ast.Term, where criteria.Function) error {
				if rule.Head.RuleKind() == ast.MultiValue || len(at) == 2 {
					if f.Symbolic(at[0]) {
						return body.outside("an object of sets whose keys are claims")
					}
					of, ok := sets[at[0].String()]
					if !ok {
						of = &theory.Collection{Shape: theory.Set}
						if len(at) == 2 {
							of.Shape = theory.Object
						}
						sets[at[0].String()], keys[at[0].String()] = of, at[0]
						order = append(order, at[0].String())
					}
					if rule.Head.RuleKind() == ast.MultiValue {
						if len(at) == 2 {
							return body.outside("an object of objects of sets")
						}
						return body.memberOfHead(of, nil, rule.Head.Key, where)
					}
					return body.memberOfHead(of, at[1], rule.Head.Value, where)
				}
				return body.memberOfHead(c, at[0], rule.Head.Value, where)
			})
		})
		if err != nil {
			return nil, err
		}
	}
	for _, key := range order {
		term, err := f.joined(sets[key])
		if err != nil {
			return nil, err
		}
		some, err := f.AnyMember(sets[key].Members)
		if err != nil {
			return nil, err
		}
		c.Members = append(c.Members, theory.Member{Key: keys[key], Value: term, Where: some})
	}
	for _, key := range node.Sorted {
		if child := node.Child(key); child != nil && len(child.Values) > 0 {
			at := slices.Concat(path, ast.Ref{ast.NewTerm(key)})
			if err := f.ruled(child, at, nil, criteria.Granted, func(v *ast.Term, where criteria.Function) error {
				return f.addMember(c, theory.Member{Key: ast.NewTerm(key), Value: v, Where: where})
			}); err != nil {
				return nil, err
			}
		}
	}
	return f.joined(c)
}

// allPairs is whether all rules of an object have two keys.
func (f *frame) allPairs(node *ast.TreeNode, path ast.Ref) bool {
	return !slices.ContainsFunc(node.Values, func(r *ast.Rule) bool {
		return len(r.Ref()) != len(path)+2 || r.Head.RuleKind() == ast.MultiValue
	})
}

// outcomes finds the values of a complete rule, or of a function for some arguments.
func (f *frame) outcomes(path ast.Ref, rules []*ast.Rule, args []*ast.Term) ([]call.Outcome, error) {
	doc, key := f.document(path.String() + "(" + f.Texts(args) + ")")
	if known, ok := f.docs[key]; ok {
		return known, nil
	}
	outcomes, err := doc.evaluate(rules, args)
	if err == nil {
		f.docs[key] = outcomes
	}
	return outcomes, err
}

func (f *frame) evaluate(rules []*ast.Rule, args []*ast.Term) ([]call.Outcome, error) {
	none := criteria.Granted
	fails := criteria.Denied
	var found []call.Outcome
	var fallback *ast.Rule
	for _, rule := range rules {
		if rule.Default {
			fallback = rule
			continue
		}
		taken := criteria.Denied
		for r := rule; r != nil; r = r.Else {
			values, failed, err := f.clause(r, args)
			if err != nil {
				return nil, err
			}
			fails = f.Space.Any(fails, f.Space.All(failed, taken.Not()))
			here := criteria.Denied
			for _, v := range values {
				v.Where = f.Space.All(v.Where, taken.Not())
				found = append(found, v)
				here = f.Space.Any(here, v.Where)
			}
			taken = f.Space.Any(taken, here)
		}
		none = f.Space.All(none, taken.Not())
	}
	f.at = rules[0].Location
	if fails != criteria.Denied {
		for _, o := range found {
			if f.Possible(f.Space.All(fails, o.Where)) {
				return nil, f.outside("the evaluation can fail here, or not, by the order of evaluation")
			}
		}
		found = append(found, call.Outcome{Fails: true, Where: fails})
	}
	found, err := f.Settled(found)
	if err != nil {
		return nil, err
	}
	if fallback != nil && none != criteria.Denied {
		body := f.frame(f.scope)
		body.at = fallback.Location
		where := f.Space.All(none, fails.Not())
		err := body.values(fallback.Head.Value, where, func(v *ast.Term, where criteria.Function) error {
			found = append(found, call.Outcome{Value: v, Where: where})
			return nil
		})
		if err != nil {
			return nil, body.wrong(err)
		}
	}
	return f.Merged(found), nil
}

// clause finds the values of one body.
func (f *frame) clause(rule *ast.Rule, args []*ast.Term) ([]call.Outcome, criteria.Function, error) {
	body := f.frame(f.scope)
	body.at = rule.Location
	if err := body.indexed(rule); err != nil {
		return nil, criteria.Denied, err
	}
	var found []call.Outcome
	err := body.matched(rule.Head.Args, args, criteria.Granted, func(where criteria.Function) error {
		return body.solve(rule.Body, where, func(where criteria.Function) error {
			return body.values(rule.Head.Value, where, func(v *ast.Term, where criteria.Function) error {
				if slices.ContainsFunc(f.FreeOf(v), func(n int) bool { return slices.Contains(body.elements, n) }) {
					return body.outside("the value of this rule is one of the caller's claims, of which there can be several")
				}
				where, err := f.Some(body.elements, where)
				found = append(found, call.Outcome{Value: v, Where: where})
				return err
			})
		})
	})
	return f.Merged(found), body.fails, body.wrong(err)
}

// indexed is an error where OPA leaves the rule out by its index, though it can hold.
func (f *frame) indexed(rule *ast.Rule) error {
	e := ruleindex.LeftOut(f.Compiler, rule)
	if e == nil {
		return nil
	}
	f.at = e.Location
	return f.outside("OPA's index of rules leaves this rule out")
}

// functionAt are the rules of a function of the policy's own.
func (w *world) functionAt(ref ast.Ref) []*ast.Rule {
	node := w.Compiler.RuleTree.Find(ref)
	if node == nil || len(node.Values) == 0 || len(node.Values[0].Head.Args) == 0 {
		return nil
	}
	return node.Values
}

// walk finds the values at a path in a value.
func (f *frame) walk(v *ast.Term, path ast.Ref, where criteria.Function, found call.Found) error {
	if len(path) == 0 {
		return found(v, where)
	}
	if where == criteria.Denied {
		return nil
	}
	at := path[0]
	next := func(v *ast.Term, where criteria.Function) error { return f.walk(v, path[1:], where, found) }
	if f.isPattern(at) {
		return f.over(v, at, where, next)
	}
	return f.values(at, where, func(key *ast.Term, where criteria.Function) error {
		return f.lookup(v, key, where, next)
	})
}

// over goes on with each member of a value.
func (f *frame) over(v, at *ast.Term, where criteria.Function, found call.Found) error {
	s := f.SymbolOf(v)
	bind := func(key, v *ast.Term, where criteria.Function) error {
		return f.unify(at, key, where, func(where criteria.Function) error { return found(v, where) })
	}
	if s == nil {
		var err error
		each := func(key, v *ast.Term) {
			if err == nil {
				err = bind(key, v, where)
			}
		}
		switch v := v.Value.(type) {
		case *ast.Array:
			for i := range v.Len() {
				each(ast.InternedTerm(i), v.Elem(i))
			}
		case ast.Object:
			v.Foreach(each)
		case ast.Set:
			v.Foreach(func(e *ast.Term) { each(e, e) })
		}
		return err
	}
	switch {
	case s.Kind == theory.KindClaims,
		s.Of == nil && !s.IsText() && s.Kind != theory.KindResource && s.Kind != theory.KindPosition:
		if _, object := s.Type.(interface{ Keys() []any }); object || !theory.Iterable(s) {
			return f.outside("this goes over something that is made of the caller")
		}
		e := f.Element(v)
		f.elements = append(f.elements, e.Number)
		err := bind(f.Position(e.Token), e.Token, where)
		f.elements = f.elements[:len(f.elements)-1]
		return err
	case s.Of != nil:
		for _, m := range s.Of.Members {
			m = f.Fresh(m)
			key := m.Key
			switch s.Of.Shape {
			case theory.Set:
				key = m.Value
			case theory.List:
				key = f.Position(m.Value)
			}
			f.elements = append(f.elements, m.Over...)
			err := bind(key, m.Value, f.Space.All(where, m.Where))
			f.elements = f.elements[:len(f.elements)-len(m.Over)]
			if err != nil {
				return err
			}
		}
		return nil
	case s.IsText():
		return nil
	}
	return f.outside("this goes over something that is made of the caller")
}

// lookup goes on with what stands at a key of a value.
func (f *frame) lookup(v, key *ast.Term, where criteria.Function, found call.Found) error {
	s, at := f.SymbolOf(v), f.SymbolOf(key)
	if at != nil && at.Kind == theory.KindPosition {
		return f.outside("this looks at the place of a claim in the list")
	}
	if at != nil && at.Of != nil && s == nil {
		return f.outside("a collection that depends on the caller is a key here")
	}
	switch {
	case s == nil && !f.Symbolic(key):
		value, err := v.Value.Find(ast.Ref{key})
		if err != nil {
			if set, ok := v.Value.(ast.Set); ok && set.Contains(key) {
				return found(key, where)
			}
			return nil
		}
		return found(ast.NewTerm(value), where)
	case s == nil:
		var err error
		each := func(k, v *ast.Term) {
			if err != nil {
				return
			}
			var is criteria.Function
			if is, err = f.Equal(k, key); err == nil && is != criteria.Denied {
				err = f.narrowed(key, k, f.Space.All(where, is), func(where criteria.Function) error {
					return found(v, where)
				})
			}
		}
		switch v := v.Value.(type) {
		case *ast.Array:
			// OPA reads data by paths of text, where "1" is the second element.
			return f.outside("something that depends on the caller is the position in a list here")
		case ast.Object:
			v.Foreach(each)
		case ast.Set:
			v.Foreach(func(e *ast.Term) { each(e, e) })
		}
		return err
	case s.Of != nil:
		return f.lookupIn(s.Of, key, where, found)
	case s.IsText():
		return nil
	case s.Kind == theory.KindResource:
		return f.outside("this looks into the resource")
	case s.Kind == theory.KindClaims, s.Kind == theory.KindCall, s.Kind == theory.KindIndex,
		s.Kind == theory.KindElement:
		if !f.Symbolic(key) {
			if _, ok := key.Value.(ast.Number); !ok && theory.Iterable(s) {
				return nil
			}
		}
		i := f.Index(v, key)
		return found(i.Token, f.Space.All(where, f.Defined(i.Token)))
	}
	return f.outside("this looks into something that is made of the caller")
}

// lookupIn goes on with the members of a collection that have a key.
func (f *frame) lookupIn(c *theory.Collection, key *ast.Term, where criteria.Function, found call.Found) error {
	if c.Shape == theory.List {
		return f.outside("this looks at a place in a list that depends on the caller")
	}
	for _, m := range c.Members {
		m = f.Fresh(m)
		is, err := f.Equal(theory.KeyOf(c.Shape, m), key)
		if err != nil {
			return err
		}
		if is = f.Space.All(where, is, m.Where); is == criteria.Denied {
			continue
		}
		f.elements = append(f.elements, m.Over...)
		err = f.narrowed(key, theory.KeyOf(c.Shape, m), is, func(where criteria.Function) error {
			return found(m.Value, where)
		})
		f.elements = f.elements[:len(f.elements)-len(m.Over)]
		if err != nil {
			return err
		}
	}
	return nil
}
