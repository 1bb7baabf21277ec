// Package document holds the data of policies: a JSON document of which the next
// version is made without copying what stays.
//
// Versions share what they have in common ([Document.Edit]), so that the change of one
// member among a million costs no more than a copy of one table. What differs between
// two of them is found where somebody wrote ([Differences]).
package document

import (
	"fmt"
	"maps"
	"strconv"
	"strings"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/util"
)

// Document is one version of a document, whose root is an object. It is immutable and
// safe for concurrent use.
type Document struct{ root *branch }

// New returns the empty document.
func New() *Document { return &Document{&branch{members: map[string]node{}}} }

// node is an [ast.Value], or a [*branch] in the place of an object.
type node any

// branch is an object that was changed, that has a branch below, or that is wide.
//
// A look-up in OPA's object goes through its table to the pair, to the term of the
// key, to its text, and from the value's term to the value and what that holds,
// each somewhere else in memory. Among a million members none of it is in a
// processor's cache, and looking up 500 claims so took nearly as long as all the
// rest of the decision. Here there is the table, which holds the key and the value,
// and the key's text; and of values that are the same to the letter there is one.
type branch struct {
	members map[string]node
	by      *edit // in which it may still be changed

	mutex sync.Mutex
	whole ast.Object // as OPA has it; made when somebody reads it whole
}

// edit tells the branches of one edit, which nobody else has yet.
type edit struct{ _ byte }

const (
	// wide is how many members an object has at least that is a branch from the
	// beginning. With fewer it stays in the cache as it is.
	wide = 10_000
	// sharedValues is how many values of an object are looked out for to be shared,
	// such as the few lists of roles that bindings have. More of them would not stay
	// in a cache either.
	sharedValues = 4096
)

// Read returns the value at path; ok is false where there is none.
func (d *Document) Read(path []string) (v ast.Value, ok bool) {
	n, ok := d.at(path)
	if !ok {
		return nil, false
	}
	return whole(n), true
}

// Has reports whether there is a value at path, and whether it is an object.
func (d *Document) Has(path []string) (found, object bool) {
	n, ok := d.at(path)
	return ok, ok && isObject(n)
}

func (d *Document) at(path []string) (node, bool) {
	n := node(d.root)
	for _, step := range path {
		var ok bool
		if n, ok = child(n, step); !ok {
			return nil, false
		}
	}
	return n, true
}

// child is the member or element of a node.
func child(n node, step string) (node, bool) {
	switch n := n.(type) {
	case *branch:
		c, ok := n.members[step]
		return c, ok
	case ast.Object:
		if term := n.Get(ast.InternedTerm(step)); term != nil {
			return term.Value, true
		}
	case *ast.Array:
		if i, ok := util.Atoi(step); ok && 0 <= i && i < n.Len() {
			return n.Elem(i).Value, true
		}
	}
	return nil, false
}

func isObject(n node) bool {
	switch n.(type) {
	case *branch, ast.Object:
		return true
	}
	return false
}

// whole is a node as OPA has it.
func whole(n node) ast.Value {
	b, is := n.(*branch)
	if !is {
		v, _ := n.(ast.Value) // a node is one of the two
		return v
	}
	b.mutex.Lock()
	defer b.mutex.Unlock()
	if b.whole == nil {
		members := make([][2]*ast.Term, 0, len(b.members))
		for key, member := range b.members {
			members = append(members, [2]*ast.Term{ast.NewTerm(ast.String(key)), ast.NewTerm(whole(member))})
		}
		b.whole = ast.NewObject(members...)
	}
	return b.whole
}

// nodeOf makes a node of a value as OPA's stores take it.
func nodeOf(v any) (node, error) {
	switch v := v.(type) {
	case map[string]any:
		m := maker{members: make(map[string]node, len(v))}
		for key, value := range v {
			member, err := nodeOf(value)
			if err != nil {
				return nil, err
			}
			m.add(key, member)
		}
		return m.node(), nil
	case ast.Object:
		m := maker{members: make(map[string]node, v.Len())}
		err := v.Iter(func(key, value *ast.Term) error {
			name, ok := key.Value.(ast.String)
			if !ok {
				return &storage.Error{Code: storage.InvalidPatchErr, Message: fmt.Sprintf("the key %v is no text", key)}
			}
			member, err := nodeOf(value.Value)
			m.add(string(name), member)
			return err
		})
		if err != nil || !m.branches {
			return v, err
		}
		return m.node(), nil
	}
	value, err := ast.InterfaceToValue(v)
	if o, is := value.(ast.Object); is {
		return nodeOf(o)
	}
	return value, err
}

// maker makes the node of an object.
type maker struct {
	members  map[string]node
	branches bool
}

func (m *maker) add(key string, member node) {
	m.members[key] = member
	_, is := member.(*branch)
	m.branches = m.branches || is || len(m.members) >= wide
}

func (m *maker) node() node {
	if m.branches {
		share(m.members)
		return &branch{members: m.members}
	}
	return whole(&branch{members: m.members})
}

// share has one value in the place of all that are the same to the letter. Equal is not
// enough: 1 and 1.0 are, and a policy can tell them apart.
func share(members map[string]node) {
	if len(members) < wide {
		return
	}
	shared := map[string]ast.Value{}
	for key, member := range members {
		value, is := member.(ast.Value)
		if !is {
			continue
		}
		text := value.String()
		if same, ok := shared[text]; ok {
			members[key] = same
		} else if len(shared) < sharedValues {
			shared[text] = value
		}
	}
}

// Editor makes the next version of a document. It is not safe for concurrent use.
type Editor struct {
	document Document
	by       *edit
	touched  []storage.Path
	copied   int                     // so many elements of arrays
	growing  map[*ast.Array]struct{} // to which this edit alone can append in place
}

// mostCopied is how many elements of arrays one edit may move. Each write into an array
// makes it anew, so that many into a long one would take for ever.
const mostCopied = 1 << 24

// Edit begins the next version.
func (d *Document) Edit() *Editor {
	return &Editor{document: *d, by: new(edit), growing: map[*ast.Array]struct{}{}}
}

// Document is the document as it is now. What is written later makes another one.
func (e *Editor) Document() *Document {
	e.by = new(edit)
	clear(e.growing)
	d := e.document
	return &d
}

// Touched are the paths of everything that was written.
func (e *Editor) Touched() []storage.Path { return e.touched }

// The errors of OPA's in-memory store.
var (
	errNotFound = &storage.Error{Code: storage.NotFoundErr, Message: "document does not exist"}
	errRoot     = &storage.Error{Code: storage.InvalidPatchErr, Message: "root must be object"}
	errNoRoot   = &storage.Error{Code: storage.InvalidPatchErr, Message: "root cannot be removed"}
)

// Write writes a value as OPA's stores do. An error is a [*storage.Error], or says what
// cannot be a value, and has changed nothing.
func (e *Editor) Write(op storage.PatchOp, path storage.Path, value any) error {
	var v node
	if op != storage.RemoveOp {
		var err error
		if v, err = nodeOf(value); err != nil {
			return err
		}
	}
	if err := e.put(op, path, v); err != nil {
		return err
	}
	e.touched = append(e.touched, path)
	return nil
}

func (e *Editor) put(op storage.PatchOp, path storage.Path, v node) error {
	switch {
	case len(path) > 0:
		root, err := e.write(e.document.root, op, path, v)
		if err != nil {
			return err
		}
		e.document.root, _ = root.(*branch) // as it was before
	case op == storage.RemoveOp:
		return errNoRoot
	case !isObject(v):
		return errRoot
	default:
		e.document.root = e.own(v)
	}
	return nil
}

// MakeDir makes the objects down to path that are not there.
func (e *Editor) MakeDir(path storage.Path) error {
	for i := len(path); ; i-- {
		switch found, object := e.document.Has(path[:i]); {
		case found && !object:
			return &storage.Error{Code: storage.WriteConflictErr, Message: path[:i].String()}
		case found && i == len(path):
			return nil
		case found:
			return e.Write(storage.AddOp, path[:i+1], nested(path[i+1:]))
		}
	}
}

// nested are empty objects below one another.
func nested(path storage.Path) map[string]any {
	if len(path) == 0 {
		return map[string]any{}
	}
	return map[string]any{path[0]: nested(path[1:])}
}

// write returns the node after the write below it.
func (e *Editor) write(n node, op storage.PatchOp, path storage.Path, value node) (node, error) {
	if a, is := n.(*ast.Array); is {
		return e.writeArray(a, op, path, value)
	}
	if !isObject(n) {
		return nil, errNotFound
	}
	old, found := child(n, path[0])
	switch {
	case len(path) > 1 && !found, len(path) == 1 && op != storage.AddOp && !found:
		return nil, errNotFound
	case len(path) > 1:
		var err error
		if value, err = e.write(old, op, path[1:], value); err != nil {
			return nil, err
		}
	}
	b := e.own(n)
	if len(path) == 1 && op == storage.RemoveOp {
		delete(b.members, path[0])
	} else {
		b.members[path[0]] = value
	}
	return b, nil
}

// own is an object as a branch that may be changed.
func (e *Editor) own(n node) *branch {
	b, is := n.(*branch)
	switch {
	case is && b.by == e.by:
		b.whole = nil
		return b
	case is:
		return &branch{members: maps.Clone(b.members), by: e.by}
	}
	object, _ := n.(ast.Object) // it is called with objects only
	b = &branch{members: make(map[string]node, object.Len()), by: e.by}
	object.Foreach(func(key, value *ast.Term) {
		name, _ := key.Value.(ast.String) // nodeOf took no other
		b.members[string(name)] = value.Value
	})
	return b
}

func (e *Editor) writeArray(a *ast.Array, op storage.PatchOp, path storage.Path, value node) (node, error) {
	at, isIndex := util.Atoi(path[0])
	if len(path) == 1 && (path[0] == "-" || path[0] == strconv.Itoa(a.Len())) {
		if op != storage.AddOp {
			return nil, &storage.Error{Code: storage.InvalidPatchErr, Message: path.String() + ": invalid patch path"}
		}
		return e.append(a, whole(value))
	}
	switch {
	case !isIndex:
		return nil, &storage.Error{Code: storage.NotFoundErr, Message: path.String() + ": array index must be integer"}
	case at < 0 || at >= a.Len():
		return nil, &storage.Error{Code: storage.NotFoundErr, Message: path.String() + ": array index out of range"}
	case len(path) > 1:
		var err error
		if value, err = e.write(a.Elem(at).Value, op, path[1:], value); err != nil {
			return nil, err
		}
		op = storage.ReplaceOp
	}
	if err := e.copies(a.Len()); err != nil {
		return nil, err
	}
	elements := make([]*ast.Term, 0, a.Len()+1)
	for i := range a.Len() {
		if i != at || op == storage.AddOp {
			if i == at {
				elements = append(elements, ast.NewTerm(whole(value)))
			}
			elements = append(elements, a.Elem(i))
		} else if op == storage.ReplaceOp {
			elements = append(elements, ast.NewTerm(whole(value)))
		}
	}
	return ast.NewArray(elements...), nil
}

// append appends to an array. OPA's own way shares memory with the array that it appends
// to, which others may have.
func (e *Editor) append(a *ast.Array, value ast.Value) (node, error) {
	if _, ours := e.growing[a]; !ours {
		if err := e.copies(a.Len()); err != nil {
			return nil, err
		}
		elements := make([]*ast.Term, a.Len())
		for i := range elements {
			elements[i] = a.Elem(i)
		}
		a = ast.NewArray(elements...)
	}
	delete(e.growing, a)
	longer := a.Append(ast.NewTerm(value))
	e.growing[longer] = struct{}{}
	return longer, nil
}

func (e *Editor) copies(elements int) error {
	if e.copied += elements; e.copied > mostCopied {
		return &storage.Error{Code: storage.InvalidPatchErr, Message: "this writes into long arrays too often at a time: " +
			"replace them, or use objects"}
	}
	return nil
}

// Texts visits the texts of what there is at path, and the steps of the path.
func (d *Document) Texts(path []string, visit func(string)) {
	for _, step := range path {
		visit(step)
	}
	if n, ok := d.at(path); ok {
		texts(n, visit)
	}
}

func texts(n node, visit func(string)) {
	switch n := n.(type) {
	case *branch:
		for key, member := range n.members {
			visit(key)
			texts(member, visit)
		}
	case ast.String:
		visit(string(n))
	case ast.Object:
		n.Foreach(func(key, value *ast.Term) {
			texts(key.Value, visit)
			texts(value.Value, visit)
		})
	case *ast.Array:
		n.Foreach(func(element *ast.Term) { texts(element.Value, visit) })
	}
}

// String is the document as JSON, for tests.
func (d *Document) String() string { return strings.TrimSpace(whole(d.root).String()) }
