// Package fold folds callers whom policies treat alike: what is decided for one of them
// is decided for the others, but for their own references in the conditions.
//
// Most policies turn a caller into something small before they decide: the roles of the
// groups, whether somebody is an admin. Rules that depend on the caller and on nothing
// else of the input are evaluated for each caller, by stock evaluation. What is left of
// the policy reads their values, and perhaps the claims and the user themselves.
//
// That rest cannot tell two texts apart which neither its source nor the data that it
// reads has, as long as it only compares texts, looks them up and hands them on.
// Exchanging one for the other throughout then exchanges it throughout the answer. So
// callers are alike where the same texts that the rest knows stand in the same places,
// and where the other texts are as many of each kind. The key of a caller says that.
//
// A rest that looks into a text, or at the order of a list, can tell any two callers
// apart. So can one that makes a text, such as sprintf("group:default/%s", [team]), and
// compares it with the caller's. The data flow of flow.go looks for that, and
// [Folder.Why] says where.
package fold

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage"

	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/offline"
)

// A Folder folds callers of policies that are asked the same. It is safe for concurrent
// use.
type Folder struct {
	policies []*policy
	why      string
}

// policy is what a policy looks at of a caller.
type policy struct {
	query rego.PreparedEvalQuery // the values of the rules about the caller alone
	store storage.Store
	// known are the texts of the rest's source and data, in lower case.
	known map[string]bool
	reads map[string]bool // members of the identity that the rest reads itself
}

// New reads policies. Further texts are known to all of them, such as those of a
// resource that is asked about. The error is that of compiling a policy or of reading its
// data.
func New(ctx context.Context, further any, policies ...*offline.Policy) (*Folder, error) {
	f := &Folder{}
	for _, p := range policies {
		of, why, err := read(ctx, p, further)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.Path, err)
		}
		if f.why == "" {
			f.why = why
		}
		f.policies = append(f.policies, of)
	}
	return f, nil
}

// Why says what keeps callers apart who could be alike, with file and line. It is empty
// where nothing does.
func (f *Folder) Why() string { return f.why }

func read(ctx context.Context, p *offline.Policy, further any) (*policy, string, error) {
	modules := make(map[string]*ast.Module)
	for _, of := range []map[string]*ast.Module{offline.Library(), p.Modules()} {
		for name, m := range of {
			modules[name] = m.Copy()
		}
	}
	compiler := ast.NewCompiler().WithCapabilities(p.Capabilities())
	if compiler.Compile(modules); compiler.Failed() {
		return nil, "", compiler.Errors
	}
	flow := newFlow(compiler, p)
	why := flow.read()
	if sources := p.Nondeterministic(); len(sources) > 0 {
		why = fmt.Sprintf("%s at %s", sources[0].Builtin, sources[0].Location)
	}
	of := &policy{store: p.Data(), known: flow.known, reads: flow.reads}
	if why != "" {
		return of, why, nil
	}
	noteTexts(further, of.known)
	for path := range flow.data {
		if err := of.noteData(ctx, path); err != nil {
			return nil, "", err
		}
	}
	about := slices.Sorted(maps.Keys(flow.about))
	values := make([]string, len(about))
	for i, path := range about {
		values[i] = fmt.Sprintf("[v | v := %s]", path)
	}
	var err error
	of.query, err = rego.New(rego.Compiler(compiler), rego.Store(p.Data()),
		rego.Query("["+strings.Join(values, ", ")+"]"), rego.GenerateJSON(asTerm)).PrepareForEval(ctx)
	return of, "", err
}

// asTerm leaves a value as it is: as JSON, a set would be a list.
func asTerm(t *ast.Term, _ *rego.EvalContext) (any, error) { return t, nil }

// noteData notes the texts of a part of the data, by its path.
func (p *policy) noteData(ctx context.Context, path string) error {
	ref, err := ast.ParseRef(path)
	if err != nil {
		return err
	}
	at, err := storage.NewPathForRef(ref)
	if err != nil { // Nothing stands at a key that is neither a text nor a number.
		return nil //nolint:nilerr // likewise
	}
	value, err := storage.ReadOne(ctx, p.store, at)
	if storage.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if v, ok := value.(ast.Value); ok {
		if value, err = ast.JSON(v); err != nil {
			return err
		}
	}
	noteTexts(value, p.known)
	return nil
}

func noteTexts(value any, known map[string]bool) {
	switch value := value.(type) {
	case string:
		known[strings.ToLower(value)] = true
	case []any:
		for _, element := range value {
			noteTexts(element, known)
		}
	case map[string]any:
		for name, member := range value {
			known[strings.ToLower(name)] = true
			noteTexts(member, known)
		}
	}
}

// Key is the same for callers who are alike. A caller for whom a rule fails is alike to
// nobody.
func (f *Folder) Key(ctx context.Context, c decision.Caller) (string, error) {
	if c.Anonymous {
		return "anonymous", nil
	}
	whole, err := json.Marshal(c)
	if err != nil || f.why != "" {
		return string(whole), err
	}
	var key strings.Builder
	for _, p := range f.policies {
		of, ok := p.key(ctx, c)
		if err := ctx.Err(); err != nil {
			return "", err
		}
		if !ok {
			return string(whole), nil
		}
		fmt.Fprintf(&key, "%d %s", len(of), of)
	}
	return key.String(), nil
}

func (p *policy) key(ctx context.Context, c decision.Caller) (string, bool) {
	identity := decision.Identity(c)
	results, err := p.query.Eval(ctx, rego.EvalParsedInput(ast.NewObject(ast.Item(ast.StringTerm("identity"), identity))))
	if err != nil || len(results) != 1 {
		return "", false
	}
	all, ok := results[0].Expressions[0].Value.(*ast.Term)
	if !ok {
		return "", false
	}
	values, ok := all.Value.(*ast.Array)
	if !ok {
		return "", false
	}
	k := keying{known: p.known, strangers: make(map[string][]string)}
	for i := range values.Len() {
		if list, ok := values.Elem(i).Value.(*ast.Array); ok && list.Len() == 1 { // otherwise the rule is undefined
			k.place(strconv.Itoa(i), list.Elem(0))
		}
	}
	if p.reads["user"] {
		k.text("user", c.User)
	}
	if p.reads["actor"] && c.Actor != "" {
		k.text("actor", c.Actor)
	}
	if p.reads["claims"] {
		for _, claim := range c.Claims {
			k.text("claims", claim)
		}
	}
	return k.String(), !k.alone
}

// keying gathers where texts stand.
type keying struct {
	known map[string]bool
	seen  []string
	// strangers are the places of each text that the rest does not know.
	strangers map[string][]string
	// alone is whether the caller is alike to nobody.
	alone bool
}

// place notes where the texts of a value stand. What a record has by a name that is
// known has a place of its own. Of the elements of a list, all texts have one place, so
// that their order does not count. A collection or record in a list must have no
// stranger: it would matter with which others it stands together.
func (k *keying) place(at string, value *ast.Term) {
	switch value := value.Value.(type) {
	case ast.String:
		k.text(at, string(value))
	case *ast.Array:
		k.note("%s is a list of %d", at, value.Len())
		value.Foreach(func(element *ast.Term) { k.element(at, element) })
	case ast.Set:
		k.note("%s is a set of %d", at, value.Len())
		value.Foreach(func(element *ast.Term) { k.element(at, element) })
	case ast.Object:
		k.note("%s is a record of %d", at, value.Len())
		value.Foreach(func(key, member *ast.Term) {
			name, ok := key.Value.(ast.String)
			switch {
			case !ok:
				k.note("%s[%s] is %s", at, k.plain(key), k.plain(member))
			case k.isKnown(strings.ToLower(string(name))):
				k.place(at+"."+name.String(), member)
			default:
				k.text(fmt.Sprintf("%s{%s}", at, k.plain(member)), string(name))
			}
		})
	default:
		k.note("%s is %s", at, value)
	}
}

// element notes where the texts of an element of a list or set stand.
func (k *keying) element(of string, element *ast.Term) {
	if text, ok := element.Value.(ast.String); ok {
		k.text(of+"[]", string(text))
		return
	}
	k.note("%s[] is %s", of, k.plain(element))
}

// isKnown is whether the rest can tell a text, in lower case, from others: it has it, or
// the text is a number and so the position of an element in a list of the data.
func (k *keying) isKnown(lower string) bool {
	_, err := strconv.Atoi(lower)
	return err == nil || k.known[lower]
}

// text notes where a text stands. A stranger that is not in lower case is taken for
// nobody else's, since lower() would make another text of it.
func (k *keying) text(at, text string) {
	lower := strings.ToLower(text)
	switch {
	case k.isKnown(lower):
		k.note("%s is %q", at, text)
	case lower != text:
		k.alone = true
	default:
		k.strangers[text] = append(k.strangers[text], at)
	}
}

func (k *keying) note(format string, args ...any) {
	k.seen = append(k.seen, fmt.Sprintf(format, args...))
}

// plain is how a value is written that has no stranger in it. With one, the caller is
// alike to nobody.
func (k *keying) plain(value *ast.Term) string {
	ast.WalkTerms(value, func(t *ast.Term) bool {
		text, ok := t.Value.(ast.String)
		k.alone = k.alone || ok && !k.isKnown(strings.ToLower(string(text)))
		return false
	})
	return value.String()
}

// String says what stands where, and how many strangers stand in the same places.
func (k *keying) String() string {
	all := k.seen
	for _, places := range k.strangers {
		slices.Sort(places)
		all = append(all, "stranger "+strings.Join(places, " "))
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}
