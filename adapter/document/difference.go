package document

import (
	"errors"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
)

// Differences are the paths at which two versions differ, where they differ at one of
// the touched paths at the most. Of an object that both have, those of its members are
// told; an array differs as a whole. It is false where there are more than most.
func Differences(before, after *Document, touched []storage.Path, most int) ([]storage.Path, bool) {
	d := differing{most: most}
	touched = slices.Clone(touched)
	slices.SortFunc(touched, storage.Path.Compare)
	for i, path := range touched {
		if i > 0 && slices.ContainsFunc(d.done, path.HasPrefix) {
			continue // with what it is below
		}
		d.done = append(d.done[:0], path) // those below come next in the order
		if err := d.along(before.root, after.root, path); err != nil {
			return nil, false
		}
	}
	return d.paths, true
}

type differing struct {
	paths []storage.Path
	done  []storage.Path
	most  int
}

var errTooMany = errors.New("more differences than are told")

// along goes down a path as far as both have objects.
func (d *differing) along(before, after node, path storage.Path) error {
	for i, step := range path {
		if before == after {
			return nil
		}
		if !isObject(before) || !isObject(after) {
			return d.compare(before, after, path[:i])
		}
		d.keep(before, after)
		b, had := child(before, step)
		a, has := child(after, step)
		switch {
		case !had && !has:
			return nil
		case had != has:
			return d.add(path[:i+1])
		}
		before, after = b, a
	}
	return d.compare(before, after, path)
}

func (d *differing) add(path storage.Path) error {
	if len(d.paths) == d.most {
		return errTooMany
	}
	d.paths = append(d.paths, slices.Clone(path))
	return nil
}

// compare compares what both have at a path.
func (d *differing) compare(before, after node, at storage.Path) error {
	if before == after {
		return nil
	}
	if !isObject(before) || !isObject(after) {
		if same(before, after) {
			return nil
		}
		return d.add(at)
	}
	d.keep(before, after)
	err := members(after, func(key string, a node) error {
		if b, had := child(before, key); had {
			return d.compare(b, a, append(at[:len(at):len(at)], key))
		}
		return d.add(append(at[:len(at):len(at)], key))
	})
	if err != nil {
		return err
	}
	return members(before, func(key string, _ node) error {
		if _, has := child(after, key); has {
			return nil
		}
		return d.add(append(at[:len(at):len(at)], key))
	})
}

// keep makes whole what was read whole before, so that no decision has to wait for it.
func (*differing) keep(before, after node) {
	b, wasBranch := before.(*branch)
	if !wasBranch {
		return
	}
	b.mutex.Lock()
	read := b.whole != nil
	b.mutex.Unlock()
	if read {
		whole(after)
	}
}

// members visits the members of an object until there is an error.
func members(n node, visit func(string, node) error) error {
	if b, is := n.(*branch); is {
		for key, member := range b.members {
			if err := visit(key, member); err != nil {
				return err
			}
		}
		return nil
	}
	object, _ := n.(ast.Object)
	return object.Iter(func(key, value *ast.Term) error {
		name, _ := key.Value.(ast.String)
		return visit(string(name), value.Value)
	})
}

// same reports whether two values are the same to the letter: 1 and 1.0 are equal, and a
// policy can tell them apart.
func same(a, b node) bool {
	if a == b {
		return true
	}
	switch x := a.(type) {
	case *ast.Array:
		y, is := b.(*ast.Array)
		if !is || x.Len() != y.Len() {
			return false
		}
		for i := range x.Len() {
			if !same(x.Elem(i).Value, y.Elem(i).Value) {
				return false
			}
		}
		return true
	case ast.Object, *branch:
		if !isObject(b) {
			return false
		}
		d := differing{}
		return d.compare(a, b, nil) == nil
	}
	return false
}

// sizeAt is how many bytes a member has as JSON, with its key; 0 for what is not there.
func (d *Document) sizeAt(path storage.Path) int64 {
	n, there := d.at(path)
	if !there {
		return 0
	}
	size := bytesOf(n)
	if len(path) > 0 {
		size += keySize(path[len(path)-1])
	}
	return size
}

// keySize is the size of a key with what stands around it.
func keySize(key string) int64 { return int64(len(key)) + 4 }

func bytesOf(n node) int64 {
	if !isObject(n) {
		value, _ := n.(ast.Value) // a node is one of the two
		return int64(len(value.String()))
	}
	size := int64(2)
	_ = members(n, func(key string, member node) error {
		size += keySize(key) + bytesOf(member)
		return nil
	})
	return size
}
