// Package theory has what formulas about callers and resources are written in.
//
// A [Symbol] is a value that depends on who asks, or on the resource. It stands in terms of
// OPA's. A [Collection] is a set, list or object whose members do. An [Atom] is a question
// about them, and a variable of the Space in which functions are. [Theory.Equal],
// [Theory.In] and the like ask: what depends on nobody they answer, and the rest becomes
// atoms.
//
// To go over the claims introduces one element, of which nothing is known. [Theory.Some]
// closes a function: there are elements for which it holds. Where an equality says what an
// element is, the element is replaced by that. So "some claim is group:default/admins"
// becomes "the caller has that claim".
//
// No question is simplified by anything but its meaning.
package theory

import (
	"crypto/rand"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/types"

	"github.com/stagedoor/stagedoor/adapter/criteria"
)

// A Symbol is a value that depends on who asks. In a term it stands as a text that
// nobody else can write, its token.
type Symbol struct {
	Kind   SymbolKind  // what it stands for
	Name   string      // of a call: the builtin
	Args   []*ast.Term // of a call its operands, of an index the base and the key, of an element what it is of
	Number int         // of an element
	Of     *Collection // of a collection
	Type   types.Type  // of its values; nil where nothing can be done with them
	Free   []int       // the elements that it depends on, ascending
	Token  *ast.Term   // what stands in terms
	Text   string      // the same for equal symbols
}

// SymbolKind is what a symbol stands for.
type SymbolKind uint8

// What symbols stand for.
const (
	KindUser       SymbolKind = iota // the user
	KindActor                        // the plugin through which the user asks
	KindClaims                       // the list of claims
	KindResource                     // the resource
	KindElement                      // some element of a list or set
	KindPosition                     // where in the list it stands
	KindCall                         // what a builtin makes of others
	KindIndex                        // what stands at a key
	KindCollection                   // a set, list or object
)

// A Theory is what formulas about callers and resources are written in. Two policies
// that are compared share one.
type Theory struct {
	Space   *criteria.Space // of the atoms
	nonce   string
	symbols map[string]*Symbol // by token
	byText  map[string]*Symbol
	Atoms   map[criteria.Function]*Atom // by the variable that they are
	byKey   map[string]criteria.Function
	numbers int
	// What is assumed of atoms once a comparison is made.
	users  []criteria.Function
	failed error // what became of an atom that was made of another

	// User, Actor, Claims and Resource are the symbols that all others are made of.
	User, Actor, Claims, Resource *Symbol
}

// New is one of nothing but the caller and the resource.
func New() *Theory {
	t := &Theory{
		Space:   criteria.NewSpace(),
		nonce:   "stagedoor symbol " + rand.Text() + " ",
		symbols: make(map[string]*Symbol),
		byText:  make(map[string]*Symbol),
		Atoms:   make(map[criteria.Function]*Atom),
		byKey:   make(map[string]criteria.Function),
	}
	t.User = t.symbol(Symbol{Kind: KindUser, Text: UserText, Type: types.S})
	t.Actor = t.symbol(Symbol{Kind: KindActor, Text: actorText, Type: types.S})
	t.Claims = t.symbol(Symbol{Kind: KindClaims, Text: ClaimsText, Type: types.NewArray(nil, types.S)})
	t.Resource = t.symbol(Symbol{Kind: KindResource, Text: "$resource", Type: types.A})
	return t
}

// How the caller is written where a param depends on it, as in the data of the RBAC
// plugin.
const (
	UserText   = "$currentUser"
	ClaimsText = "$ownerRefs"
	actorText  = "$actor"
)

// symbol returns the symbol that is equal to s.
func (t *Theory) symbol(s Symbol) *Symbol {
	if known, ok := t.byText[s.Text]; ok {
		return known
	}
	token := t.nonce + strconv.Itoa(len(t.symbols))
	s.Token = ast.StringTerm(token)
	t.symbols[token], t.byText[s.Text] = &s, &s
	return &s
}

// SymbolOf is the symbol that a term is, or nil.
func (t *Theory) SymbolOf(term *ast.Term) *Symbol {
	if s, ok := term.Value.(ast.String); ok && strings.HasPrefix(string(s), t.nonce) {
		return t.symbols[string(s)]
	}
	return nil
}

// Symbolic is whether a term is a symbol or has one in it.
func (t *Theory) Symbolic(term *ast.Term) bool {
	found := false
	t.EachSymbol(term, func(*Symbol) { found = true })
	return found
}

// EachSymbol visits the symbols of a term. Of an object the keys are none.
func (t *Theory) EachSymbol(term *ast.Term, visit func(*Symbol)) {
	switch v := term.Value.(type) {
	case ast.String:
		if s := t.SymbolOf(term); s != nil {
			visit(s)
		}
	case *ast.Array:
		v.Foreach(func(e *ast.Term) { t.EachSymbol(e, visit) })
	case ast.Set:
		v.Foreach(func(e *ast.Term) { t.EachSymbol(e, visit) })
	case ast.Object:
		v.Foreach(func(key, value *ast.Term) {
			t.EachSymbol(key, visit)
			t.EachSymbol(value, visit)
		})
	}
}

// FreeOf are the elements that terms depend on.
func (t *Theory) FreeOf(terms ...*ast.Term) []int {
	var free []int
	for _, term := range terms {
		t.EachSymbol(term, func(s *Symbol) { free = append(free, s.Free...) })
	}
	slices.Sort(free)
	return slices.Compact(free)
}

// Element is a new element of a list or set.
func (t *Theory) Element(of *ast.Term) *Symbol {
	t.numbers++
	is := types.A
	if s := t.SymbolOf(of); s != nil {
		if v := types.Values(s.Type); v != nil {
			is = v
		}
	}
	n := t.numbers
	return t.symbol(Symbol{Kind: KindElement, Args: []*ast.Term{of}, Number: n, Type: is, Free: []int{n},
		Text: elementText(n)})
}

// Domain is what an element is of.
func (t *Theory) Domain(n int) *ast.Term { return t.byText[elementText(n)].Args[0] }

// Call is what a builtin makes of operands that depend on the caller.
func (t *Theory) Call(name string, args []*ast.Term) *Symbol {
	is := types.A
	if b := ast.BuiltinMap[name]; b != nil && b.Decl.Result() != nil {
		is = b.Decl.Result()
	}
	return t.symbol(Symbol{Kind: KindCall, Name: name, Args: args, Type: is, Free: t.FreeOf(args...),
		Text: name + "(" + t.Texts(args) + ")"})
}

// Index is what stands at a key of a value that depends on the caller.
func (t *Theory) Index(base, key *ast.Term) *Symbol {
	is := types.A
	if s := t.SymbolOf(base); s != nil {
		if v := types.Values(s.Type); v != nil {
			is = v
		}
	}
	return t.symbol(Symbol{Kind: KindIndex, Args: []*ast.Term{base, key}, Type: is, Free: t.FreeOf(base, key),
		Text: t.TextOf(base) + "[" + t.TextOf(key) + "]"})
}

// Texts writes terms, the same for equal ones.
func (t *Theory) Texts(terms []*ast.Term) string {
	list := make([]string, len(terms))
	for i, term := range terms {
		list[i] = t.TextOf(term)
	}
	return strings.Join(list, ", ")
}

// TextOf writes a term, the same for equal ones.
func (t *Theory) TextOf(term *ast.Term) string {
	if s := t.SymbolOf(term); s != nil {
		return s.Text
	}
	if !t.Symbolic(term) {
		return term.String()
	}
	var list []string
	switch v := term.Value.(type) {
	case *ast.Array:
		v.Foreach(func(e *ast.Term) { list = append(list, t.TextOf(e)) })
		return "[" + strings.Join(list, ", ") + "]"
	case ast.Object:
		v.Foreach(func(key, value *ast.Term) { list = append(list, t.TextOf(key)+": "+t.TextOf(value)) })
		return "{" + strings.Join(list, ", ") + "}"
	}
	return term.String()
}

// IsText is whether the values of a symbol are texts, and cannot be anything else.
func (s *Symbol) IsText() bool { return s.Type != nil && types.Compare(s.Type, types.S) == 0 }

// A Collection is a set, list or object whose members depend on the caller or the
// resource.
type Collection struct {
	Shape   Shape    // which of the three it is
	Members []Member // what can be in it
}

// Shape is that of a collection.
type Shape uint8

// The shapes.
const (
	Set    Shape = iota // whose equal members are one
	List                // of a list the order is not known
	Object              // whose members have keys
)

// Member is a value that can be in a collection, with its key in an object, and where
// it is: for every choice of the elements over.
type Member struct {
	Key, Value *ast.Term         // the key is nil in a list or set
	Where      criteria.Function // where it is one
	Over       []int             // the elements for whose every choice it is
}

// CollectionTerm is a term for a collection: a plain value where nothing of it
// depends on the caller or the resource.
func (t *Theory) CollectionTerm(c *Collection) (*ast.Term, error) {
	plain := true
	for _, m := range c.Members {
		plain = plain && m.Where == criteria.Granted && len(m.Over) == 0 &&
			(c.Shape == List || !t.Symbolic(KeyOf(c.Shape, m)))
	}
	if plain {
		return c.Term(), nil
	}
	var list []string
	var open []int
	for _, m := range c.Members {
		text, err := t.memberText(m)
		if err != nil {
			return nil, err
		}
		list = append(list, text)
		about := append(t.FreeOf(m.Parts()...), t.Open(m.Where)...)
		for _, n := range m.Over {
			about = append(about, t.FreeOf(t.Domain(n))...)
		}
		for _, n := range about {
			if !slices.Contains(m.Over, n) {
				open = append(open, n)
			}
		}
	}
	if c.Shape != List {
		slices.Sort(list)
	}
	slices.Sort(open)
	is := map[Shape]types.Type{Set: types.SetOfAny, List: types.NewArray(nil, types.A),
		Object: types.NewObject(nil, types.NewDynamicProperty(types.A, types.A))}[c.Shape]
	s := t.symbol(Symbol{Kind: KindCollection, Of: c, Type: is, Free: slices.Compact(open),
		Text: [...]string{"set", "list", "object"}[c.Shape] + "{" + strings.Join(list, "; ") + "}"})
	return s.Token, nil
}

// Parts are its key, where it has one, and its value.
func (m Member) Parts() []*ast.Term {
	if m.Key == nil {
		return []*ast.Term{m.Value}
	}
	return []*ast.Term{m.Key, m.Value}
}

// KeyOf is what tells a member from the others.
func KeyOf(s Shape, m Member) *ast.Term {
	if s == Object {
		return m.Key
	}
	return m.Value
}

// Term is the collection as a plain value.
func (c *Collection) Term() *ast.Term {
	terms := make([]*ast.Term, len(c.Members))
	for i, m := range c.Members {
		terms[i] = m.Value
	}
	switch c.Shape {
	case Set:
		return ast.SetTerm(terms...)
	case List:
		return ast.ArrayTerm(terms...)
	}
	object := ast.NewObject()
	for _, m := range c.Members {
		object.Insert(m.Key, m.Value)
	}
	return ast.NewTerm(object)
}

// memberText writes a member. The elements that it is over are numbered in it anew.
func (t *Theory) memberText(m Member) (string, error) {
	texts := make([]string, 0, 3)
	for _, part := range m.Parts() {
		texts = append(texts, t.TextOf(part))
	}
	text := strings.Join(texts, ": ")
	if m.Where != criteria.Granted {
		where, err := t.functionText(m.Where)
		if err != nil {
			return "", err
		}
		text += " | " + where
	}
	return t.Renumbered(text, m.Over), nil
}

// elementText writes an element by its number. It begins with what no text of a policy
// has in it unescaped. Texts are in the order of the numbers: which of two elements comes
// first in a question depends on nothing else.
func elementText(n int) string { return fmt.Sprintf("\x01%09d", n) }

// Renumbered is a text in which the elements are numbered as they come, with what they
// are of.
func (t *Theory) Renumbered(text string, over []int) string {
	at := make([]string, len(over))
	for i, n := range over {
		at[i] = t.TextOf(t.Domain(n))
	}
	for i, n := range over {
		was := elementText(n)
		name := "claim"
		if t.SymbolOf(t.Domain(n)) != t.Claims {
			name = "part"
		}
		if i > 0 {
			name += strconv.Itoa(i + 1)
		}
		text = replaceSymbol(text, was, name)
		for j := i + 1; j < len(at); j++ {
			at[j] = replaceSymbol(at[j], was, name)
		}
		at[i] = fmt.Sprintf("%s in %s", name, at[i])
	}
	if len(at) == 0 {
		return text
	}
	return strings.Join(at, ", ") + ": " + text
}

// replaceSymbol replaces a numbered symbol, and none whose number only begins so.
func replaceSymbol(text, was, by string) string {
	var b strings.Builder
	for {
		i := strings.Index(text, was)
		if i < 0 {
			return b.String() + text
		}
		end := i + len(was)
		b.WriteString(text[:i])
		if end < len(text) && text[end] >= '0' && text[end] <= '9' {
			b.WriteString(was)
		} else {
			b.WriteString(by)
		}
		text = text[end:]
	}
}

// Position is where in a list something stands. Nothing can be done with it.
func (t *Theory) Position(of *ast.Term) *ast.Term {
	return t.symbol(Symbol{Kind: KindPosition, Args: []*ast.Term{of}, Type: nil, Free: t.FreeOf(of),
		Text: "position of " + t.TextOf(of)}).Token
}

// Elements are the elements of an array.
func Elements(a *ast.Array) func(func(*ast.Term) bool) {
	return func(yield func(*ast.Term) bool) {
		for i := range a.Len() {
			if !yield(a.Elem(i)) {
				return
			}
		}
	}
}

// Iterable is whether a symbol is a list.
func Iterable(s *Symbol) bool { return strings.HasPrefix(s.Type.String(), "array") }
