package callers

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stagedoor/stagedoor/adapter/decision"
)

// A Folder folds callers whom policies treat alike: what is decided for one of them is
// decided for the others, but for their own references in the conditions.
//
// A policy that only compares references, looks them up and hands them on cannot tell
// two texts apart that neither its source nor its data has. Exchanging one for the
// other throughout the input exchanges it throughout the answer. So callers are alike
// where they have the same references that the policies know. Of the others it matters
// only whether there are any.
//
// That does not hold where a policy looks into a text, counts claims, or depends on
// their order. Then callers are alike only where they are equal, and [Folder.Why] says
// where.
//
// A Folder is safe for concurrent use.
type Folder struct {
	known map[string]bool // texts of sources and data, in lower case
	reads reads
	why   string
}

// Folding are the policies whose callers are folded: modules without tests, and data as
// encoding/json decodes it.
type Folding struct {
	Modules map[string]*ast.Module
	Data    any
}

// NewFolder returns a Folder for policies that are asked the same.
func NewFolder(of ...Folding) *Folder {
	f := &Folder{known: make(map[string]bool)}
	for _, p := range of {
		for _, name := range slices.Sorted(maps.Keys(p.Modules)) {
			f.readModule(p.Modules[name])
		}
		f.readData(p.Data)
	}
	return f
}

// Why says what keeps callers apart who could be alike, with file and line. It is empty
// where nothing does.
func (f *Folder) Why() string { return f.why }

// Key is the same for callers who are alike, and for no others.
func (f *Folder) Key(c decision.Caller) string {
	if c.Anonymous {
		return "anonymous"
	}
	var b strings.Builder
	write := func(text string) { fmt.Fprintf(&b, "%d %s", len(text), text) }
	if f.why != "" {
		write(c.User)
		write(c.Actor)
		for _, claim := range c.Claims {
			write(claim)
		}
		return b.String()
	}
	if f.reads&readsActor != 0 {
		write(c.Actor)
	}
	var others [2]bool // claims that the policies do not know, without and with capitals
	if f.reads&readsClaims != 0 {
		var known []string
		for _, claim := range c.Claims {
			switch {
			case f.known[strings.ToLower(claim)]:
				known = append(known, claim)
			case claim != c.User:
				others[capitals(claim)] = true
			}
		}
		slices.Sort(known)
		for _, claim := range slices.Compact(known) {
			write(claim)
		}
		fmt.Fprintf(&b, "others %v", others)
	}
	if f.reads&(readsUser|readsClaims) != 0 {
		if f.known[strings.ToLower(c.User)] {
			write(c.User)
		}
		fmt.Fprintf(&b, "user %d %t", capitals(c.User), slices.Contains(c.Claims, c.User))
	}
	return b.String()
}

func capitals(text string) int {
	if strings.ToLower(text) != text {
		return 1
	}
	return 0
}

func (f *Folder) readData(value any) {
	switch value := value.(type) {
	case string:
		f.known[strings.ToLower(value)] = true
	case []any:
		for _, element := range value {
			f.readData(element)
		}
	case map[string]any:
		for name, member := range value {
			f.known[strings.ToLower(name)] = true
			f.readData(member)
		}
	}
}

func (f *Folder) readModule(m *ast.Module) {
	scan := finder{marks: make(map[string][]string)}
	scan.readTerms(m)
	f.reads |= scan.reads
	counted := harmlessCounts(m)
	ast.WalkTerms(m, func(t *ast.Term) bool {
		switch v := t.Value.(type) {
		case ast.String:
			f.known[strings.ToLower(string(v))] = true
		case ast.Ref:
			f.readRef(v, t.Location)
		case ast.Call:
			f.readCall(v[0].Value.String(), v[1:], t.Location, counted[t])
		}
		return false
	})
	ast.WalkExprs(m, func(e *ast.Expr) bool {
		if terms, ok := e.Terms.([]*ast.Term); ok && len(terms) > 0 {
			f.readCall(terms[0].Value.String(), terms[1:], e.Location, false)
		}
		return false
	})
}

// readRef looks for an element that is asked for by its place: of claims, or of a list
// that may be made of them.
func (f *Folder) readRef(ref ast.Ref, at *ast.Location) {
	if slices.ContainsFunc(ref, isNumber) {
		f.because("an element is asked for by its place", at)
	}
}

// alike are the builtins that do the same when a text is exchanged for another
// throughout. Those that compare numbers are so where one of the two is a number.
var alike = map[string]bool{
	"eq": true, "equal": true, "neq": true, "assign": true, "lower": true, "print": true, "internal.print": true,
	"internal.member_2": true, "internal.member_3": true, "and": true, "or": true, "minus": true,
	"plus": true, "mul": true, "div": true, "rem": true, // a text is an error in each
	"union": true, "intersection": true, "walk": true, "array.concat": true,
	"object.get": true, "object.keys": true, "object.union": true, "object.union_n": true, "object.remove": true,
	"object.filter": true, "object.subset": true, "graph.reachable": true, "json.filter": true, "json.remove": true,
	"is_string": true, "is_array": true, "is_object": true, "is_set": true, "is_null": true,
	"is_number": true, "is_boolean": true,
}

// compares are the builtins that compare numbers, or texts by their order.
var compares = map[string]bool{"lt": true, "lte": true, "gt": true, "gte": true}

func (f *Folder) readCall(name string, args []*ast.Term, at *ast.Location, counted bool) {
	_, builtin := ast.BuiltinMap[name]
	switch {
	case f.why != "", !builtin, alike[name], name == "count" && counted:
		return
	case compares[name] && slices.ContainsFunc(args, isNumber):
		return
	}
	for _, arg := range args {
		if !harmless(arg) {
			f.because(name, at)
			return
		}
	}
}

func (f *Folder) because(what string, at *ast.Location) {
	if f.why != "" {
		return
	}
	if f.why = what; at != nil {
		f.why = fmt.Sprintf("%s at %s:%d", what, at.File, at.Row)
	}
}

func isNumber(t *ast.Term) bool {
	_, ok := t.Value.(ast.Number)
	return ok
}

// harmlessCounts are the calls of count that are compared in a way that only asks
// whether there is anything.
func harmlessCounts(m *ast.Module) map[*ast.Term]bool {
	found := make(map[*ast.Term]bool)
	ast.WalkExprs(m, func(e *ast.Expr) bool {
		terms, ok := e.Terms.([]*ast.Term)
		if !ok || len(terms) != 3 {
			return false
		}
		for i, side := range terms[1:] {
			call, ok := side.Value.(ast.Call)
			if ok && call[0].Value.String() == "count" && isAny(terms[0].Value.String(), terms[2-i], i == 1) {
				found[side] = true
			}
		}
		return false
	})
	return found
}

// turnedRound are the comparisons of y with x that are one of x with y.
var turnedRound = map[string]string{"lt": "gt", "lte": "gte", "gt": "lt", "gte": "lte"}

// isAny is whether comparing a count with a number only asks whether there is anything.
func isAny(operator string, with *ast.Term, flipped bool) bool {
	n, ok := with.Value.(ast.Number)
	if !ok {
		return false
	}
	if turned, ok := turnedRound[operator]; ok && flipped {
		operator = turned
	}
	switch operator {
	case "eq", "equal", "neq", "gt", "lte":
		return n.Equal(ast.Number("0"))
	case "gte", "lt":
		return n.Equal(ast.Number("1"))
	}
	return false
}
