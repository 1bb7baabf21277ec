package explain

import (
	"context"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// grown is a node while the runs are laid over each other.
type grown struct {
	rule       *ast.Rule
	runs, held int
	lines      []*grownLine
}

type grownLine struct {
	text       string
	line, col  int
	leaf       bool
	state      State // of a leaf
	runs, held int
	of         []*grown
}

// tree lays the runs over each other: what holds in all of them holds, what holds in
// some depends on the resource.
func tree(t *trials, runs []*run) []*Node {
	var roots []*grown
	for _, r := range runs {
		var own []*frame
		for _, f := range r.order {
			if f.rule != nil && f.rule.Ref().GroundPrefix().Equal(t.entrypoint()) &&
				(f.parent == nil || f.parent.own.rule == nil) {
				own = append(own, f)
			}
		}
		roots = t.lay(roots, r, own, 0)
	}
	return t.nodes(roots)
}

// withoutLeaves leaves out lines that say no more than the leaves on them.
func withoutLeaves(lines []*grownLine) []*grownLine {
	return slices.DeleteFunc(slices.Clone(lines), func(l *grownLine) bool {
		return !l.leaf && len(l.of) == 0 && slices.ContainsFunc(lines, func(k *grownLine) bool {
			return k.leaf && k.line == l.line
		})
	})
}

// mostDepth bounds how deep rules refer to rules in a tree.
const mostDepth = 12

// lay lays the frames of a run over what has grown.
func (t *trials) lay(over []*grown, r *run, frames []*frame, depth int) []*grown {
	seen := map[place]bool{}
	for _, f := range frames {
		at := placeOf(f.rule)
		if f.rule.Default || depth > mostDepth {
			continue
		}
		i := slices.IndexFunc(over, func(g *grown) bool { return placeOf(g.rule) == at })
		if i < 0 {
			i = len(over)
			over = append(over, &grown{rule: f.rule})
		}
		g := over[i]
		if !seen[at] {
			seen[at] = true
			g.runs++
			if slices.ContainsFunc(frames, func(f *frame) bool { return placeOf(f.rule) == at && f.exited }) {
				g.held++
			}
		}
		g.lines = t.layLines(g.lines, r, f, depth)
	}
	return over
}

// layLines lays the expressions of a frame, each as its author wrote it: what the
// compiler made of one of them is one line.
func (t *trials) layLines(lines []*grownLine, r *run, f *frame, depth int) []*grownLine {
	type part struct {
		line  *grownLine
		holds bool
	}
	var parts []part
	for _, e := range f.exprs {
		at := e.expr.Location
		if at == nil || at.Row == 0 {
			continue
		}
		l := &grownLine{leaf: e.leaf != nil, line: at.Row}
		if l.leaf {
			l.text = t.policy.Vocabulary().Leaf(*e.leaf, !e.expr.Negated, t.question.Words())
			l.state = t.leafState(r, e)
		} else {
			written := t.written(f.rule, at)
			if written == nil || len(written.Text) == 0 {
				continue
			}
			l.text, l.line, l.col = shortLine(string(written.Text)), written.Row, written.Col
		}
		i := slices.IndexFunc(lines, func(k *grownLine) bool {
			return k.line == l.line && k.col == l.col && k.leaf == l.leaf && k.text == l.text
		})
		if i < 0 {
			i = len(lines)
			lines = append(lines, l)
		}
		l = lines[i]
		l.of = t.lay(l.of, r, e.of, depth+1)
		at0 := slices.IndexFunc(parts, func(p part) bool { return p.line == l })
		if at0 < 0 {
			parts = append(parts, part{l, e.holds})
		} else {
			parts[at0].holds = parts[at0].holds && e.holds
		}
	}
	for _, p := range parts {
		p.line.runs++
		if p.holds {
			p.line.held++
		}
	}
	return lines
}

// leafState is whether a permission rule holds, or does not where it is negated.
func (t *trials) leafState(r *run, e *exprSeen) State {
	if t.question.Resource == nil {
		return Depends
	}
	holds, err := r.answers(context.Background(), *e.leaf)
	if err == nil && holds != e.expr.Negated {
		return Holds
	}
	return Not
}

// written is where the author wrote the expression that one of the compiler's is a part of.
func (t *trials) written(rule *ast.Rule, at *ast.Location) *ast.Location {
	for _, e := range t.bodies[placeOf(rule)] {
		l := e.Location
		if l != nil && l.Offset <= at.Offset && at.Offset < l.Offset+len(l.Text) {
			return l
		}
	}
	return at
}

// shortLine is the author's text on one line.
func shortLine(text string) string {
	const most = 100
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > most {
		return strings.ToValidUTF8(text[:most], "") + " …"
	}
	return text
}

func stateOf(held, runs int) State {
	switch held {
	case 0:
		return Not
	case runs:
		return Holds
	}
	return Depends
}

func (t *trials) nodes(grown []*grown) []*Node {
	nodes := []*Node{}
	for _, g := range grown {
		n := &Node{Rule: t.named(g.rule)[0], State: stateOf(g.held, g.runs), LeftOut: t.leftOut[placeOf(g.rule)]}
		if n.LeftOut {
			nodes = append(nodes, n)
			continue
		}
		for _, l := range withoutLeaves(g.lines) {
			line := Line{Text: l.text, Line: l.line, State: stateOf(l.held, l.runs), Leaf: l.leaf}
			if l.leaf {
				line.State = l.state
			}
			line.Of = append(line.Of, t.nodes(l.of)...)
			n.Lines = append(n.Lines, line)
		}
		nodes = append(nodes, n)
	}
	return nodes
}
