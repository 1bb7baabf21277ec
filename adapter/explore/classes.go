package explore

import "github.com/open-policy-agent/opa/v1/ast"

// classes are the variables of a rule, those that are unified with each other
// taken together.
type classes struct {
	parent  map[ast.Var]ast.Var
	sources map[ast.Var]sources // by any member of a class
}

// sources are where a class has the resource from.
type sources struct {
	ref    bool
	params []int
}

func (c *classes) root(v ast.Var) ast.Var {
	for {
		up, ok := c.parent[v]
		if !ok {
			return v
		}
		v = up
	}
}

func (c *classes) join(a, b ast.Var) {
	a, b = c.root(a), c.root(b)
	if a == b {
		return
	}
	if c.parent == nil {
		c.parent = make(map[ast.Var]ast.Var)
	}
	c.parent[b] = a
	if from, ok := c.sources[b]; ok {
		into := c.sources[a]
		c.sources[a] = sources{ref: into.ref || from.ref, params: append(into.params, from.params...)}
	}
}

func (c *classes) addSource(v ast.Var) { c.add(v, sources{ref: true}) }

func (c *classes) addParam(v ast.Var, i int) { c.add(v, sources{params: []int{i}}) }

func (c *classes) add(v ast.Var, from sources) {
	if c.sources == nil {
		c.sources = make(map[ast.Var]sources)
	}
	v = c.root(v)
	into := c.sources[v]
	c.sources[v] = sources{ref: into.ref || from.ref, params: append(into.params, from.params...)}
}

func (c *classes) isResource(v ast.Var) bool {
	_, ok := c.sources[c.root(v)]
	return ok
}

func (c *classes) params(v ast.Var) []int { return c.sources[c.root(v)].params }

// ambiguous is whether a class is an argument and something else too. The
// argument of another call need not be the resource, so unifying them compares.
func (c *classes) ambiguous(v ast.Var) bool {
	from := c.sources[c.root(v)]
	n := len(from.params)
	if from.ref {
		n++
	}
	return n > 1 && len(from.params) > 0
}
