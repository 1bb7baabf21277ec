package criteria

// pruned is a tree without the branches and leaves that can be dropped. What a cut
// writes can have some: a branch that others make up for, and a leaf that matters
// only where the branches beside it have decided already.
//
// A tree for which there is no work left stays as it is.
func (d *diagram) pruned(t tree) tree {
	for {
		less := d.prune(t, yes)
		switch {
		case d.over:
			return t
		case less.size() == t.size():
			return less
		}
		t = less
	}
}

// prune drops what does not matter where care holds: elsewhere, what is around the
// tree has decided. It goes from left to right, so that of two branches either of
// which can be dropped one stays.
func (d *diagram) prune(t tree, care edge) tree {
	if t.op == Leaf && len(t.variables) > 1 {
		t = d.apart(t)
	}
	if d.over || t.op != AllOf && t.op != AnyOf {
		return t
	}
	// An anyOf is looked at as an allOf: of complements, complemented.
	complement := edge(0)
	if t.op == AnyOf {
		complement = 1
	}
	after := make([]edge, len(t.of)+1) // where every branch from a number on holds
	after[len(t.of)] = yes
	for i := len(t.of) - 1; i >= 0; i-- {
		after[i] = d.and(d.function(t.of[i])^complement, after[i+1])
	}
	kept := make([]tree, 0, len(t.of))
	for i, branch := range t.of {
		around := d.and(care, after[i+1])
		if d.and(around, (d.function(branch)^complement).not()) == no {
			continue
		}
		branch = d.prune(branch, around)
		kept = append(kept, branch)
		care = d.and(care, d.function(branch)^complement)
	}
	return list(t.op, kept)
}

// apart is a leaf that was joined of others as the list of them.
func (d *diagram) apart(leaf tree) tree {
	t := tree{op: AnyOf}
	if leaf.negated {
		t.op = AllOf
	}
	for _, v := range leaf.variables {
		t.of = append(t.of, d.m.leaf(v, leaf.negated))
	}
	return t
}

// function is what a tree comes to.
func (d *diagram) function(t tree) edge {
	switch t.op {
	case Never, Always:
		return constantEdge(t.op == Always)
	case Leaf:
		e := no
		for _, v := range t.variables {
			e = d.or(e, d.variable(d.level[v]))
		}
		if t.negated {
			e = e.not()
		}
		return e
	}
	of := make([]edge, len(t.of))
	for i, branch := range t.of {
		if of[i] = d.function(branch); t.op == AnyOf {
			of[i] = of[i].not()
		}
	}
	e := d.all(of)
	if t.op == AnyOf {
		e = e.not()
	}
	return e
}

func constantEdge(holds bool) edge {
	if holds {
		return yes
	}
	return no
}

// size is how many rules a tree asks, joined or not.
func (t tree) size() int {
	n := len(t.variables)
	for _, branch := range t.of {
		n += branch.size()
	}
	return n
}
