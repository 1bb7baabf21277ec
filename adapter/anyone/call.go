package anyone

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/topdown/builtins"
	"github.com/open-policy-agent/opa/v1/types"

	"github.com/stagedoor/stagedoor/adapter/criteria"
	"github.com/stagedoor/stagedoor/adapter/explore"
)

// callExpr evaluates a call. Where its last operand is not one of the function's, it is
// unified with the value.
func (f *frame) callExpr(terms []*ast.Term, where criteria.Function, found solution) error {
	ref, ok := terms[0].Value.(ast.Ref)
	if !ok {
		return f.outside("a call of something that has no name")
	}
	name := ref.String()
	operands := terms[1:]
	var out *ast.Term
	rules := f.functionAt(ref)
	builtin := ast.BuiltinMap[name]
	var arity int
	switch {
	case len(rules) > 0:
		arity = len(rules[0].Head.Args)
	case builtin != nil:
		arity = builtin.Decl.Arity()
	default:
		return f.outside("%s is no function that stagedoor knows", name)
	}
	if len(operands) > arity {
		operands, out = operands[:arity], operands[arity]
	}
	return f.list(operands, nil, where, func(args []*ast.Term, where criteria.Function) error {
		result := func(v *ast.Term, where criteria.Function) error {
			if out != nil {
				return f.unify(out, v, where, found)
			}
			is, err := f.truth(v)
			if err != nil {
				return err
			}
			return found(f.space.All(where, is))
		}
		if rule := f.permissions[name]; rule != nil && f.symbolOf(args[0]) == f.resource {
			is, err := f.ask(rule, args[1])
			if err != nil {
				return err
			}
			return result(ast.BooleanTerm(true), f.space.All(where, is))
		}
		if len(rules) > 0 {
			outcomes, err := f.outcomes(ref, rules, args)
			if err != nil {
				return err
			}
			return f.each(outcomes, where, result)
		}
		return f.builtin(builtin, args, where, result)
	})
}

// builtin finds the values of a builtin.
func (f *frame) builtin(b *ast.Builtin, args []*ast.Term, where criteria.Function, found value) error {
	if done, err := f.aboutResource(b, args, where, found); done || err != nil {
		return err
	}
	if !slices.ContainsFunc(args, f.symbolic) {
		return f.plain(b, args, where, found)
	}
	either := func(is criteria.Function, err error) error {
		if err != nil {
			return err
		}
		if err := found(ast.BooleanTerm(true), f.space.All(where, is)); err != nil {
			return err
		}
		return found(ast.BooleanTerm(false), f.space.All(where, is.Not()))
	}
	switch b.Name {
	case ast.Member.Name:
		return either(f.in(args[0], args[1]))
	case ast.MemberWithKey.Name:
		return either(f.inWithKey(args[0], args[1], args[2]))
	case ast.Equal.Name:
		return either(f.equal(args[0], args[1]))
	case ast.NotEqual.Name:
		is, err := f.equal(args[0], args[1])
		return either(is.Not(), err)
	case ast.And.Name, ast.Or.Name, ast.Minus.Name:
		if set, ok, err := f.setOf(b.Name, args); ok || err != nil {
			if err != nil {
				return err
			}
			return found(set, where)
		}
	case ast.Count.Name:
		if c := f.collectionOf(args[0]); c != nil {
			return f.counted(c, args[0], where, found)
		}
	case ast.GreaterThan.Name, ast.GreaterThanEq.Name, ast.LessThan.Name, ast.LessThanEq.Name:
		if is, ok, err := f.compared(b.Name, args); ok {
			return either(is, err)
		}
	case ast.ArrayConcat.Name:
		if list, ok, err := f.concatenated(args); ok || err != nil {
			if err != nil {
				return err
			}
			return found(list, where)
		}
	case ast.Sort.Name:
		if c := f.collectionOf(args[0]); c != nil && c.shape != isObject {
			list, err := f.collectionTerm(&collection{shape: isList, members: c.members})
			if err != nil {
				return err
			}
			return found(list, where)
		}
	case ast.ObjectKeys.Name:
		if c := f.collectionOf(args[0]); c != nil && c.shape == isObject {
			return f.keys(c, where, found)
		}
	case ast.ObjectGet.Name:
		return f.objectGet(args, where, found)
	case ast.Union.Name, ast.Intersection.Name:
		if set, ok, err := f.setOfSets(b.Name, args[0]); ok || err != nil {
			if err != nil {
				return err
			}
			return found(set, where)
		}
	case ast.Sum.Name, ast.Max.Name, ast.Min.Name:
		if c := f.collectionOf(args[0]); c != nil && !f.isMaterial(c) && isNumbers(c) {
			if b.Name == ast.Sum.Name {
				return found(f.call(b.Name, args).token, where)
			}
			some, err := f.anyMember(c.members)
			if err != nil {
				return err
			}
			return found(f.call(b.Name, args).token, f.space.All(where, some))
		}
	case ast.InternalTemplateString.Name:
		return f.template(b, args, where, found)
	}
	if is, ok := f.kindOf(b.Name, args[0]); ok {
		return either(known(is), nil)
	}
	if distributes[b.Name] {
		if term, ok, err := f.distributed(b, args); ok || err != nil {
			if err != nil {
				return err
			}
			return found(term, where)
		}
	}
	if transparent[b.Name] && !slices.ContainsFunc(args, func(t *ast.Term) bool { return f.symbolOf(t) != nil }) &&
		!f.holdsObject(args) {
		return f.plain(b, args, where, found)
	}
	if total[b.Name] && !slices.ContainsFunc(args, f.hasCollection) {
		if reason := f.unfit(b, args); reason != "" {
			return f.outside("%s", reason)
		}
		s := f.call(b.Name, args)
		return found(s.token, where)
	}
	return f.materialised(b, args, where, found)
}

// aboutResource finds the values of a builtin that is asked about the resource itself:
// what kind of value it is, or whether it is null. Nothing else may be.
func (f *frame) aboutResource(b *ast.Builtin, args []*ast.Term, where criteria.Function, found value) (bool, error) {
	position, resource := false, false
	for _, arg := range args {
		f.eachSymbol(arg, func(s *symbol) {
			position = position || s.kind == isPosition
			resource = resource || s.kind == isResource
		})
	}
	if position {
		return true, f.outside("this looks at the place of a claim in the list")
	}
	if !resource || transparent[b.Name] || b.Name == ast.ObjectGet.Name {
		if _, asked := kinds[b.Name]; !asked || f.symbolOf(args[0]) != f.resource {
			return false, nil
		}
	}
	_, kind := kinds[b.Name]
	null := b.Name == ast.Equal.Name || b.Name == ast.NotEqual.Name
	switch {
	case (kind || null) && f.basic: // there is none
		return true, nil
	case kind && f.symbolOf(args[0]) == f.resource:
		return true, found(ast.BooleanTerm(kinds[b.Name] == "object"), where)
	case null && slices.ContainsFunc(args, ast.NullTerm().Equal):
		return true, found(ast.BooleanTerm(b.Name == ast.NotEqual.Name), where)
	}
	return true, f.outside("this looks into the resource")
}

// kinds are the builtins that ask what a value is.
var kinds = map[string]string{
	ast.IsString.Name: "string", ast.IsArray.Name: "array", ast.IsObject.Name: "object", ast.IsSet.Name: "set",
	ast.IsNumber.Name: "number", ast.IsBoolean.Name: "boolean", ast.IsNull.Name: "null",
}

// plain calls a builtin with operands that depend on nobody, or that it only moves.
func (f *frame) plain(b *ast.Builtin, args []*ast.Term, where criteria.Function, found value) error {
	if b.Nondeterministic || b.Name == ast.RandIntn.Name {
		if b.Name != ast.NowNanos.Name {
			return f.outside("%s can answer differently each time", b.Name)
		}
	}
	var values []*ast.Term
	err := run(f.ctx, f.now, b.Name, args, func(v *ast.Term) { values = append(values, v) })
	if err != nil {
		return f.outside("the evaluation fails here: %v", err)
	}
	for _, v := range values {
		if err := found(v, where); err != nil {
			return err
		}
	}
	return nil
}

// evaluate is what a deterministic builtin makes of operands, or nil.
func evaluate(name string, args []*ast.Term) (v *ast.Term, err error) {
	err = run(context.Background(), time.Time{}, name, args, func(t *ast.Term) { v = t })
	return v, err
}

var capabilities = sync.OnceValue(func() *ast.Capabilities { return ast.CapabilitiesForThisVersion() })

func run(ctx context.Context, now time.Time, name string, args []*ast.Term, found func(*ast.Term)) error {
	f := topdown.GetBuiltin(name)
	if f == nil {
		return fmt.Errorf("%s is no function that stagedoor knows", name)
	}
	return f(topdown.BuiltinContext{
		Context: ctx, Metrics: metrics.NoOp(), Cancel: topdown.NewCancel(), Cache: builtins.Cache{},
		Time: ast.NumberTerm(json.Number(strconv.FormatInt(now.UnixNano(), 10))), Capabilities: capabilities(),
	}, args, func(t *ast.Term) error {
		found(t)
		return nil
	})
}

// transparent are builtins that move values about in arrays and objects, and do not
// look at them.
var transparent = set(ast.ArrayConcat, ast.ArraySlice, ast.ArrayReverse, ast.ObjectUnion, ast.ObjectUnionN,
	ast.ObjectRemove,
	ast.ObjectFilter, ast.ObjectKeys, ast.JSONPatch, ast.JSONRemove, ast.JSONFilter, ast.Count,
	ast.IsArray, ast.IsObject, ast.IsSet, ast.IsString, ast.IsNumber, ast.IsBoolean, ast.IsNull, ast.TypeNameBuiltin)

// total are deterministic builtins that have a value for all operands of their types.
// Those that must be constant so that nothing fails are looked at in unfit.
var total = set(ast.Lower, ast.Upper, ast.StartsWith, ast.EndsWith, ast.Contains, ast.Trim, ast.TrimLeft, ast.TrimRight,
	ast.TrimPrefix, ast.TrimSuffix, ast.TrimSpace, ast.Replace, ast.Split, ast.Concat, ast.IndexOf, ast.Substring,
	ast.StringReverse, ast.StringCount, ast.RegexMatch, ast.RegexSplit, ast.RegexReplace, ast.RegexFind,
	ast.RegexFindAllStringSubmatch,
	ast.GlobMatch, ast.AnyPrefixMatch, ast.AnySuffixMatch,
	ast.Count, ast.Equal, ast.NotEqual, ast.GreaterThan, ast.GreaterThanEq, ast.LessThan, ast.LessThanEq, ast.Member,
	ast.Plus, ast.Multiply, ast.Minus, ast.Max, ast.Min, ast.ArraySlice, ast.ArrayReverse, ast.Sort,
	ast.Base64Encode, ast.CryptoSha256, ast.CryptoMd5, ast.CryptoSha1, ast.URLQueryEncode, ast.GlobQuoteMeta, ast.Sprintf,
	ast.JSONMarshal)

func set(of ...*ast.Builtin) map[string]bool {
	names := make(map[string]bool, len(of))
	for _, b := range of {
		names[b.Name] = true
	}
	return names
}

// unfit is why a builtin could fail for some caller, or empty.
func (f *frame) unfit(b *ast.Builtin, args []*ast.Term) string {
	constant := func(is ...int) string {
		for _, i := range is {
			if i < len(args) && f.symbolic(args[i]) {
				return fmt.Sprintf("operand %d of %s depends on the caller, for whom it may fail", i+1, b.Name)
			}
		}
		return ""
	}
	switch b.Name {
	case ast.RegexMatch.Name, ast.RegexSplit.Name, ast.RegexFind.Name, ast.RegexFindAllStringSubmatch.Name:
		if reason := constant(0, 2); reason != "" {
			return reason
		}
	case ast.RegexReplace.Name:
		if reason := constant(1, 2); reason != "" {
			return reason
		}
	case ast.GlobMatch.Name:
		if reason := constant(0, 1); reason != "" {
			return reason
		}
	case ast.Substring.Name:
		if reason := constant(1, 2); reason != "" {
			return reason
		}
	case ast.Sprintf.Name:
		if reason := constant(0); reason != "" {
			return reason
		}
	case ast.IndexOf.Name, ast.StringCount.Name:
		if reason := constant(1); reason != "" {
			return reason
		}
	case ast.Plus.Name, ast.Multiply.Name, ast.Minus.Name, ast.Max.Name, ast.Min.Name:
	}
	declared := b.Decl.NamedFuncArgs().Args
	for i, arg := range args {
		if reason := f.mistyped(b, i, declared[i], arg); reason != "" {
			return reason
		}
	}
	// With samples for what depends on the caller it must not fail.
	for _, sample := range []string{"", "group:default/some", "a/b-c_d.e f"} {
		if reason := f.sampled(b, args, sample); reason != "" {
			return reason
		}
	}
	return ""
}

// mistyped is why an operand may have the wrong type for some caller, or empty.
func (f *frame) mistyped(b *ast.Builtin, i int, want types.Type, arg *ast.Term) string {
	s := f.symbolOf(arg)
	if s == nil {
		return ""
	}
	if types.Compare(want, types.A) == 0 || types.Compare(s.is, want) == 0 || types.Contains(want, s.is) {
		return ""
	}
	if strings.HasPrefix(want.String(), "any<") && strings.Contains(want.String(), s.is.String()) {
		return ""
	}
	if iterable(s) && strings.Contains(want.String(), "array") {
		return ""
	}
	return fmt.Sprintf("operand %d of %s can be of another type for some callers", i+1, b.Name)
}

// sampled is why a builtin fails for a sample of what depends on the caller, or empty.
func (f *frame) sampled(b *ast.Builtin, args []*ast.Term, text string) string {
	sampled := make([]*ast.Term, len(args))
	for i, arg := range args {
		v, ok := f.sample(arg, text)
		if !ok {
			return ""
		}
		sampled[i] = v
	}
	if _, err := evaluate(b.Name, sampled); err != nil {
		return fmt.Sprintf("the evaluation can fail here: %v", err)
	}
	return ""
}

// sample is a term with a text in place of who asks.
func (f *frame) sample(t *ast.Term, text string) (*ast.Term, bool) {
	s := f.symbolOf(t)
	if s == nil {
		if list, ok := t.Value.(*ast.Array); ok {
			terms := make([]*ast.Term, list.Len())
			for i := range terms {
				v, ok := f.sample(list.Elem(i), text)
				if !ok {
					return nil, false
				}
				terms[i] = v
			}
			return ast.ArrayTerm(terms...), true
		}
		return t, !f.symbolic(t)
	}
	switch {
	case s.isText():
		return ast.StringTerm(text), true
	case s.kind == isCall:
		args := make([]*ast.Term, len(s.args))
		for i, arg := range s.args {
			v, ok := f.sample(arg, text)
			if !ok {
				return nil, false
			}
			args[i] = v
		}
		v, err := evaluate(s.name, args)
		return v, err == nil && v != nil
	case s.kind == isClaims:
		return ast.ArrayTerm(ast.StringTerm(text)), true
	}
	return nil, false
}

// hasCollection is whether there is a collection in a term, the claims themselves not.
func (f *frame) hasCollection(t *ast.Term) bool {
	found := false
	f.eachSymbol(t, func(s *symbol) { found = found || s.of != nil })
	return found
}

// holdsObject is whether there is an object that depends on the caller in a term: what
// goes over objects would have to go over it too.
func (f *frame) holdsObject(args []*ast.Term) bool {
	found := false
	for _, arg := range args {
		f.eachSymbol(arg, func(s *symbol) { found = found || s.of != nil && s.of.shape == isObject })
	}
	return found
}

// kindOf is the answer to what a value is, where that is known of all it can be.
func (f *frame) kindOf(name string, t *ast.Term) (is, ok bool) {
	s := f.symbolOf(t)
	if s == nil || s.is == nil {
		return false, false
	}
	want, asked := kinds[name]
	have, _, _ := strings.Cut(s.is.String(), "[")
	if !asked || have == "any" || strings.Contains(have, "<") {
		return false, false
	}
	return want == have, true
}

// collectionOf is a term as a collection that is not plain, or nil. The claims are a
// list of their elements.
func (f *frame) collectionOf(t *ast.Term) *collection {
	s := f.symbolOf(t)
	switch {
	case s == nil:
		return nil
	case s.of != nil:
		return s.of
	}
	return nil
}

// asCollection is a term as a collection, also where it is plain.
func (f *frame) asCollection(t *ast.Term) *collection {
	if c := f.collectionOf(t); c != nil {
		return c
	}
	var s shape
	members, ok := f.membersOf(t, &s)
	if !ok {
		return nil
	}
	return &collection{shape: s, members: members}
}

// setOf is the union, intersection or difference of two sets.
func (f *frame) setOf(name string, args []*ast.Term) (*ast.Term, bool, error) {
	a, b := f.asCollection(args[0]), f.asCollection(args[1])
	if a == nil || b == nil || a.shape != isSet || b.shape != isSet {
		return nil, false, nil
	}
	c := &collection{shape: isSet}
	if name == ast.Or.Name {
		c.members = slices.Concat(a.members, b.members)
	} else {
		// Of two sets, the one that is plain has the members; it keeps them few.
		if name == ast.And.Name && slices.ContainsFunc(a.members, func(m member) bool { return len(m.over) > 0 }) {
			a, b = b, a
		}
		for _, m := range a.members {
			m = f.fresh(m)
			is, err := f.memberOf(m.value, b.members)
			if err != nil {
				return nil, true, err
			}
			if name == ast.Minus.Name {
				is = is.Not()
			}
			if m.where = f.space.All(m.where, is); m.where != criteria.Denied {
				c.members = append(c.members, m)
			}
		}
	}
	term, err := f.joined(c)
	return term, true, err
}

// setOfSets is the union or the intersection of the sets in a set.
func (f *frame) setOfSets(name string, of *ast.Term) (*ast.Term, bool, error) {
	c := f.collectionOf(of)
	if c == nil || c.shape != isSet {
		return nil, false, nil
	}
	var whole *ast.Term
	for _, m := range c.members {
		if m.where != criteria.Granted || len(m.over) > 0 {
			return nil, false, nil
		}
		if whole == nil {
			whole = m.value
			continue
		}
		operator := ast.Or.Name
		if name == ast.Intersection.Name {
			operator = ast.And.Name
		}
		set, ok, err := f.setOf(operator, []*ast.Term{whole, m.value})
		if !ok || err != nil {
			return nil, ok, err
		}
		whole = set
	}
	return whole, whole != nil, nil
}

// isNumbers is whether all members of a list or set are numbers that depend on nobody.
func isNumbers(c *collection) bool {
	return !slices.ContainsFunc(c.members, func(m member) bool {
		_, is := m.value.Value.(ast.Number)
		return !is
	})
}

// template puts texts and values together, of which each stands in a set that is empty
// where there is no value.
func (f *frame) template(b *ast.Builtin, args []*ast.Term, where criteria.Function, found value) error {
	list, ok := args[0].Value.(*ast.Array)
	if !ok {
		return f.outside("%s of something that depends on the caller", b.Name)
	}
	parts := make([]*ast.Term, list.Len())
	for i := range parts {
		parts[i] = list.Elem(i)
		c := f.collectionOf(parts[i])
		if c == nil {
			continue
		}
		if len(c.members) != 1 || c.members[0].where != criteria.Granted || len(c.members[0].over) > 0 {
			return f.outside("a template of something that may not be there")
		}
		if s := f.symbolOf(c.members[0].value); s == nil || !s.isText() {
			return f.outside("a template of something that is no text")
		}
		parts[i] = c.members[0].value // A text is written as it stands.
	}
	return f.builtin(ast.Concat, []*ast.Term{ast.StringTerm(""), ast.ArrayTerm(f.asTexts(parts)...)}, where, found)
}

// asTexts are the parts of a template, each as a text.
func (f *frame) asTexts(parts []*ast.Term) []*ast.Term {
	texts := make([]*ast.Term, len(parts))
	for i, part := range parts {
		texts[i] = part
		if f.symbolic(part) || isPlainText(f.theory, part) {
			continue
		}
		if v, err := evaluate(ast.InternalTemplateString.Name, []*ast.Term{ast.ArrayTerm(part)}); err == nil && v != nil {
			texts[i] = v
		}
	}
	return texts
}

// concatenated is two lists as one.
func (f *frame) concatenated(args []*ast.Term) (*ast.Term, bool, error) {
	a, b := f.asCollection(args[0]), f.asCollection(args[1])
	if a == nil || b == nil || a.shape != isList || b.shape != isList {
		return nil, false, nil
	}
	c := &collection{shape: isList, members: slices.Concat(a.members, b.members)}
	term, err := f.joined(c)
	return term, true, err
}

func (f *frame) keys(c *collection, where criteria.Function, found value) error {
	keys := &collection{shape: isSet}
	for _, m := range c.members {
		keys.members = append(keys.members, member{value: m.key, where: m.where, over: m.over})
	}
	term, err := f.joined(keys)
	if err != nil {
		return err
	}
	return found(term, where)
}

// inWithKey is where an object or list has a value at a key.
func (f *frame) inWithKey(key, v, of *ast.Term) (criteria.Function, error) {
	c := f.asCollection(of)
	if c == nil || c.shape != isObject {
		return criteria.Denied, errors.New("this looks at the place in a list that depends on the caller")
	}
	holds := criteria.Denied
	for _, m := range c.members {
		m = f.fresh(m)
		k, err := f.equal(m.key, key)
		if err != nil {
			return criteria.Denied, err
		}
		is, err := f.equal(m.value, v)
		if err != nil {
			return criteria.Denied, err
		}
		if is, err = f.some(m.over, f.space.All(m.where, k, is)); err != nil {
			return criteria.Denied, err
		}
		holds = f.space.Any(holds, is)
	}
	return holds, nil
}

// objectGet finds what stands at a key or a path of an object, or the default.
func (f *frame) objectGet(args []*ast.Term, where criteria.Function, found value) error {
	path := ast.Ref{args[1]}
	if list, ok := args[1].Value.(*ast.Array); ok {
		path = slices.Collect(elementsOf(list))
	}
	if s := f.symbolOf(args[0]); s != nil && s.of == nil {
		return f.outside("this looks into something that is made of the caller")
	}
	if f.symbolOf(args[2]) == f.resource {
		return f.outside("the resource is a default here")
	}
	if s := f.symbolOf(args[1]); s != nil && !s.isText() {
		return f.outside("something that is made of the caller is a path here")
	}
	if len(path) == 0 {
		return found(args[0], where)
	}
	there := criteria.Denied
	err := f.walk(args[0], path, criteria.Granted, func(v *ast.Term, is criteria.Function) error {
		there = f.space.Any(there, is)
		return found(v, f.space.All(where, is))
	})
	if err != nil {
		return err
	}
	if slices.ContainsFunc(f.open(there), func(n int) bool { return !slices.Contains(f.freeOf(args...), n) }) {
		return f.outside("something that is made of the caller is a key here")
	}
	return found(args[2], f.space.All(where, there.Not()))
}

// counted finds the number of members: none, or of those that can be there, how many
// are. Where any number can be there, the number is a symbol.
func (f *frame) counted(c *collection, of *ast.Term, where criteria.Function, found value) error {
	if !f.isCountable(c) {
		return found(f.call(ast.Count.Name, []*ast.Term{of}).token, where)
	}
	n := len(c.members)
	exactly := []criteria.Function{criteria.Granted} // by the number of members so far
	for _, m := range c.members {
		next := make([]criteria.Function, len(exactly)+1)
		for i := range next {
			next[i] = criteria.Denied
			if i < len(exactly) {
				next[i] = f.space.All(exactly[i], m.where.Not())
			}
			if i > 0 {
				next[i] = f.space.Any(next[i], f.space.All(exactly[i-1], m.where))
			}
		}
		exactly = next
	}
	for i := range n + 1 {
		if err := found(ast.InternedTerm(i), f.space.All(where, exactly[i])); err != nil {
			return err
		}
	}
	return nil
}

// maxCounted is how many members there can be of which it matters how many there are.
const maxCounted = 12

// isCountable is whether members are known one by one, and told apart.
func (f *frame) isCountable(c *collection) bool {
	return len(c.members) <= maxCounted && !slices.ContainsFunc(c.members, func(m member) bool {
		return len(m.over) > 0 || c.shape != isList && f.symbolic(keyOf(c.shape, m))
	})
}

// compared is where a number of members is more or less than another number. Whether
// there are any is asked of the members themselves.
func (f *frame) compared(name string, args []*ast.Term) (criteria.Function, bool, error) {
	s := f.symbolOf(args[0])
	number, ok := args[1].Value.(ast.Number)
	if s == nil || s.kind != isCall || s.name != ast.Count.Name || !ok {
		return criteria.Denied, false, nil
	}
	of := f.symbolOf(s.args[0])
	if of == nil || of.of == nil {
		return criteria.Denied, false, nil
	}
	n, exact := number.Int64()
	if !exact {
		return criteria.Denied, false, nil
	}
	some, err := f.anyMember(of.of.members)
	switch {
	case name == ast.GreaterThan.Name && n == 0, name == ast.GreaterThanEq.Name && n == 1:
		return some, true, err
	case name == ast.LessThan.Name && n == 1, name == ast.LessThanEq.Name && n == 0:
		return some.Not(), true, err
	case (name == ast.GreaterThanEq.Name && n <= 0) || (name == ast.GreaterThan.Name && n < 0):
		return criteria.Granted, true, nil
	case (name == ast.LessThan.Name && n <= 0) || (name == ast.LessThanEq.Name && n < 0):
		return criteria.Denied, true, nil
	}
	return criteria.Denied, false, nil
}

// distributes are builtins that make of the union of sets the union of what they make
// of each, by the operand that is such a set.
var distributes = map[string]bool{ast.ReachableBuiltin.Name: true, ast.ReachablePathsBuiltin.Name: true}

// distributed calls a builtin for each member of its second operand.
func (f *frame) distributed(b *ast.Builtin, args []*ast.Term) (*ast.Term, bool, error) {
	from := f.asCollection(args[1])
	if f.symbolic(args[0]) || from == nil || from.shape == isObject {
		return nil, false, nil
	}
	graph, ok := args[0].Value.(ast.Object)
	if !ok {
		return nil, false, nil
	}
	c := &collection{shape: isSet}
	for _, m := range from.members {
		m = f.fresh(m)
		starts := []*ast.Term{m.value}
		if f.symbolic(m.value) {
			starts = graph.Keys() // what is no node of the graph reaches nothing
		}
		for _, start := range starts {
			is, err := f.equal(m.value, start)
			if err != nil {
				return nil, true, err
			}
			v, err := evaluate(b.Name, []*ast.Term{args[0], ast.ArrayTerm(start)})
			if err != nil || v == nil {
				return nil, true, f.outside("%s fails here: %v", b.Name, err)
			}
			reached, _ := v.Value.(ast.Set)
			for _, r := range reached.Slice() {
				where, err := f.some(m.over, f.space.All(m.where, is))
				if err != nil {
					return nil, true, err
				}
				c.members = append(c.members, member{value: r, where: where})
			}
		}
	}
	term, err := f.joined(c)
	return term, true, err
}

// maxMaterialised is how many members that may be there or not a builtin is tried with.
const maxMaterialised = 10

// materialised calls a builtin with each value that its operands can have.
func (f *frame) materialised(b *ast.Builtin, args []*ast.Term, where criteria.Function, found value) error {
	for i, arg := range args {
		s := f.symbolOf(arg)
		if s == nil || s.of == nil {
			if f.symbolic(arg) && (!transparent[b.Name] || s != nil || f.holdsObject(args)) {
				return f.outside("%s of something that depends on the caller", b.Name)
			}
			continue
		}
		if !f.isMaterial(s.of) {
			return f.outside("%s of any number of claims", b.Name)
		}
		var optional []int
		for j, m := range s.of.members {
			if m.where != criteria.Granted {
				optional = append(optional, j)
			}
		}
		if len(optional) > maxMaterialised {
			return f.outside("%s of %d values of which each may be there or not", b.Name, len(optional))
		}
		for chosen := range 1 << len(optional) {
			at := where
			c := &collection{shape: s.of.shape}
			for j, m := range s.of.members {
				if k := slices.Index(optional, j); k >= 0 {
					if chosen>>k&1 == 0 {
						at = f.space.All(at, m.where.Not())
						continue
					}
					at = f.space.All(at, m.where)
				}
				c.members = append(c.members, member{key: m.key, value: m.value, where: criteria.Granted})
			}
			if at == criteria.Denied {
				continue
			}
			with := slices.Clone(args)
			with[i] = c.term()
			if err := f.builtin(b, with, at, found); err != nil {
				return err
			}
		}
		return nil
	}
	return f.plain(b, args, where, found)
}

// isMaterial is whether the members of a collection are known one by one.
func (f *frame) isMaterial(c *collection) bool {
	return !slices.ContainsFunc(c.members, func(m member) bool {
		return len(m.over) > 0 || c.shape != isList && f.symbolic(keyOf(c.shape, m))
	})
}

// ask is where a permission rule about the resource holds.
func (f *frame) ask(rule *explore.PermissionRule, params *ast.Term) (criteria.Function, error) {
	if why := f.misfit(rule); why {
		key := rule.Function.String() + f.textOf(params)
		if len(f.freeOf(params)) > 0 {
			return criteria.Denied, f.outside("%s is not about this permission's type of resource, and asks about a claim",
				rule.Name)
		}
		is, ok := f.foreign[key]
		if !ok {
			is = f.space.Unknown()
			f.foreign[key] = is
		}
		return is, nil
	}
	a := &atom{kind: isRule, rule: rule, name: rule.Name, about: rule.ResourceType}
	return f.leaf(a, params)
}

// misfit is whether nobody will answer a rule for this permission.
func (f *frame) misfit(rule *explore.PermissionRule) bool {
	want := f.resourceType
	switch {
	case f.basic, want != "" && rule.ResourceType != want:
		return true
	case f.asked == nil:
		f.asked = rule
	}
	return f.asked.ResourceType != rule.ResourceType || f.asked.PluginID != rule.PluginID
}

// leaf is where a rule holds with params that may depend on the caller. A list that
// means "any of" is asked about element by element.
func (f *frame) leaf(a *atom, params *ast.Term) (criteria.Function, error) {
	if !f.symbolic(params) {
		return f.plainRule(a, params)
	}
	object, ok := params.Value.(ast.Object)
	if !ok || f.symbolOf(params) != nil {
		return criteria.Denied, fmt.Errorf("the params of %s are something that is made of the caller", a.name)
	}
	if err := f.checkSample(a, object); err != nil {
		return criteria.Denied, err
	}
	name := ""
	if a.rule != nil {
		name = a.rule.AnyOf
	}
	list := object.Get(ast.StringTerm(name))
	if name == "" || list == nil || !f.symbolic(list) {
		return f.symbolicLeaf(a, params)
	}
	var s shape
	members, ok := f.membersOf(list, &s)
	if !ok || s == isObject {
		return criteria.Denied, fmt.Errorf("the %s of %s are something that is made of the caller", name, a.name)
	}
	holds := criteria.Denied
	for _, m := range members {
		m = f.fresh(m)
		one := ast.NewObject()
		object.Foreach(one.Insert)
		one.Insert(ast.StringTerm(name), ast.ArrayTerm(m.value))
		is, err := f.symbolicLeaf(a, ast.NewTerm(one))
		if err != nil {
			return criteria.Denied, err
		}
		if is, err = f.some(m.over, f.space.All(m.where, is)); err != nil {
			return criteria.Denied, err
		}
		holds = f.space.Any(holds, is)
	}
	return holds, nil
}

func (f *frame) symbolicLeaf(a *atom, params *ast.Term) (criteria.Function, error) {
	if !f.symbolic(params) {
		return f.plainRule(a, params)
	}
	if f.hasCollection(params) {
		return criteria.Denied, fmt.Errorf("the params of %s have a list in them that depends on the caller", a.name)
	}
	return f.ruleAtom(a, params), nil
}

// checkSample is why the schema of a rule refuses params, with samples for what is made
// of the caller.
func (f *frame) checkSample(a *atom, params ast.Object) error {
	if a.rule == nil {
		return nil
	}
	var first error
	for i, texts := range [][]string{{"user:default/some"}, {"a", "b"}, {""}, {strings.Repeat("x", 300)}, {}} {
		value, err := ast.JSON(f.sampleParams(ast.NewTerm(params), texts).Value)
		if err != nil {
			return err
		}
		object, _ := value.(map[string]any)
		err = a.rule.CheckParams(object)
		switch {
		case i == 0:
			first = err
		case (err == nil) != (first == nil):
			return fmt.Errorf("whether %s takes these params depends on the caller", a.name)
		}
	}
	return first
}

// sampleParams are params with samples of the right types.
func (f *frame) sampleParams(t *ast.Term, texts []string) *ast.Term {
	if s := f.symbolOf(t); s != nil {
		one := ""
		terms := make([]*ast.Term, len(texts))
		for i, text := range texts {
			one, terms[i] = text, ast.StringTerm(text)
		}
		if s.kind == isClaims || s.of != nil || iterable(s) {
			return ast.ArrayTerm(terms...)
		}
		return ast.StringTerm(one)
	}
	switch v := t.Value.(type) {
	case *ast.Array:
		terms := make([]*ast.Term, v.Len())
		for i := range terms {
			terms[i] = f.sampleParams(v.Elem(i), texts)
		}
		return ast.ArrayTerm(terms...)
	case ast.Object:
		object := ast.NewObject()
		v.Foreach(func(key, value *ast.Term) { object.Insert(key, f.sampleParams(value, texts)) })
		return ast.NewTerm(object)
	}
	return t
}
