package document

import (
	"bytes"
	"encoding/json"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"

	"github.com/stagedoor/stagedoor/adapter/document/token"
	"github.com/stagedoor/stagedoor/adapter/document/touch"
)

// reading makes nodes of JSON text. What is the same to the letter as before is the node
// of before, so that a bundle of which little has changed costs little more than to look
// through its text.
type reading struct {
	*token.Reader
	root    storage.Path   // where the text begins
	at      [][]byte       // below it
	touched []storage.Path // all that differs, and may have a little more
	within  int            // so many arrays, which differ as a whole
	depth   int
	nodes   []node // the elements of arrays that are not read to the end
}

// newReading reads a text of what is at a path.
func newReading(text []byte, at storage.Path) *reading {
	return &reading{Reader: token.New(text), root: at}
}

// deepest is how deep values are read. encoding/json goes ten times as deep.
const deepest = 1_000

// value reads the next value, where old was before, or nil. It is false for what is none
// and for what others have to read.
func (r *reading) value(old node) (node, bool) {
	r.depth++
	defer func() { r.depth-- }()
	switch c := r.Peek(); {
	case r.depth > deepest:
		return nil, false
	case c == '{':
		return r.object(old)
	case c == '[':
		return r.array(old)
	case c == '"':
		text, ok := r.String()
		if was, is := old.(ast.String); is && string(text) == string(was) {
			return old, ok
		}
		return leaf(string(text), ok)
	case r.Skip("true"):
		return leaf(true, true)
	case r.Skip("false"):
		return leaf(false, true)
	case r.Skip("null"):
		return leaf(nil, true)
	}
	text, ok := r.Number()
	if was, is := old.(ast.Number); is && string(text) == string(was) {
		return old, ok
	}
	return leaf(json.Number(text), ok)
}

func leaf(v any, ok bool) (node, bool) {
	if !ok {
		return nil, false
	}
	value, err := ast.InterfaceToValue(v)
	return value, err == nil
}

// object reads an object. Most have their keys in order, and all that there were before.
// Of them no table is made.
func (r *reading) object(old node) (node, bool) {
	from, known := *r.Reader, len(r.touched)
	if isObject(old) {
		o := &ordered{r: r, old: old}
		switch ok := r.members(o.add); {
		case ok && o.count == size(old):
			return o.node(), true
		case !ok && !o.other:
			return nil, false
		}
		*r.Reader, r.touched = from, r.touched[:known]
	}
	o := r.over(old)
	if !r.members(o.add) {
		return nil, false
	}
	return o.node(), true
}

// members visits the members of an object, until one says no.
func (r *reading) members(visit func(key []byte, read func(node) (node, bool)) bool) bool {
	if !r.Skip("{") || r.Skip("}") {
		return true
	}
	for {
		key, ok := r.String()
		if !ok || !r.Skip(":") {
			return false
		}
		r.at = append(r.at, key)
		ok = visit(key, r.value)
		r.at = r.at[:len(r.at)-1]
		if !ok || r.Skip("}") {
			return ok
		}
		if !r.Skip(",") {
			return false
		}
	}
}

// ordered are members that were there before, each after the one before it.
type ordered struct {
	r       *reading
	old     node
	last    []byte
	count   int
	changed map[string]node
	other   bool // whether there is another member
}

func (o *ordered) add(key []byte, read func(old node) (node, bool)) bool {
	was, had := memberOf(o.old, key)
	if !had || o.count > 0 && bytes.Compare(key, o.last) <= 0 {
		o.other = true
		return false
	}
	o.last, o.count = key, o.count+1
	member, ok := read(was)
	if ok && member != was {
		o.r.differs(was, true, member)
		if o.changed == nil {
			o.changed = map[string]node{}
		}
		o.changed[string(key)] = member
	}
	return ok
}

// node is the object with what has changed.
func (o *ordered) node() node {
	if len(o.changed) == 0 {
		return o.old
	}
	now := (&Editor{by: new(edit)}).own(o.old)
	m := maker{members: now.members}
	for key, member := range o.changed {
		m.add(key, member)
	}
	if _, was := o.old.(*branch); was && len(o.changed) < wide { // the others are shared already
		return &branch{members: m.members}
	}
	return m.node()
}

func (r *reading) array(old node) (node, bool) {
	r.Skip("[")
	was, _ := old.(*ast.Array)
	from, same := len(r.nodes), was != nil
	r.within++
	defer func() { r.nodes, r.within = r.nodes[:from], r.within-1 }()
	for first := true; !r.Skip("]"); first = false {
		if !first && !r.Skip(",") {
			return nil, false
		}
		var before node
		if i := len(r.nodes) - from; was != nil && i < was.Len() {
			before = was.Elem(i).Value
		}
		element, ok := r.value(before)
		if !ok {
			return nil, false
		}
		same = same && element == before
		r.nodes = append(r.nodes, element)
	}
	elements := r.nodes[from:]
	if same && len(elements) == was.Len() {
		return old, true
	}
	terms := make([]*ast.Term, len(elements))
	for i, element := range elements {
		terms[i] = ast.NewTerm(whole(element))
	}
	return ast.NewArray(terms...), true
}

// over begins an object, where old was before.
func (r *reading) over(old node) *overlay {
	if !isObject(old) {
		old = nil
	}
	return &overlay{r: r, old: old, maker: maker{members: make(map[string]node, size(old))}}
}

// overlay makes an object over the one of before, whatever members it has.
type overlay struct {
	r   *reading
	old node
	maker
	fresh int // so many members are not those of before
}

// add reads a member.
func (o *overlay) add(key []byte, read func(old node) (node, bool)) bool {
	was, had := memberOf(o.old, key)
	member, ok := read(was)
	if !ok {
		return false
	}
	if !had || member != was {
		o.r.differs(was, had, member)
		o.fresh++
	}
	o.maker.add(string(key), member)
	return true
}

// node is the object of all members that were added.
func (o *overlay) node() node {
	if o.old != nil {
		if o.fresh == 0 && len(o.members) == size(o.old) {
			return o.old
		}
		_ = members(o.old, func(key string, was node) error {
			if _, has := o.members[key]; !has {
				o.r.at = append(o.r.at, []byte(key))
				o.r.differs(was, true, nil)
				o.r.at = o.r.at[:len(o.r.at)-1]
			}
			return nil
		})
	}
	if o.branches && o.fresh < wide { // the others are shared already
		return &branch{members: o.members}
	}
	return o.maker.node()
}

// differs notes that there is another value here. Where both are objects it is known what
// differs below. Of more than anybody tells of, one is enough.
func (r *reading) differs(was node, had bool, now node) {
	if r.within > 0 || len(r.touched) > touch.MostPaths || had && isObject(was) && isObject(now) {
		return
	}
	path := slices.Clone(r.root)
	for _, step := range r.at {
		path = append(path, string(step))
	}
	r.touched = append(r.touched, path)
}

// memberOf is the member of an object.
func memberOf(n node, key []byte) (node, bool) {
	if b, is := n.(*branch); is {
		member, ok := b.members[string(key)]
		return member, ok
	}
	return child(n, string(key))
}

// size is how many members an object has; 0 for what is none.
func size(n node) int {
	switch n := n.(type) {
	case *branch:
		return len(n.members)
	case ast.Object:
		return n.Len()
	}
	return 0
}
