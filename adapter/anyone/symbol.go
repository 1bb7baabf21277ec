package anyone

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

// A symbol is a value that depends on who asks. In a term it stands as a text that
// nobody else can write, its token.
type symbol struct {
	kind   symbolKind
	name   string      // isCall: the builtin
	args   []*ast.Term // isCall: its operands; isIndex: the base and the key; isElement: what it is of
	number int         // isElement
	of     *collection // isCollection
	is     types.Type
	free   []int // the elements that it depends on, ascending
	token  *ast.Term
	text   string // the same for equal symbols
}

type symbolKind uint8

const (
	isUser symbolKind = iota
	isActor
	isClaims
	isResource
	isElement  // some element of a list or set
	isPosition // where in the list it stands
	isCall
	isIndex
	isCollection
)

// A theory is what formulas about callers and resources are written in. Two policies
// that are compared share one.
type theory struct {
	space   *criteria.Space
	nonce   string
	symbols map[string]*symbol // by token
	byText  map[string]*symbol
	atoms   map[criteria.Function]*atom
	byKey   map[string]criteria.Function
	numbers int
	// What is assumed of atoms once a comparison is made.
	users  []criteria.Function
	failed error // what became of an atom that was made of another

	user, actor, claims, resource *symbol
}

func newTheory() *theory {
	t := &theory{
		space:   criteria.NewSpace(),
		nonce:   "stagedoor symbol " + rand.Text() + " ",
		symbols: make(map[string]*symbol),
		byText:  make(map[string]*symbol),
		atoms:   make(map[criteria.Function]*atom),
		byKey:   make(map[string]criteria.Function),
	}
	t.user = t.symbol(symbol{kind: isUser, text: userText, is: types.S})
	t.actor = t.symbol(symbol{kind: isActor, text: actorText, is: types.S})
	t.claims = t.symbol(symbol{kind: isClaims, text: claimsText, is: types.NewArray(nil, types.S)})
	t.resource = t.symbol(symbol{kind: isResource, text: "$resource", is: types.A})
	return t
}

// How the caller is written where a param depends on it, as in the data of the RBAC
// plugin.
const (
	userText   = "$currentUser"
	claimsText = "$ownerRefs"
	actorText  = "$actor"
)

// symbol returns the symbol that is equal to s.
func (t *theory) symbol(s symbol) *symbol {
	if known, ok := t.byText[s.text]; ok {
		return known
	}
	token := t.nonce + strconv.Itoa(len(t.symbols))
	s.token = ast.StringTerm(token)
	t.symbols[token], t.byText[s.text] = &s, &s
	return &s
}

// symbolOf is the symbol that a term is, or nil.
func (t *theory) symbolOf(term *ast.Term) *symbol {
	if s, ok := term.Value.(ast.String); ok && strings.HasPrefix(string(s), t.nonce) {
		return t.symbols[string(s)]
	}
	return nil
}

// symbolic is whether a term is a symbol or has one in it.
func (t *theory) symbolic(term *ast.Term) bool {
	found := false
	t.eachSymbol(term, func(*symbol) { found = true })
	return found
}

// eachSymbol visits the symbols of a term. Of an object the keys are none.
func (t *theory) eachSymbol(term *ast.Term, visit func(*symbol)) {
	switch v := term.Value.(type) {
	case ast.String:
		if s := t.symbolOf(term); s != nil {
			visit(s)
		}
	case *ast.Array:
		v.Foreach(func(e *ast.Term) { t.eachSymbol(e, visit) })
	case ast.Set:
		v.Foreach(func(e *ast.Term) { t.eachSymbol(e, visit) })
	case ast.Object:
		v.Foreach(func(key, value *ast.Term) {
			t.eachSymbol(key, visit)
			t.eachSymbol(value, visit)
		})
	}
}

// freeOf are the elements that terms depend on.
func (t *theory) freeOf(terms ...*ast.Term) []int {
	var free []int
	for _, term := range terms {
		t.eachSymbol(term, func(s *symbol) { free = append(free, s.free...) })
	}
	slices.Sort(free)
	return slices.Compact(free)
}

// element is a new element of a list or set.
func (t *theory) element(of *ast.Term) *symbol {
	t.numbers++
	is := types.A
	if s := t.symbolOf(of); s != nil {
		if v := types.Values(s.is); v != nil {
			is = v
		}
	}
	n := t.numbers
	return t.symbol(symbol{kind: isElement, args: []*ast.Term{of}, number: n, is: is, free: []int{n},
		text: elementText(n)})
}

// call is what a builtin makes of operands that depend on the caller.
func (t *theory) call(name string, args []*ast.Term) *symbol {
	is := types.A
	if b := ast.BuiltinMap[name]; b != nil && b.Decl.Result() != nil {
		is = b.Decl.Result()
	}
	return t.symbol(symbol{kind: isCall, name: name, args: args, is: is, free: t.freeOf(args...),
		text: name + "(" + t.texts(args) + ")"})
}

func (t *theory) index(base, key *ast.Term) *symbol {
	is := types.A
	if s := t.symbolOf(base); s != nil {
		if v := types.Values(s.is); v != nil {
			is = v
		}
	}
	return t.symbol(symbol{kind: isIndex, args: []*ast.Term{base, key}, is: is, free: t.freeOf(base, key),
		text: t.textOf(base) + "[" + t.textOf(key) + "]"})
}

func (t *theory) texts(terms []*ast.Term) string {
	list := make([]string, len(terms))
	for i, term := range terms {
		list[i] = t.textOf(term)
	}
	return strings.Join(list, ", ")
}

// textOf writes a term, the same for equal ones.
func (t *theory) textOf(term *ast.Term) string {
	if s := t.symbolOf(term); s != nil {
		return s.text
	}
	if !t.symbolic(term) {
		return term.String()
	}
	var list []string
	switch v := term.Value.(type) {
	case *ast.Array:
		v.Foreach(func(e *ast.Term) { list = append(list, t.textOf(e)) })
		return "[" + strings.Join(list, ", ") + "]"
	case ast.Object:
		v.Foreach(func(key, value *ast.Term) { list = append(list, t.textOf(key)+": "+t.textOf(value)) })
		return "{" + strings.Join(list, ", ") + "}"
	}
	return term.String()
}

// isText is whether the values of a symbol are texts, and cannot be anything else.
func (s *symbol) isText() bool { return s.is != nil && types.Compare(s.is, types.S) == 0 }

// A collection is a set, list or object whose members depend on the caller or the
// resource.
type collection struct {
	shape   shape
	members []member
}

type shape uint8

const (
	isSet shape = iota
	isList
	isObject
)

// member is a value that can be in a collection, with its key in an object, and where
// it is: for every choice of the elements over.
type member struct {
	key, value *ast.Term
	where      criteria.Function
	over       []int
}

// collectionTerm is a term for a collection: a plain value where nothing of it
// depends on the caller or the resource.
func (t *theory) collectionTerm(c *collection) (*ast.Term, error) {
	plain := true
	for _, m := range c.members {
		plain = plain && m.where == criteria.Granted && len(m.over) == 0 &&
			(c.shape == isList || !t.symbolic(keyOf(c.shape, m)))
	}
	if plain {
		return c.term(), nil
	}
	var list []string
	var open []int
	for _, m := range c.members {
		text, err := t.memberText(m)
		if err != nil {
			return nil, err
		}
		list = append(list, text)
		for _, n := range append(t.freeOf(m.parts()...), t.open(m.where)...) {
			if !slices.Contains(m.over, n) {
				open = append(open, n)
			}
		}
	}
	if c.shape != isList {
		slices.Sort(list)
	}
	slices.Sort(open)
	is := map[shape]types.Type{isSet: types.SetOfAny, isList: types.NewArray(nil, types.A),
		isObject: types.NewObject(nil, types.NewDynamicProperty(types.A, types.A))}[c.shape]
	s := t.symbol(symbol{kind: isCollection, of: c, is: is, free: slices.Compact(open),
		text: [...]string{"set", "list", "object"}[c.shape] + "{" + strings.Join(list, "; ") + "}"})
	return s.token, nil
}

func (m member) parts() []*ast.Term {
	if m.key == nil {
		return []*ast.Term{m.value}
	}
	return []*ast.Term{m.key, m.value}
}

// keyOf is what tells a member from the others.
func keyOf(s shape, m member) *ast.Term {
	if s == isObject {
		return m.key
	}
	return m.value
}

// term is the collection as a plain value.
func (c *collection) term() *ast.Term {
	terms := make([]*ast.Term, len(c.members))
	for i, m := range c.members {
		terms[i] = m.value
	}
	switch c.shape {
	case isSet:
		return ast.SetTerm(terms...)
	case isList:
		return ast.ArrayTerm(terms...)
	}
	object := ast.NewObject()
	for _, m := range c.members {
		object.Insert(m.key, m.value)
	}
	return ast.NewTerm(object)
}

// memberText writes a member. The elements that it is over are numbered in it anew.
func (t *theory) memberText(m member) (string, error) {
	texts := make([]string, 0, 3)
	for _, part := range m.parts() {
		texts = append(texts, t.textOf(part))
	}
	text := strings.Join(texts, ": ")
	if m.where != criteria.Granted {
		where, err := t.functionText(m.where)
		if err != nil {
			return "", err
		}
		text += " | " + where
	}
	return t.renumbered(text, m.over), nil
}

// elementText writes an element by its number. It begins with what no text of a policy
// has in it unescaped.
func elementText(n int) string { return "\x01" + strconv.Itoa(n) }

// renumbered is a text in which the elements are numbered as they come, with what they
// are of.
func (t *theory) renumbered(text string, over []int) string {
	var at []string
	for i, n := range over {
		was := elementText(n)
		name := "claim"
		if t.symbolOf(t.byText[was].args[0]) != t.claims {
			name = "part"
		}
		if i > 0 {
			name += strconv.Itoa(i + 1)
		}
		text = replaceSymbol(text, was, name)
		at = append(at, fmt.Sprintf("%s in %s", name, t.textOf(t.byText[was].args[0])))
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
