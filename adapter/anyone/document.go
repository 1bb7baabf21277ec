package anyone

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"

	"github.com/stagedoor/stagedoor/adapter/criteria"
	"github.com/stagedoor/stagedoor/adapter/explore"
)

// world is one question put to one policy for one kind of caller.
type world struct {
	*theory
	*Policy
	ctx          context.Context //nolint:containedctx // A world is one question and ends with it.
	txn          storage.Transaction
	now          time.Time
	resourceType string
	basic        bool
	asked        *explore.PermissionRule
	foreign      map[string]criteria.Function

	steps int
	base  map[string]*ast.Term
	docs  map[string][]outcome
	sets  map[string]*ast.Term
}

// outcome is a value, or that the evaluation fails, and where it is so.
type outcome struct {
	value *ast.Term
	fails bool
	where criteria.Function
}

// scope is what input and data are: withs change them.
type scope struct {
	input    *ast.Term // nil where it is not defined
	replaced []replacement
	key      string
}

type replacement struct {
	path  ast.Ref
	value *ast.Term
}

func (s *scope) child() *scope {
	return &scope{input: s.input, replaced: slices.Clone(s.replaced), key: s.key}
}

// replace replaces a part of the input or the data.
func (s *scope) replace(w *world, target ast.Ref, value *ast.Term) error {
	s.key += "\n" + target.String() + " as " + w.textOf(value)
	for _, part := range target[1:] {
		if _, ok := part.Value.(ast.String); !ok {
			return errors.New("with replaces something whose place is not constant")
		}
	}
	switch {
	case target[0].Equal(ast.InputRootDocument):
		input, err := w.upsert(s.input, target[1:], value)
		s.input = input
		return err
	case target[0].Equal(ast.DefaultRootDocument):
		node := w.compiler.RuleTree.Find(target)
		if node != nil && slices.ContainsFunc(node.Values, func(r *ast.Rule) bool { return len(r.Head.Args) > 0 }) {
			return errors.New("with replaces a function")
		}
		s.replaced = append(s.replaced, replacement{target, value})
		return nil
	}
	return errors.New("with replaces a function")
}

// upsert is a value with another one at a path in it.
func (w *world) upsert(in *ast.Term, at ast.Ref, value *ast.Term) (*ast.Term, error) {
	if len(at) == 0 {
		return value, nil
	}
	object := ast.NewObject()
	if in != nil {
		if s := w.symbolOf(in); s != nil && !s.isText() {
			return nil, errors.New("with replaces a part of something that is made of the caller")
		}
		if o, ok := in.Value.(ast.Object); ok {
			o.Foreach(object.Insert)
		}
	}
	inner, err := w.upsert(object.Get(at[0]), at[1:], value)
	object.Insert(at[0], inner)
	return ast.NewTerm(object), err
}

// maxSteps is how many expressions are evaluated for one question.
const maxSteps = 1_000_000

func (w *world) count() error {
	if w.steps++; w.steps > maxSteps {
		return fmt.Errorf("more than %d steps", maxSteps)
	}
	if w.steps%256 == 0 {
		return w.ctx.Err()
	}
	return nil
}

// possible is whether a function holds for some caller and resource.
func (w *world) possible(f criteria.Function) bool {
	if f == criteria.Denied {
		return false
	}
	never, err := w.space.Implies(f, criteria.Denied)
	return err != nil || !never
}

// ref finds the values of a reference.
func (f *frame) ref(ref ast.Ref, where criteria.Function, found value) error {
	switch head := ref[0]; {
	case head.Equal(ast.DefaultRootDocument):
		return f.data(ref, where, found)
	case head.Equal(ast.InputRootDocument):
		if f.scope.input == nil {
			return nil
		}
		return f.walk(f.scope.input, ref[1:], where, found)
	default:
		return f.values(head, where, func(v *ast.Term, where criteria.Function) error {
			return f.walk(v, ref[1:], where, found)
		})
	}
}

// data finds the values of a reference to data: of rules as far as there are any, and of
// the data itself.
func (f *frame) data(ref ast.Ref, where criteria.Function, found value) error {
	path := ast.Ref{ref[0]}
	node := f.compiler.RuleTree.Child(ast.DefaultRootDocument.Value)
	for i := 1; ; i++ {
		for _, r := range slices.Backward(f.scope.replaced) {
			if r.path.Equal(path) {
				return f.walk(r.value, ref[i:], where, found)
			}
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
		if !bound || f.symbolic(at) {
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
func (f *frame) baseData(path, rest ast.Ref, where criteria.Function, found value) error {
	for len(rest) > 0 { // as far as the path is known
		at := rest[0]
		if v, ok := at.Value.(ast.Var); ok {
			if at = f.vars[v]; at == nil {
				break
			}
		}
		if _, ok := at.Value.(ast.String); !ok || f.symbolic(at) {
			break
		}
		path, rest = append(path[:len(path):len(path)], at), rest[1:]
	}
	v, err := f.baseValue(path)
	if err != nil || v == nil {
		return err
	}
	return f.walk(v, rest, where, found)
}

// baseValue is what stands in the data at a path, or nil.
func (f *frame) baseValue(path ast.Ref) (*ast.Term, error) {
	key := path.String()
	v, ok := f.base[key]
	if !ok {
		at, err := storage.NewPathForRef(path)
		if err != nil {
			return nil, err
		}
		switch read, err := f.store.Read(f.ctx, f.txn, at); {
		case storage.IsNotFound(err):
		case err != nil:
			return nil, err
		default:
			value, isValue := read.(ast.Value)
			if !isValue {
				if value, err = ast.InterfaceToValue(read); err != nil {
					return nil, err
				}
			}
			v = ast.NewTerm(value)
		}
		f.base[key] = v
	}
	for _, r := range f.scope.replaced {
		var err error
		switch {
		case path.HasPrefix(r.path):
			v = r.value
			for _, part := range path[len(r.path):] {
				if v = f.memberAt(v, part); v == nil {
					return nil, nil //nolint:nilnil // there is none
				}
			}
		case r.path.HasPrefix(path):
			v, err = f.upsert(v, r.path[len(path):], r.value)
		}
		if err != nil {
			return nil, err
		}
	}
	return v, nil
}

func (f *frame) memberAt(v, key *ast.Term) *ast.Term {
	if f.symbolOf(v) != nil {
		return nil
	}
	found, err := v.Value.Find(ast.Ref{key})
	if err != nil {
		return nil
	}
	return ast.NewTerm(found)
}

// whole is all that there is at a path of rules.
func (f *frame) whole(node *ast.TreeNode, path ast.Ref, where criteria.Function, found value) error {
	v, err := f.baseValue(path)
	if err != nil {
		return err
	}
	c := &collection{shape: isObject}
	if v != nil {
		if o, ok := v.Value.(ast.Object); ok {
			o.Foreach(func(key, value *ast.Term) {
				if node.Child(key.Value) == nil {
					c.members = append(c.members, member{key: key, value: value, where: criteria.Granted})
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
			return f.addMember(c, member{key: ast.NewTerm(key), value: v, where: where})
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
func (f *frame) ruled(node *ast.TreeNode, path, rest ast.Ref, where criteria.Function, found value) error {
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
func (f *frame) each(outcomes []outcome, where criteria.Function, found value) error {
	for _, o := range outcomes {
		at := f.space.All(where, o.where)
		if at == criteria.Denied {
			continue
		}
		if o.fails {
			if err := f.fail(at); err != nil {
				return err
			}
			continue
		}
		if err := found(o.value, at); err != nil {
			return err
		}
	}
	return nil
}

// document runs something that is the same for all who refer to a document.
func (f *frame) document(key string) (*frame, string) {
	return f.frame(f.scope), key + "\n" + f.scope.key
}

// partialSet is the set that rules define.
func (f *frame) partialSet(node *ast.TreeNode, path ast.Ref) (*ast.Term, error) {
	doc, key := f.document(path.String())
	if known, ok := f.sets[key]; ok {
		return known, nil
	}
	c := &collection{shape: isSet}
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
	c := &collection{shape: isObject}
	sets := make(map[string]*collection) // by the key under which they stand
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
					if f.symbolic(at[0]) {
						return body.outside("an object of sets whose keys are claims")
					}
					of, ok := sets[at[0].String()]
					if !ok {
						of = &collection{shape: isSet}
						if len(at) == 2 {
							of.shape = isObject
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
		some, err := f.anyMember(sets[key].members)
		if err != nil {
			return nil, err
		}
		c.members = append(c.members, member{key: keys[key], value: term, where: some})
	}
	for _, key := range node.Sorted {
		if child := node.Child(key); child != nil && len(child.Values) > 0 {
			at := slices.Concat(path, ast.Ref{ast.NewTerm(key)})
			if err := f.ruled(child, at, nil, criteria.Granted, func(v *ast.Term, where criteria.Function) error {
				return f.addMember(c, member{key: ast.NewTerm(key), value: v, where: where})
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
func (f *frame) outcomes(path ast.Ref, rules []*ast.Rule, args []*ast.Term) ([]outcome, error) {
	doc, key := f.document(path.String() + "(" + f.texts(args) + ")")
	if known, ok := f.docs[key]; ok {
		return known, nil
	}
	outcomes, err := doc.evaluate(rules, args)
	if err == nil {
		f.docs[key] = outcomes
	}
	return outcomes, err
}

func (f *frame) evaluate(rules []*ast.Rule, args []*ast.Term) ([]outcome, error) {
	none := criteria.Granted
	fails := criteria.Denied
	var found []outcome
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
			fails = f.space.Any(fails, f.space.All(failed, taken.Not()))
			here := criteria.Denied
			for _, v := range values {
				v.where = f.space.All(v.where, taken.Not())
				found = append(found, v)
				here = f.space.Any(here, v.where)
			}
			taken = f.space.Any(taken, here)
		}
		none = f.space.All(none, taken.Not())
	}
	f.at = rules[0].Location
	if fails != criteria.Denied {
		for _, o := range found {
			if f.possible(f.space.All(fails, o.where)) {
				return nil, f.outside("the evaluation can fail here, or not, by the order of evaluation")
			}
		}
		found = append(found, outcome{fails: true, where: fails})
	}
	found, err := f.settled(found)
	if err != nil {
		return nil, err
	}
	if fallback != nil && none != criteria.Denied {
		found = append(found, outcome{value: fallback.Head.Value, where: f.space.All(none, fails.Not())})
	}
	return f.merged(found), nil
}

// settled makes a failure of the places where a document has two values.
func (f *frame) settled(found []outcome) ([]outcome, error) {
	found = f.merged(found)
	conflict := criteria.Denied
	for i, a := range found {
		for _, b := range found[:i] {
			if a.fails || b.fails {
				continue
			}
			alike, err := f.equal(a.value, b.value)
			if err != nil {
				return nil, err
			}
			if where := f.space.All(a.where, b.where, alike.Not()); f.possible(where) {
				conflict = f.space.Any(conflict, where)
			}
		}
	}
	if conflict == criteria.Denied {
		return found, nil
	}
	for i := range found {
		found[i].where = f.space.All(found[i].where, conflict.Not())
	}
	return append(found, outcome{fails: true, where: conflict}), nil
}

// merged joins outcomes that are the same, and leaves out those that never are.
func (f *frame) merged(outcomes []outcome) []outcome {
	var merged []outcome
	at := make(map[string]int)
	for _, o := range outcomes {
		if o.where == criteria.Denied {
			continue
		}
		key := "fails"
		if !o.fails {
			key = "value " + f.textOf(o.value)
		}
		if i, ok := at[key]; ok {
			merged[i].where = f.space.Any(merged[i].where, o.where)
			continue
		}
		at[key] = len(merged)
		merged = append(merged, o)
	}
	return merged
}

// clause finds the values of one body.
func (f *frame) clause(rule *ast.Rule, args []*ast.Term) ([]outcome, criteria.Function, error) {
	body := f.frame(f.scope)
	body.at = rule.Location
	var found []outcome
	err := body.matched(rule.Head.Args, args, criteria.Granted, func(where criteria.Function) error {
		return body.solve(rule.Body, where, func(where criteria.Function) error {
			return body.values(rule.Head.Value, where, func(v *ast.Term, where criteria.Function) error {
				if slices.ContainsFunc(f.freeOf(v), func(n int) bool { return slices.Contains(body.elements, n) }) {
					return body.outside("the value of this rule is one of the caller's claims, of which there can be several")
				}
				where, err := f.some(body.elements, where)
				found = append(found, outcome{value: v, where: where})
				return err
			})
		})
	})
	return f.merged(found), body.fails, body.wrong(err)
}

// isFunctionOf is whether a reference is to a function of the policy's own.
func (w *world) functionAt(ref ast.Ref) []*ast.Rule {
	node := w.compiler.RuleTree.Find(ref)
	if node == nil || len(node.Values) == 0 || len(node.Values[0].Head.Args) == 0 {
		return nil
	}
	return node.Values
}

// walk finds the values at a path in a value.
func (f *frame) walk(v *ast.Term, path ast.Ref, where criteria.Function, found value) error {
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
func (f *frame) over(v, at *ast.Term, where criteria.Function, found value) error {
	s := f.symbolOf(v)
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
	case s.kind == isClaims, s.of == nil && !s.isText() && s.kind != isResource && s.kind != isPosition:
		if _, object := s.is.(interface{ Keys() []any }); object || !iterable(s) {
			return f.outside("this goes over something that is made of the caller")
		}
		e := f.element(v)
		f.elements = append(f.elements, e.number)
		err := bind(f.position(e.token), e.token, where)
		f.elements = f.elements[:len(f.elements)-1]
		return err
	case s.of != nil:
		for _, m := range s.of.members {
			m = f.fresh(m)
			key := m.key
			switch s.of.shape {
			case isSet:
				key = m.value
			case isList:
				key = f.position(m.value)
			}
			f.elements = append(f.elements, m.over...)
			err := bind(key, m.value, f.space.All(where, m.where))
			f.elements = f.elements[:len(f.elements)-len(m.over)]
			if err != nil {
				return err
			}
		}
		return nil
	case s.isText():
		return nil
	}
	return f.outside("this goes over something that is made of the caller")
}

// iterable is whether a symbol is a list.
func iterable(s *symbol) bool { return strings.HasPrefix(s.is.String(), "array") }

// lookup goes on with what stands at a key of a value.
func (f *frame) lookup(v, key *ast.Term, where criteria.Function, found value) error {
	s, at := f.symbolOf(v), f.symbolOf(key)
	if at != nil && at.kind == isPosition {
		return f.outside("this looks at the place of a claim in the list")
	}
	if at != nil && at.of != nil && s == nil {
		return f.outside("a collection that depends on the caller is a key here")
	}
	switch {
	case s == nil && !f.symbolic(key):
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
			if is, err = f.equal(k, key); err == nil && is != criteria.Denied {
				err = f.narrowed(key, k, f.space.All(where, is), func(where criteria.Function) error {
					return found(v, where)
				})
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
	case s.of != nil:
		return f.lookupIn(s.of, key, where, found)
	case s.isText():
		return nil
	case s.kind == isResource:
		return f.outside("this looks into the resource")
	case s.kind == isClaims || s.kind == isCall || s.kind == isIndex || s.kind == isElement:
		if !f.symbolic(key) {
			if _, ok := key.Value.(ast.Number); !ok && iterable(s) {
				return nil
			}
		}
		i := f.index(v, key)
		return found(i.token, f.space.All(where, f.defined(i.token)))
	}
	return f.outside("this looks into something that is made of the caller")
}

// lookupIn goes on with the members of a collection that have a key.
func (f *frame) lookupIn(c *collection, key *ast.Term, where criteria.Function, found value) error {
	if c.shape == isList {
		return f.outside("this looks at a place in a list that depends on the caller")
	}
	for _, m := range c.members {
		m = f.fresh(m)
		is, err := f.equal(keyOf(c.shape, m), key)
		if err != nil {
			return err
		}
		if is = f.space.All(where, is, m.where); is == criteria.Denied {
			continue
		}
		f.elements = append(f.elements, m.over...)
		err = f.narrowed(key, keyOf(c.shape, m), is, func(where criteria.Function) error { return found(m.value, where) })
		f.elements = f.elements[:len(f.elements)-len(m.over)]
		if err != nil {
			return err
		}
	}
	return nil
}
