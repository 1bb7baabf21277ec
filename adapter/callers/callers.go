// Package callers finds the classes of callers that a policy can tell apart, so that
// a question about everybody is a question about a few.
//
// A policy knows a caller by the user, the claims and the actor, and most policies
// compare those with constants alone: references in the source and in the data.
// Callers that are alike in all of that are one [Class], and what is decided for its
// example holds for every one of them. [Of] makes an example for each combination
// that the constants allow, adds the callers of tests and decision tables and the
// people of an inventory, and folds those that the policy cannot tell apart.
//
// There may be more classes than can be asked about, or a policy may look into the
// text of a reference (startswith, regular expressions). It may compare claims with texts
// that are no references, look up a list by them, lower some of them alone, ask for the place of
// a reference in a list, or ask for claims that it does not name. What else it may do with
// claims the data flow of package alike/flow tells ([Sources].Apart). Then [Classes.All] is
// false, and [Classes.Why] says so; a report has to repeat it.
package callers

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/inventory"
)

// A Class is callers whom a policy cannot tell apart.
type Class struct {
	// Name says who they are, such as "in group:default/admins".
	Name string
	// Example is one of them.
	Example decision.Caller
	// People is how many people of the inventory are in the class.
	People int
}

// Classes are what [Of] found.
type Classes struct {
	// List has the classes, those made of constants first, in a stable order.
	List []Class
	// All is whether the policy can tell no other callers apart.
	All bool
	// Why says why there may be more; it is empty where All is true.
	Why string
}

// Sources are what classes are found in.
type Sources struct {
	// Modules are the parsed modules of the policy, without tests.
	Modules map[string]*ast.Module
	// Tests are the parsed test modules; references in them become callers too.
	Tests map[string]*ast.Module
	// Data is the policy's data as encoding/json decodes it; nil for none.
	Data any
	// Each is the data of each policy where there are several, and Data has it all.
	Each []any
	// Apart says what a policy asks of callers beside which of its own texts their claims are,
	// as the data flow found it (package alike/flow); empty for nothing.
	Apart string
	// Known are callers that somebody named, such as those of decision tables.
	Known []decision.Caller
	// Inventory has the people; nil for none.
	Inventory *inventory.Inventory
	// Most bounds the classes made of constants; 64 where it is 0.
	Most int
}

const defaultMost = 64

// Of returns the classes of callers of a policy. It is safe for concurrent use.
func Of(s Sources) Classes {
	if s.Most == 0 {
		s.Most = defaultMost
	}
	s.Modules = maps.Clone(s.Modules)
	for name, module := range s.Modules {
		s.Modules[name] = withoutAliases(module)
	}
	f := &finder{sources: s, marks: map[string][]string{}, capitals: map[string][]string{}, objects: map[string]bool{},
		ordered: hasOrdered(s.Data)}
	f.read()
	return f.classes()
}

// Placed says where a policy may ask for an element of a list by its place, or else for the
// order of a list, so that the order of claims may count; empty for nowhere. Modules are as in [Sources].
func Placed(modules map[string]*ast.Module) string {
	f := &finder{sources: Sources{Modules: make(map[string]*ast.Module)}, marks: map[string][]string{},
		capitals: map[string][]string{}, objects: map[string]bool{}, ordered: true}
	for name, module := range modules {
		f.sources.Modules[name] = withoutAliases(module)
	}
	f.read()
	if f.isPlaced() {
		return f.placed
	}
	return ""
}

// Somebody is the user of examples who is nobody in particular.
const Somebody = "user:default/somebody"

// AnotherPlugin is the actor of examples that is no plugin in particular.
const AnotherPlugin = "plugin:another"

// reads is a set of parts of the identity.
type reads uint8

const (
	readsPresence reads = 1 << iota
	readsUser
	readsClaims
	readsActor

	readsAll = readsPresence | readsUser | readsClaims | readsActor
)

type finder struct {
	sources Sources
	reads   reads
	actor   bool            // whether the plugin that asks is named as a part of the identity
	opaque  string          // the call that looks into a reference's text, and where; empty for none
	ordered bool            // whether a list of the data has several references
	objects map[string]bool // names of rules that are objects or sets
	placed  string          // where an element is asked for by its place; empty for nowhere
	others  string          // why there may be callers whose claims are no references; empty for no reason
	lowered string          // where the case of a claim is changed; empty for nowhere
	asIs    string          // where a claim is compared in the case that it has; empty for nowhere
	// marks are, by reference, where it occurs. References with equal marks are not
	// told apart.
	marks map[string][]string
	// capitals are the references that occur with capitals, likewise.
	capitals map[string][]string

	list []Class
	seen map[string]int // by what the policy sees
}

func (f *finder) read() {
	for _, module := range f.sources.Modules {
		f.readObjects(module)
	}
	for _, name := range slices.Sorted(maps.Keys(f.sources.Modules)) {
		module := f.sources.Modules[name]
		f.readModule(module)
		ast.WalkTerms(module, func(t *ast.Term) bool {
			if s, ok := t.Value.(ast.String); ok {
				f.mark(string(s), "source "+string(s))
				f.actor = f.actor || s == "actor"
			}
			return false
		})
	}
	f.readUnnamed()
	(&references{f.mark, f.placed != ""}).read("data", f.sources.Data)
	if f.asIs != "" {
		for ref, marks := range f.capitals {
			f.marks[ref] = marks
		}
		if f.lowered != "" {
			f.other("the policy compares claims in lower case and as they are: %s, and %s", f.lowered, f.asIs)
		}
	}
	for ref, marks := range f.marks {
		slices.Sort(marks)
		f.marks[ref] = slices.Compact(marks)
	}
}

// mark notes an occurrence of what may be a reference. Backstage's own are in lower
// case, and policies that have others lower them. Where one does not, who has a claim in
// just these capitals is another caller.
func (f *finder) mark(text, where string) {
	if isRef(text) {
		ref := strings.ToLower(text)
		f.marks[ref] = append(f.marks[ref], where)
		if text != ref {
			f.capitals[text] = append(f.capitals[text], "as it is "+where)
		}
	}
}

// isRef is whether a text has the form of an entity reference, or is an actor.
func isRef(s string) bool {
	kind, rest, ok := strings.Cut(s, ":")
	if !ok || kind == "" || rest == "" || strings.ContainsAny(s, " \t\n*$?\"") {
		return false
	}
	if kind == "plugin" {
		return !strings.Contains(rest, "/")
	}
	namespace, name, ok := strings.Cut(rest, "/")
	return ok && namespace != "" && name != "" && !strings.Contains(name, "/") && !strings.Contains(kind, "/")
}

// readModule notes what parts of the identity a module reads, and whether it looks
// into their texts.
func (f *finder) readModule(module *ast.Module) {
	f.readTerms(module)
	ast.WalkRules(module, func(r *ast.Rule) bool {
		f.readPlaces(module, r)
		f.readTexts(module, r)
		f.readCase(r)
		return false
	})
	ast.WalkExprs(module, func(e *ast.Expr) bool {
		f.readCall(e)
		return false
	})
	ast.WalkTerms(module, func(t *ast.Term) bool {
		if call, ok := t.Value.(ast.Call); ok {
			f.look(call[0].Value.String(), call[1:], t.Location)
		}
		return false
	})
}

func (f *finder) readTerms(x any) {
	ast.WalkTerms(x, func(t *ast.Term) bool {
		switch v := t.Value.(type) {
		case ast.Ref:
			if v.HasPrefix(ast.InputRootRef) {
				f.reads |= partsOf(v)
				for _, step := range v[1:] { // what stands in the brackets can be a reference too
					f.readTerms(step)
				}
				return true
			}
		case ast.Var:
			if v.Equal(ast.InputRootDocument.Value) {
				f.reads = readsAll
			}
		}
		return false
	})
}

func (f *finder) readCall(e *ast.Expr) {
	if terms, ok := e.Terms.([]*ast.Term); ok {
		f.look(terms[0].Value.String(), terms[1:], e.Location)
	}
}

// textual are builtins that look into a text.
var textual = map[string]bool{
	"startswith": true, "endswith": true, "contains": true, "indexof": true, "indexof_n": true, "split": true,
	"substring": true, "replace": true, "strings.replace_n": true, "trim": true, "trim_left": true, "trim_right": true,
	"trim_prefix": true, "trim_suffix": true, "glob.match": true, "regex.match": true, "regex.find_n": true,
	"regex.find_all_string_submatch_n": true, "regex.split": true, "regex.replace": true, "regex.template_match": true,
	"strings.any_prefix_match": true, "strings.any_suffix_match": true, "strings.count": true, "strings.reverse": true,
	"concat": true, "sprintf": true, "count": true, "json.marshal": true, "trim_space": true, "max": true, "min": true,
	"crypto.sha256": true, "crypto.sha1": true, "crypto.md5": true, "crypto.hmac.sha256": true, "crypto.hmac.equal": true,
	"base64.encode": true, "base64url.encode": true, "hex.encode": true, "urlquery.encode": true,
	"json.filter": true, "json.remove": true, "json.patch": true, "object.filter": true, "object.remove": true,
	"lt": true, "lte": true, "gt": true, "gte": true, "to_number": true, "io.jwt.decode": true,
}

// ofNumbers is whether a comparison is one of numbers.
func ofNumbers(args []*ast.Term) bool {
	return slices.ContainsFunc(args, func(t *ast.Term) bool {
		switch v := t.Value.(type) {
		case ast.Number:
			return true
		case ast.Call:
			name := v[0].Value.String()
			return name == "count" || strings.HasPrefix(name, "time.")
		}
		return false
	})
}

func (f *finder) look(name string, args []*ast.Term, at *ast.Location) {
	if !textual[name] || slices.Contains([]string{"lt", "lte", "gt", "gte"}, name) && ofNumbers(args) {
		return
	}
	f.witness(name, args)
	if f.opaque != "" {
		return
	}
	if name == "count" { // of claims it looks at how many there are
		for _, arg := range args {
			if ref, ok := arg.Value.(ast.Ref); !ok || partsOf(ref)&readsAll == 0 {
				return
			}
		}
	}
	for _, arg := range args {
		if !harmless(arg) {
			f.opaque = name
			if at != nil {
				f.opaque = fmt.Sprintf("%s at %s:%d", name, at.File, at.Row)
			}
			return
		}
	}
}

// witness makes references of what a text is compared with in part.
func (f *finder) witness(name string, args []*ast.Term) {
	for _, arg := range args {
		s, ok := arg.Value.(ast.String)
		if !ok {
			continue
		}
		text := string(s)
		switch name {
		case "startswith":
			text += "some"
		case "endswith":
			text = "group:default/some" + text
		case "glob.match":
			text = strings.NewReplacer("**", "some", "*", "some").Replace(text)
		default:
			continue
		}
		f.mark(text, "source "+text)
	}
}

// harmless is whether a term cannot be a part of the identity.
func harmless(t *ast.Term) bool {
	switch v := t.Value.(type) {
	case ast.Var, ast.Call:
		return false
	case ast.Ref:
		return v.HasPrefix(ast.InputRootRef) && len(v) > 1 && v[1].Equal(ast.StringTerm("permission"))
	case *ast.Array:
		ok := true
		v.Foreach(func(t *ast.Term) { ok = ok && harmless(t) })
		return ok
	case ast.Set:
		ok := true
		v.Foreach(func(t *ast.Term) { ok = ok && harmless(t) })
		return ok
	case *ast.ArrayComprehension, *ast.SetComprehension, *ast.ObjectComprehension:
		return false
	}
	return true
}

func partsOf(ref ast.Ref) reads {
	step := func(i int) string {
		if i < len(ref) {
			if s, ok := ref[i].Value.(ast.String); ok {
				return string(s)
			}
			return "*"
		}
		return ""
	}
	if !ref.HasPrefix(ast.InputRootRef) {
		return 0
	}
	switch step(1) {
	case "", "*":
		return readsAll
	case "identity":
		switch step(2) {
		case "user":
			return readsPresence | readsUser
		case "claims":
			return readsPresence | readsClaims
		case "actor":
			return readsPresence | readsActor
		}
		return readsAll
	}
	return 0
}

// group is references that the policy does not tell apart.
type group struct {
	refs []string
}

func (g group) name() string {
	if n := len(g.refs); n > 1 {
		return fmt.Sprintf("%s (and %d like it)", g.refs[0], n-1)
	}
	return g.refs[0]
}

// groups are the references that occur, folded, of the kinds for which is holds.
func (f *finder) groups(is func(ref string) bool) []group {
	byMarks := map[string]*group{}
	var order []string
	for _, ref := range slices.Sorted(maps.Keys(f.marks)) {
		if !is(ref) {
			continue
		}
		key := strings.Join(f.marks[ref], "\n")
		if byMarks[key] == nil {
			byMarks[key] = &group{}
			order = append(order, key)
		}
		byMarks[key].refs = append(byMarks[key].refs, ref)
	}
	var groups []group
	for _, key := range order {
		groups = append(groups, *byMarks[key])
	}
	return groups
}

func isActor(ref string) bool { return strings.HasPrefix(ref, "plugin:") }
func isUser(ref string) bool  { return strings.HasPrefix(ref, "user:") }

func (f *finder) classes() Classes {
	f.seen = map[string]int{}
	whole := f.combine()
	for _, known := range f.sources.Known {
		f.add(Name(known), known)
	}
	f.addTests()
	f.addPeople()
	c := Classes{List: f.list, All: whole && f.opaque == "" && !f.isPlaced() && f.others == "" && f.sources.Apart == ""}
	switch {
	case f.opaque != "":
		c.Why = "the policy looks into the text of references: " + f.opaque
	case f.isPlaced():
		c.Why = "the policy asks for an element of a list by its place: " + f.placed
	case f.others != "":
		c.Why = f.others
	case f.sources.Apart != "":
		c.Why = "the policy asks more of callers than which of its texts their claims are: " + f.sources.Apart
	case !whole:
		c.Why = fmt.Sprintf("the policy knows so many references that only %d combinations were asked about", len(f.list))
	}
	return c
}

// isPlaced is whether a place in a list can matter to callers.
func (f *finder) isPlaced() bool { return f.placed != "" && f.reads&(readsUser|readsClaims) != 0 }

// combine adds the classes that constants make, and reports whether these are all
// combinations.
func (f *finder) combine() bool {
	signedIn := decision.Caller{User: Somebody, Claims: []string{Somebody}}
	if f.reads == 0 {
		f.add("anybody, even without credentials", signedIn)
		return true
	}
	f.add("anybody who is signed in", signedIn)
	f.add("a caller without credentials", decision.Caller{Anonymous: true})
	users := f.groups(isUser)
	claims := f.groups(func(ref string) bool { return !isUser(ref) && !isActor(ref) })
	actors := f.groups(isActor)
	if f.reads&readsClaims == 0 {
		claims = nil
	}
	if f.reads&(readsUser|readsClaims) == 0 {
		users = nil
	}
	switch {
	case f.reads&readsActor == 0:
		actors = nil
	case f.actor: // no constant stands for the plugins that the policy does not name
		actors = append(actors, group{refs: []string{AnotherPlugin}})
	}
	// One of each comes first: it is what people mean.
	for _, g := range claims {
		f.addConstant(nil, []group{g}, nil)
	}
	for _, u := range users {
		f.addConstant(&u, nil, nil)
	}
	for _, a := range actors {
		f.addConstant(nil, nil, &a)
	}
	if len(claims) < 20 && (len(users)+1)*(1<<len(claims))*(len(actors)+1) <= f.sources.Most {
		for _, u := range append([]*group{nil}, pointers(users)...) {
			for _, a := range append([]*group{nil}, pointers(actors)...) {
				for set := range 1 << len(claims) {
					var in []group
					for i, g := range claims {
						if set&(1<<i) != 0 {
							in = append(in, g)
						}
					}
					f.addConstant(u, in, a)
				}
			}
		}
		return true
	}
	if len(claims) > 1 {
		f.addConstant(nil, claims, nil)
	}
	for i, g := range claims {
		for _, other := range claims[i+1:] {
			if len(f.list) >= f.sources.Most {
				return false
			}
			f.addConstant(nil, []group{g, other}, nil)
		}
	}
	return false
}

func pointers(groups []group) []*group {
	var p []*group
	for i := range groups {
		p = append(p, &groups[i])
	}
	return p
}

func (f *finder) addConstant(user *group, claims []group, actor *group) {
	c := decision.Caller{User: Somebody}
	var names []string
	if user != nil {
		c.User = user.refs[0]
		names = append(names, user.name())
	}
	c.Claims = []string{c.User}
	var in []string
	for _, g := range claims {
		c.Claims = append(c.Claims, g.refs[0])
		in = append(in, g.name())
	}
	if len(in) > 0 {
		names = append(names, "in "+strings.Join(in, " and "))
	}
	if actor != nil {
		c.Actor = actor.refs[0]
		names = append(names, "through "+actor.name())
	}
	f.add(strings.Join(names, ", "), c)
}

func (f *finder) add(name string, c decision.Caller) *Class {
	key := f.view(c)
	if at, ok := f.seen[key]; ok {
		return &f.list[at]
	}
	if len(f.list) > 4*f.sources.Most { // as many as no report can hold
		return nil
	}
	f.seen[key] = len(f.list)
	f.list = append(f.list, Class{Name: cmp.Or(name, Name(c)), Example: c})
	return &f.list[len(f.list)-1]
}

// view is what the policy can see of a caller.
func (f *finder) view(c decision.Caller) string {
	if f.reads == 0 {
		return ""
	}
	if c.Anonymous {
		return "anonymous"
	}
	var parts []string
	see := func(part reads, prefix, ref string) {
		switch marks, known := f.marks[ref]; {
		case f.reads&part == 0:
		case f.opaque != "":
			parts = append(parts, prefix+ref)
		case known:
			parts = append(parts, prefix+strings.Join(marks, "\n"))
		}
	}
	see(readsUser, "user ", c.User)
	for _, claim := range c.Claims {
		see(readsClaims, "claim ", claim)
	}
	if f.reads&readsActor != 0 && c.Actor != "" {
		parts = append(parts, "actor")
		see(readsActor, "actor ", c.Actor)
	}
	slices.Sort(parts)
	return "signed in\n" + strings.Join(slices.Compact(parts), "\n")
}

// Name says who a caller is.
func Name(c decision.Caller) string {
	if c.Anonymous {
		return "a caller without credentials"
	}
	name := c.User
	var in []string
	for _, claim := range c.Claims {
		if claim != c.User {
			in = append(in, claim)
		}
	}
	if len(in) > 0 {
		name += " in " + strings.Join(in, " and ")
	}
	if c.Actor != "" {
		name += " through " + c.Actor
	}
	return name
}

// addTests adds the callers that tests write as input.identity.
func (f *finder) addTests() {
	for _, name := range slices.Sorted(maps.Keys(f.sources.Tests)) {
		ast.WalkTerms(f.sources.Tests[name], func(t *ast.Term) bool {
			object, ok := t.Value.(ast.Object)
			if !ok {
				return false
			}
			if c, ok := callerOf(object); ok {
				f.add("", c)
			}
			return false
		})
	}
}

// callerOf reads an object with user and claims.
func callerOf(object ast.Object) (decision.Caller, bool) {
	user, ok := object.Get(ast.StringTerm("user")), false
	c := decision.Caller{}
	if user == nil {
		return c, false
	}
	name, isText := user.Value.(ast.String)
	c.User = string(name)
	claims := object.Get(ast.StringTerm("claims"))
	if !isText || claims == nil {
		return c, false
	}
	list, isList := claims.Value.(*ast.Array)
	if !isList {
		return c, false
	}
	ok = true
	list.Foreach(func(t *ast.Term) {
		s, isText := t.Value.(ast.String)
		ok = ok && isText
		c.Claims = append(c.Claims, string(s))
	})
	if actor := object.Get(ast.StringTerm("actor")); actor != nil {
		if s, isText := actor.Value.(ast.String); isText {
			c.Actor = string(s)
		}
	}
	return c, ok
}

func (f *finder) addPeople() {
	if f.sources.Inventory == nil {
		return
	}
	for _, user := range slices.Sorted(maps.Keys(f.sources.Inventory.People)) {
		c := decision.Caller{User: user, Claims: f.sources.Inventory.People[user].Claims}
		if class := f.add("", c); class != nil {
			class.People++
		}
	}
}
