package soundness

import (
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/stagedoor/stagedoor/adapter/criteria"
)

// flip returns c with one node changed, drawn at random: a leaf and its negation, allOf and anyOf.
func flip(r *rand.Rand, c criteria.Criteria) criteria.Criteria {
	at := r.IntN(nodes(c))
	return flipAt(c, &at)
}

func nodes(c criteria.Criteria) int {
	n := 1
	for _, child := range c.Of {
		n += nodes(child)
	}
	return n
}

// flipAt flips the node that is as many after c, in preorder, as at says.
func flipAt(c criteria.Criteria, at *int) criteria.Criteria {
	*at--
	if *at >= 0 {
		of := slices.Clone(c.Of)
		for i := range of {
			if *at >= 0 {
				of[i] = flipAt(of[i], at)
			}
		}
		c.Of = of
		return c
	}
	switch c.Op {
	case criteria.Not:
		return c.Of[0]
	case criteria.AllOf:
		c.Op = criteria.AnyOf
	case criteria.AnyOf:
		c.Op = criteria.AllOf
	default:
		return criteria.Criteria{Op: criteria.Not, Of: []criteria.Criteria{c}}
	}
	return c
}

// critical draws resources that lie on either side of a leaf of c: c would change its answer with the leaf's.
func critical(r *rand.Rand, resourceType string, c criteria.Criteria, pairs int) []any {
	b := newBDD()
	f := b.add(c)
	realm := b.realm()
	var resources []any
	for _, rule := range r.Perm(len(b.rules))[:min(pairs, len(b.rules))] {
		lo, hi := b.restrict(f, rule, false), b.restrict(f, rule, true)
		differ := b.and(b.ite(lo, b.not(hi), hi), realm)
		for _, side := range []int{b.not(b.variable(rule)), b.variable(rule)} {
			where := b.and(differ, side)
			if where == bddFalse {
				continue
			}
			if resource := b.build(resourceType, b.path(r, where)); !casing(resource) {
				resources = append(resources, resource)
			}
		}
	}
	return resources
}

// tellApart reports whether c and d are two functions of their leaves, and whether they differ for answers that a
// resource can have.
func tellApart(c, d criteria.Criteria) (apart, possible bool) {
	b := newBDD()
	f, g := b.add(c), b.add(d)
	differ := b.ite(f, b.not(g), g)
	return differ != bddFalse, b.and(differ, b.realm()) != bddFalse
}

// restrict is f where the rule is known.
func (b *bdd) restrict(f, rule int, holds bool) int {
	done := map[int]int{}
	var visit func(id int) int
	visit = func(id int) int {
		n := b.nodes[id]
		switch {
		case n.rule > rule:
			return id
		case n.rule == rule && holds:
			return n.hi
		case n.rule == rule:
			return n.lo
		}
		if _, ok := done[id]; !ok {
			done[id] = b.node(n.rule, visit(n.lo), visit(n.hi))
		}
		return done[id]
	}
	return visit(f)
}

// path draws answers of the rules for which f holds, which must not be bddFalse.
func (b *bdd) path(r *rand.Rand, f int) []bool {
	truth := make([]bool, len(b.rules))
	for i := range truth {
		truth[i] = r.IntN(3) == 0
	}
	for f != bddTrue {
		n := b.nodes[f]
		truth[n.rule] = n.lo == bddFalse || n.hi != bddFalse && r.IntN(2) == 0
		f = n.lo
		if truth[n.rule] {
			f = n.hi
		}
	}
	return truth
}

// build returns a resource for which the rules have these answers, as far as there is one. What the rules then say is
// for them to say: it is a proposal.
func (b *bdd) build(resourceType string, truth []bool) map[string]any {
	p := proposal{}
	for i, rule := range b.rules {
		p.add(rule, truth[i])
	}
	switch resourceType {
	case "scaffolder-action":
		return p.action()
	case "scaffolder-template":
		return map[string]any{"backstage:permissions": map[string]any{"tags": p.texts(p.yes, "tag")}}
	case "scaffolder-task":
		return map[string]any{"createdBy": p.member("IS_TASK_OWNER", "createdBy", "user:default/nobody")}
	}
	return p.entity()
}

// A proposal is the params of the rules that are to hold and of those that are not.
type proposal struct{ yes, no []ask }

type ask struct {
	rule   string
	params map[string]any
}

func (p *proposal) add(rule criteria.Rule, holds bool) {
	a := ask{rule: rule.Name, params: decodeObject(rule.Params)}
	if holds {
		p.yes = append(p.yes, a)
	} else {
		p.no = append(p.no, a)
	}
}

func (p *proposal) texts(from []ask, member string) []any {
	texts := []any{}
	for _, a := range from {
		if text, ok := a.params[member]; ok {
			texts = append(texts, text)
		}
	}
	return texts
}

// member returns a text that is in the list of every rule of the name that is to hold, and in no other: or otherwise.
func (p *proposal) member(rule, list, otherwise string) string {
	count := map[string]int{}
	for _, a := range p.yes {
		for _, text := range lists(a, rule, list) {
			count[strings.ToLower(text)]++
		}
	}
	for _, a := range p.no {
		for _, text := range lists(a, rule, list) {
			delete(count, strings.ToLower(text))
		}
	}
	best, most := otherwise, 0
	for _, a := range p.yes {
		for _, text := range lists(a, rule, list) {
			if n := count[strings.ToLower(text)]; n > most {
				best, most = text, n
			}
		}
	}
	return best
}

func lists(a ask, rule, list string) []string {
	var texts []string
	if elements, ok := a.params[list].([]any); ok && a.rule == rule {
		for _, e := range elements {
			texts = append(texts, e.(string))
		}
	}
	return texts
}

func (p *proposal) entity() map[string]any {
	labels, annotations, spec := map[string]any{}, map[string]any{}, map[string]any{}
	metadata := map[string]any{"name": "proposal", "labels": labels, "annotations": annotations}
	relations := []any{}
	notOwners := map[string]bool{}
	for _, a := range p.no {
		for _, claim := range lists(a, "IS_ENTITY_OWNER", "claims") {
			notOwners[claim] = true
		}
	}
	// Rules with a value come last, so that a key without one does not take its place.
	slices.SortStableFunc(p.yes, func(a, b ask) int { return len(a.params) - len(b.params) })
	for _, a := range p.yes {
		value, _ := a.params["value"].(string)
		if a.params["value"] == nil {
			value = "something"
		}
		switch a.rule {
		case "IS_ENTITY_OWNER":
			for _, claim := range lists(a, a.rule, "claims") {
				if !notOwners[claim] {
					relations = append(relations, map[string]any{"type": "ownedBy", "targetRef": claim})
				}
			}
		case "HAS_LABEL":
			set(labels, a.params["label"].(string), value)
		case "HAS_ANNOTATION":
			set(annotations, a.params["annotation"].(string), value)
		case "HAS_METADATA":
			place(metadata, labels, annotations, a.params["key"].(string), p.each(a, value))
		case "HAS_SPEC":
			place(spec, nil, nil, a.params["key"].(string), p.each(a, value))
		}
	}
	return map[string]any{
		"kind":     p.member("IS_ENTITY_KIND", "kinds", "Other"),
		"metadata": metadata, "spec": spec, "relations": relations,
	}
}

// each returns the value, or a list of all that rules want the property to have.
func (p *proposal) each(property ask, value string) any {
	name, _, _ := property.property()
	texts := []any{}
	for _, a := range p.yes {
		other, _, valued := a.property()
		if a.rule == property.rule && other == name && valued {
			texts = append(texts, a.params["value"])
		}
	}
	// The catalog takes only texts for these.
	parent, _, _ := strings.Cut(name, ".")
	single := property.rule == "HAS_METADATA" &&
		slices.Contains([]string{"name", "namespace", "uid", "labels", "annotations"}, strings.ToLower(parent))
	if len(texts) < 2 || single {
		return value
	}
	return texts
}

func (p *proposal) action() map[string]any {
	input := map[string]any{}
	id := "other:action"
	slices.SortStableFunc(p.yes, func(a, b ask) int { return len(a.params) - len(b.params) })
	for _, a := range p.yes {
		if a.rule == "HAS_ACTION_ID" {
			id = a.params["actionId"].(string)
			continue
		}
		value, ok := a.params["value"]
		if !ok {
			value = map[string]any{
				"HAS_STRING_PROPERTY": "something", "HAS_NUMBER_PROPERTY": 7, "HAS_BOOLEAN_PROPERTY": true,
			}[a.rule]
		}
		putInput(input, a.params["key"].(string), value)
	}
	return map[string]any{"action": id, "input": input}
}
