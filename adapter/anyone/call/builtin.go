// Package call has what builtins and permission rules make of values that depend on the
// caller. A call of plain values is OPA's own ([theory.Run]). Of others there are four kinds:
//
//   - what asks of members, such as count, union and comparison, becomes functions of them;
//   - what only moves values about is called with symbols in place;
//   - what has a value for every operand makes a symbol of a call;
//   - anything else is called with each value that its operands can have.
//
// A builtin that may fail for some callers is refused. [Functions.Leaf] is where a permission
// rule holds, and [Functions.Joined] makes a value of the members of a collection.
package call

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/types"

	"github.com/stagedoor/stagedoor/adapter/anyone/theory"
	"github.com/stagedoor/stagedoor/adapter/criteria"
)

// Apply finds the values of a builtin for operands.
func (f *Functions) Apply(b *ast.Builtin, args []*ast.Term, where criteria.Function, found Found) error {
	if done, err := f.aboutResource(b, args, where, found); done || err != nil {
		return err
	}
	if !slices.ContainsFunc(args, f.Symbolic) {
		return f.plain(b, args, where, found)
	}
	either := func(is criteria.Function, err error) error {
		if err != nil {
			return err
		}
		if err := found(ast.BooleanTerm(true), f.Space.All(where, is)); err != nil {
			return err
		}
		return found(ast.BooleanTerm(false), f.Space.All(where, is.Not()))
	}
	switch b.Name {
	case ast.Member.Name:
		return either(f.In(args[0], args[1]))
	case ast.MemberWithKey.Name:
		return either(f.inWithKey(args[0], args[1], args[2]))
	case ast.Equal.Name:
		return either(f.Equal(args[0], args[1]))
	case ast.NotEqual.Name:
		is, err := f.Equal(args[0], args[1])
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
		if c := f.collectionOf(args[0]); c != nil && c.Shape != theory.Object {
			list, err := f.CollectionTerm(&theory.Collection{Shape: theory.List, Members: c.Members})
			if err != nil {
				return err
			}
			return found(list, where)
		}
	case ast.ObjectKeys.Name:
		if c := f.collectionOf(args[0]); c != nil && c.Shape == theory.Object {
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
		switch c := f.collectionOf(args[0]); {
		case c == nil || f.isMaterial(c) || b.Name == ast.Sum.Name && !isNumbers(c):
		case b.Name == ast.Sum.Name:
			return found(f.Call(b.Name, args).Token, where)
		default:
			some, err := f.AnyMember(c.Members) // There is no largest of none.
			if err != nil {
				return err
			}
			return found(f.Call(b.Name, args).Token, f.Space.All(where, some))
		}
	case ast.InternalTemplateString.Name:
		return f.template(b, args, where, found)
	}
	if is, ok := f.kindOf(b.Name, args[0]); ok {
		return either(theory.Known(is), nil)
	}
	if distributes[b.Name] {
		if term, ok, err := f.distributed(b, args); ok || err != nil {
			if err != nil {
				return err
			}
			return found(term, where)
		}
	}
	if transparent[b.Name] && !slices.ContainsFunc(args, func(t *ast.Term) bool { return f.SymbolOf(t) != nil }) &&
		!f.holdsObject(args) && !f.isGuided(b.Name, args) {
		return f.plain(b, args, where, found)
	}
	if total[b.Name] && !slices.ContainsFunc(args, f.hasCollection) {
		if reason := f.unfit(b, args); reason != "" {
			return errors.New(reason)
		}
		s := f.Call(b.Name, args)
		return found(s.Token, where)
	}
	return f.materialised(b, args, where, found)
}

// aboutResource finds the values of a builtin that is asked about the resource itself:
// what kind of value it is, or whether it is null. Nothing else may be.
func (f *Functions) aboutResource(
	b *ast.Builtin, args []*ast.Term, where criteria.Function, found Found,
) (bool, error) {
	position, resource := false, false
	for _, arg := range args {
		f.EachSymbol(arg, func(s *theory.Symbol) {
			position = position || s.Kind == theory.KindPosition
			resource = resource || s.Kind == theory.KindResource
		})
	}
	if position {
		return true, errors.New("this looks at the place of a claim in the list")
	}
	if !resource || transparent[b.Name] || b.Name == ast.ObjectGet.Name {
		if _, asked := kinds[b.Name]; !asked || f.SymbolOf(args[0]) != f.Resource {
			return false, nil
		}
	}
	_, kind := kinds[b.Name]
	null := b.Name == ast.Equal.Name || b.Name == ast.NotEqual.Name
	switch {
	case (kind || null) && f.Basic: // there is none
		return true, nil
	case kind && f.SymbolOf(args[0]) == f.Resource:
		return true, found(ast.BooleanTerm(kinds[b.Name] == "object"), where)
	case null && slices.ContainsFunc(args, ast.NullTerm().Equal):
		return true, found(ast.BooleanTerm(b.Name == ast.NotEqual.Name), where)
	}
	return true, errors.New("this looks into the resource")
}

// kinds are the builtins that ask what a value is.
var kinds = map[string]string{
	ast.IsString.Name: "string", ast.IsArray.Name: "array", ast.IsObject.Name: "object", ast.IsSet.Name: "set",
	ast.IsNumber.Name: "number", ast.IsBoolean.Name: "boolean", ast.IsNull.Name: "null",
}

// plain calls a builtin with operands that depend on nobody, or that it only moves.
func (f *Functions) plain(b *ast.Builtin, args []*ast.Term, where criteria.Function, found Found) error {
	if b.Nondeterministic || b.Name == ast.RandIntn.Name {
		if b.Name != ast.NowNanos.Name {
			return fmt.Errorf("%s can answer differently each time", b.Name)
		}
	}
	var values []*ast.Term
	err := theory.Run(f.Ctx, f.Now, b.Name, args, func(v *ast.Term) { values = append(values, v) })
	if err != nil {
		return fmt.Errorf("the evaluation fails here: %w", err)
	}
	for _, v := range values {
		if err := found(v, where); err != nil {
			return err
		}
	}
	return nil
}

// isGuided is whether what a builtin moves depends on the caller: keys and paths of its
// second operand are looked at. Of a patch that is all but the values.
func (f *Functions) isGuided(name string, args []*ast.Term) bool {
	switch name {
	case ast.ObjectRemove.Name, ast.ObjectFilter.Name, ast.JSONRemove.Name, ast.JSONFilter.Name:
		return f.Symbolic(args[1])
	case ast.JSONPatch.Name:
		guided := false
		patches, ok := args[1].Value.(*ast.Array)
		if !ok {
			return f.Symbolic(args[1])
		}
		patches.Foreach(func(patch *ast.Term) {
			object, ok := patch.Value.(ast.Object)
			if !ok {
				guided = guided || f.Symbolic(patch)
				return
			}
			object.Foreach(func(key, value *ast.Term) {
				guided = guided || !key.Equal(ast.InternedTerm("value")) && f.Symbolic(value)
			})
		})
		return guided
	}
	return false
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
	ast.Plus, ast.Multiply, ast.Minus, ast.ArraySlice, ast.ArrayReverse, ast.Sort,
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
func (f *Functions) unfit(b *ast.Builtin, args []*ast.Term) string {
	constant := func(is ...int) string {
		for _, i := range is {
			if i < len(args) && f.Symbolic(args[i]) {
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
func (f *Functions) mistyped(b *ast.Builtin, i int, want types.Type, arg *ast.Term) string {
	s := f.SymbolOf(arg)
	if s == nil {
		return ""
	}
	if types.Contains(want, s.Type) {
		return ""
	}
	if strings.HasPrefix(want.String(), "any<") && strings.Contains(want.String(), s.Type.String()) {
		return ""
	}
	if theory.Iterable(s) && strings.Contains(want.String(), "array") {
		return ""
	}
	return fmt.Sprintf("operand %d of %s can be of another type for some callers", i+1, b.Name)
}

// sampled is why a builtin fails for a sample of what depends on the caller, or empty.
func (f *Functions) sampled(b *ast.Builtin, args []*ast.Term, text string) string {
	sampled := make([]*ast.Term, len(args))
	for i, arg := range args {
		v, ok := f.sample(arg, text)
		if !ok {
			return ""
		}
		sampled[i] = v
	}
	if _, err := theory.Evaluate(b.Name, sampled); err != nil {
		return fmt.Sprintf("the evaluation can fail here: %v", err)
	}
	return ""
}

// sample is a term with a text in place of who asks.
func (f *Functions) sample(t *ast.Term, text string) (*ast.Term, bool) {
	s := f.SymbolOf(t)
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
		return t, !f.Symbolic(t)
	}
	switch {
	case s.IsText():
		return ast.StringTerm(text), true
	case s.Kind == theory.KindCall:
		args := make([]*ast.Term, len(s.Args))
		for i, arg := range s.Args {
			v, ok := f.sample(arg, text)
			if !ok {
				return nil, false
			}
			args[i] = v
		}
		v, err := theory.Evaluate(s.Name, args)
		return v, err == nil && v != nil
	case s.Kind == theory.KindClaims:
		return ast.ArrayTerm(ast.StringTerm(text)), true
	}
	return nil, false
}

// hasCollection is whether there is a collection in a term, the claims themselves not.
func (f *Functions) hasCollection(t *ast.Term) bool {
	found := false
	f.EachSymbol(t, func(s *theory.Symbol) { found = found || s.Of != nil })
	return found
}

// holdsObject is whether there is an object that depends on the caller in a term: what
// goes over objects would have to go over it too.
func (f *Functions) holdsObject(args []*ast.Term) bool {
	found := false
	for _, arg := range args {
		f.EachSymbol(arg, func(s *theory.Symbol) { found = found || s.Of != nil && s.Of.Shape == theory.Object })
	}
	return found
}

// kindOf is the answer to what a value is, where that is known of all it can be.
func (f *Functions) kindOf(name string, t *ast.Term) (is, ok bool) {
	s := f.SymbolOf(t)
	if s == nil || s.Type == nil {
		return false, false
	}
	want, asked := kinds[name]
	have, _, _ := strings.Cut(s.Type.String(), "[")
	if !asked || have == "any" || strings.Contains(have, "<") {
		return false, false
	}
	return want == have, true
}

// collectionOf is a term as a collection that is not plain, or nil. The claims are a
// list of their elements.
func (f *Functions) collectionOf(t *ast.Term) *theory.Collection {
	s := f.SymbolOf(t)
	switch {
	case s == nil:
		return nil
	case s.Of != nil:
		return s.Of
	}
	return nil
}

// asCollection is a term as a collection, also where it is plain.
func (f *Functions) asCollection(t *ast.Term) *theory.Collection {
	if c := f.collectionOf(t); c != nil {
		return c
	}
	var s theory.Shape
	members, ok := f.MembersOf(t, &s)
	if !ok {
		return nil
	}
	return &theory.Collection{Shape: s, Members: members}
}

// setOf is the union, intersection or difference of two sets.
func (f *Functions) setOf(name string, args []*ast.Term) (*ast.Term, bool, error) {
	a, b := f.asCollection(args[0]), f.asCollection(args[1])
	if a == nil || b == nil || a.Shape != theory.Set || b.Shape != theory.Set {
		return nil, false, nil
	}
	c := &theory.Collection{Shape: theory.Set}
	if name == ast.Or.Name {
		c.Members = slices.Concat(a.Members, b.Members)
	} else {
		// Of two sets, the one that is plain has the members; it keeps them few.
		if name == ast.And.Name && slices.ContainsFunc(a.Members, func(m theory.Member) bool { return len(m.Over) > 0 }) {
			a, b = b, a
		}
		for _, m := range a.Members {
			m = f.Fresh(m)
			is, err := f.MemberOf(m.Value, b.Members)
			if err != nil {
				return nil, true, err
			}
			if name == ast.Minus.Name {
				is = is.Not()
			}
			if m.Where = f.Space.All(m.Where, is); m.Where != criteria.Denied {
				c.Members = append(c.Members, m)
			}
		}
	}
	term, err := f.Joined(c)
	return term, true, err
}

// setOfSets is the union or the intersection of the sets in a set.
func (f *Functions) setOfSets(name string, of *ast.Term) (*ast.Term, bool, error) {
	c := f.collectionOf(of)
	if c == nil || c.Shape != theory.Set {
		return nil, false, nil
	}
	var whole *ast.Term
	for _, m := range c.Members {
		if m.Where != criteria.Granted || len(m.Over) > 0 {
			return nil, false, nil
		}
		if whole == nil {
			whole = m.Value
			continue
		}
		operator := ast.Or.Name
		if name == ast.Intersection.Name {
			operator = ast.And.Name
		}
		set, ok, err := f.setOf(operator, []*ast.Term{whole, m.Value})
		if !ok || err != nil {
			return nil, ok, err
		}
		whole = set
	}
	return whole, whole != nil, nil
}

// isNumbers is whether all members of a list or set are numbers that depend on nobody.
func isNumbers(c *theory.Collection) bool {
	return !slices.ContainsFunc(c.Members, func(m theory.Member) bool {
		_, is := m.Value.Value.(ast.Number)
		return !is
	})
}

// template puts texts and values together, of which each stands in a set that is empty
// where there is no value.
func (f *Functions) template(b *ast.Builtin, args []*ast.Term, where criteria.Function, found Found) error {
	list, ok := args[0].Value.(*ast.Array)
	if !ok {
		return fmt.Errorf("%s of something that depends on the caller", b.Name)
	}
	parts := make([]*ast.Term, list.Len())
	for i := range parts {
		parts[i] = list.Elem(i)
		c := f.collectionOf(parts[i])
		if c == nil {
			continue
		}
		if len(c.Members) != 1 || c.Members[0].Where != criteria.Granted || len(c.Members[0].Over) > 0 {
			return errors.New("a template of something that may not be there")
		}
		if s := f.SymbolOf(c.Members[0].Value); s == nil || !s.IsText() {
			return errors.New("a template of something that is no text")
		}
		parts[i] = c.Members[0].Value // A text is written as it stands.
	}
	return f.Apply(ast.Concat, []*ast.Term{ast.StringTerm(""), ast.ArrayTerm(f.asTexts(parts)...)}, where, found)
}

// asTexts are the parts of a template, each as a text.
func (f *Functions) asTexts(parts []*ast.Term) []*ast.Term {
	texts := make([]*ast.Term, len(parts))
	for i, part := range parts {
		texts[i] = part
		if f.Symbolic(part) || f.IsPlainText(part) {
			continue
		}
		whole := []*ast.Term{ast.ArrayTerm(part)}
		if v, err := theory.Evaluate(ast.InternalTemplateString.Name, whole); err == nil && v != nil {
			texts[i] = v
		}
	}
	return texts
}

// concatenated is two lists as one.
func (f *Functions) concatenated(args []*ast.Term) (*ast.Term, bool, error) {
	a, b := f.asCollection(args[0]), f.asCollection(args[1])
	if a == nil || b == nil || a.Shape != theory.List || b.Shape != theory.List {
		return nil, false, nil
	}
	c := &theory.Collection{Shape: theory.List, Members: slices.Concat(a.Members, b.Members)}
	term, err := f.Joined(c)
	return term, true, err
}

func (f *Functions) keys(c *theory.Collection, where criteria.Function, found Found) error {
	keys := &theory.Collection{Shape: theory.Set}
	for _, m := range c.Members {
		keys.Members = append(keys.Members, theory.Member{Value: m.Key, Where: m.Where, Over: m.Over})
	}
	term, err := f.Joined(keys)
	if err != nil {
		return err
	}
	return found(term, where)
}

// inWithKey is where an object or list has a value at a key.
func (f *Functions) inWithKey(key, v, of *ast.Term) (criteria.Function, error) {
	c := f.asCollection(of)
	if c == nil || c.Shape != theory.Object {
		return criteria.Denied, errors.New("this looks at the place in a list that depends on the caller")
	}
	holds := criteria.Denied
	for _, m := range c.Members {
		m = f.Fresh(m)
		k, err := f.Equal(m.Key, key)
		if err != nil {
			return criteria.Denied, err
		}
		is, err := f.Equal(m.Value, v)
		if err != nil {
			return criteria.Denied, err
		}
		if is, err = f.Some(m.Over, f.Space.All(m.Where, k, is)); err != nil {
			return criteria.Denied, err
		}
		holds = f.Space.Any(holds, is)
	}
	return holds, nil
}

// objectGet finds what stands at a key or a path of an object, or the default.
func (f *Functions) objectGet(args []*ast.Term, where criteria.Function, found Found) error {
	path := ast.Ref{args[1]}
	if list, ok := args[1].Value.(*ast.Array); ok {
		path = slices.Collect(theory.Elements(list))
	}
	if s := f.SymbolOf(args[0]); s != nil && s.Of == nil {
		return errors.New("this looks into something that is made of the caller")
	}
	if f.SymbolOf(args[2]) == f.Resource {
		return errors.New("the resource is a default here")
	}
	if s := f.SymbolOf(args[1]); s != nil && !s.IsText() {
		return errors.New("something that is made of the caller is a path here")
	}
	if len(path) == 0 {
		return found(args[0], where)
	}
	there := criteria.Denied
	err := f.Walk(args[0], path, criteria.Granted, func(v *ast.Term, is criteria.Function) error {
		there = f.Space.Any(there, is)
		return found(v, f.Space.All(where, is))
	})
	if err != nil {
		return err
	}
	if slices.ContainsFunc(f.Open(there), func(n int) bool { return !slices.Contains(f.FreeOf(args...), n) }) {
		return errors.New("something that is made of the caller is a key here")
	}
	return found(args[2], f.Space.All(where, there.Not()))
}

// counted finds the number of members: none, or of those that can be there, how many
// are. Where any number can be there, the number is a symbol.
func (f *Functions) counted(c *theory.Collection, of *ast.Term, where criteria.Function, found Found) error {
	if !f.isCountable(c) {
		return found(f.Call(ast.Count.Name, []*ast.Term{of}).Token, where)
	}
	n := len(c.Members)
	exactly := []criteria.Function{criteria.Granted} // by the number of members so far
	for _, m := range c.Members {
		next := make([]criteria.Function, len(exactly)+1)
		for i := range next {
			next[i] = criteria.Denied
			if i < len(exactly) {
				next[i] = f.Space.All(exactly[i], m.Where.Not())
			}
			if i > 0 {
				next[i] = f.Space.Any(next[i], f.Space.All(exactly[i-1], m.Where))
			}
		}
		exactly = next
	}
	for i := range n + 1 {
		if err := found(ast.InternedTerm(i), f.Space.All(where, exactly[i])); err != nil {
			return err
		}
	}
	return nil
}

// hasOddNumber is whether there is a number that can be written shorter, such as 1.0.
// Members are told apart by how they are written, and OPA takes it for 1.
func hasOddNumber(t *ast.Term) bool {
	odd := false
	ast.WalkTerms(t, func(t *ast.Term) bool {
		if n, is := t.Value.(ast.Number); is {
			text := string(n)
			odd = odd || strings.ContainsAny(text, "eE") || text == "-0" ||
				strings.Contains(text, ".") && strings.HasSuffix(text, "0")
		}
		return odd
	})
	return odd
}

// maxCounted is how many members there can be of which it matters how many there are.
const maxCounted = 12

// isCountable is whether members are known one by one, and told apart.
func (f *Functions) isCountable(c *theory.Collection) bool {
	return len(c.Members) <= maxCounted && !slices.ContainsFunc(c.Members, func(m theory.Member) bool {
		return len(m.Over) > 0 || c.Shape != theory.List &&
			(f.Symbolic(theory.KeyOf(c.Shape, m)) || hasOddNumber(theory.KeyOf(c.Shape, m)))
	})
}

// compared is where a number of members is more or less than another number. Whether
// there are any is asked of the members themselves.
func (f *Functions) compared(name string, args []*ast.Term) (criteria.Function, bool, error) {
	s := f.SymbolOf(args[0])
	number, ok := args[1].Value.(ast.Number)
	if s == nil || s.Kind != theory.KindCall || s.Name != ast.Count.Name || !ok {
		return criteria.Denied, false, nil
	}
	of := f.SymbolOf(s.Args[0])
	if of == nil || of.Of == nil {
		return criteria.Denied, false, nil
	}
	n, exact := number.Int64()
	if !exact {
		return criteria.Denied, false, nil
	}
	some, err := f.AnyMember(of.Of.Members)
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
func (f *Functions) distributed(b *ast.Builtin, args []*ast.Term) (*ast.Term, bool, error) {
	from := f.asCollection(args[1])
	if f.Symbolic(args[0]) || from == nil || from.Shape == theory.Object {
		return nil, false, nil
	}
	graph, ok := args[0].Value.(ast.Object)
	if !ok {
		return nil, false, nil
	}
	c := &theory.Collection{Shape: theory.Set}
	for _, m := range from.Members {
		m = f.Fresh(m)
		starts := []*ast.Term{m.Value}
		if f.Symbolic(m.Value) {
			starts = graph.Keys() // what is no node of the graph reaches nothing
		}
		for _, start := range starts {
			is, err := f.Equal(m.Value, start)
			if err != nil {
				return nil, true, err
			}
			v, err := theory.Evaluate(b.Name, []*ast.Term{args[0], ast.ArrayTerm(start)})
			if err != nil || v == nil {
				return nil, true, fmt.Errorf("%s fails here: %w", b.Name, err)
			}
			reached, _ := v.Value.(ast.Set)
			for _, r := range reached.Slice() {
				where, err := f.Some(m.Over, f.Space.All(m.Where, is))
				if err != nil {
					return nil, true, err
				}
				c.Members = append(c.Members, theory.Member{Value: r, Where: where})
			}
		}
	}
	term, err := f.Joined(c)
	return term, true, err
}

// MaxMaterialised is how many members that may be there or not a builtin is tried with.
const MaxMaterialised = 10

// materialised calls a builtin with each value that its operands can have.
func (f *Functions) materialised(b *ast.Builtin, args []*ast.Term, where criteria.Function, found Found) error {
	for i, arg := range args {
		s := f.SymbolOf(arg)
		if s == nil || s.Of == nil {
			if f.Symbolic(arg) && (!transparent[b.Name] || s != nil || f.holdsObject(args) || f.isGuided(b.Name, args)) {
				return fmt.Errorf("%s of something that depends on the caller", b.Name)
			}
			continue
		}
		if !f.isMaterial(s.Of) {
			return fmt.Errorf("%s of any number of claims", b.Name)
		}
		var optional []int
		for j, m := range s.Of.Members {
			if m.Where != criteria.Granted {
				optional = append(optional, j)
			}
		}
		if len(optional) > MaxMaterialised {
			return fmt.Errorf("%s of %d values of which each may be there or not", b.Name, len(optional))
		}
		for chosen := range 1 << len(optional) {
			at := where
			c := &theory.Collection{Shape: s.Of.Shape}
			for j, m := range s.Of.Members {
				if k := slices.Index(optional, j); k >= 0 {
					if chosen>>k&1 == 0 {
						at = f.Space.All(at, m.Where.Not())
						continue
					}
					at = f.Space.All(at, m.Where)
				}
				c.Members = append(c.Members, theory.Member{Key: m.Key, Value: m.Value, Where: criteria.Granted})
			}
			if at == criteria.Denied {
				continue
			}
			with := slices.Clone(args)
			with[i] = c.Term()
			if err := f.Apply(b, with, at, found); err != nil {
				return err
			}
		}
		return nil
	}
	return f.plain(b, args, where, found)
}

// isMaterial is whether the members of a collection are known one by one.
func (f *Functions) isMaterial(c *theory.Collection) bool {
	return !slices.ContainsFunc(c.Members, func(m theory.Member) bool {
		return len(m.Over) > 0 || c.Shape != theory.List && f.Symbolic(theory.KeyOf(c.Shape, m))
	})
}
