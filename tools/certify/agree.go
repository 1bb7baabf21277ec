package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Whether something holds is yes, no or open, as long as not every atom is known.
type tri int

const (
	no tri = iota
	yes
	open
)

// A condition is a leaf, or allOf, anyOf or not of conditions. Without a leaf, an empty
// allOf always holds and an empty anyOf never does.
type condition struct {
	op   string
	of   []condition
	leaf *leaf
}

// A leaf is a permission rule with its params. With a list that means "any of" it holds
// where one of its elements does. So it is made of atoms that do not depend on each other.
type leaf struct {
	key      string // of the rule and its params
	alike    string // of the rule and its params but for the list
	elements []string
	foreign  bool
	atoms    []int
}

// agreement is what is compared: the decision, and what the branches mean.
type agreement struct {
	rules    map[string]rule
	own      rule // the plugin and the type of resource whose rules can be asked about
	leaves   map[string]*leaf
	names    []string // of the atoms
	foreign  []bool   // whether nobody answers the atom
	decision condition
	branches []meant
}

// meant is a branch: where it is, and where it allows.
type meant struct{ where, allows condition }

var (
	always = condition{op: "allOf"}
	never  = condition{op: "anyOf"}
)

// agree returns why the decision is not what the branches say. The decision must hold
// exactly where the policy allows. Of a rule that nobody can be asked about, both answers
// must allow. So must what is supposed.
func (c certificate) agree(rules map[string]rule) error {
	a := &agreement{rules: rules, leaves: map[string]*leaf{}}
	permission, _ := c.Input["permission"].(map[string]any)
	a.own.ResourceType, _ = permission["resourceType"].(string)
	if d, ok := c.Decision.(map[string]any); ok && d["result"] == "CONDITIONAL" {
		a.own.PluginID, _ = d["pluginId"].(string)
		if d["resourceType"] != a.own.ResourceType {
			return fmt.Errorf("the decision is about %v, the permission about %q", d["resourceType"], a.own.ResourceType)
		}
	}
	var err error
	if a.decision, err = a.read(c.Decision); err != nil {
		return fmt.Errorf("decision: %w", err)
	}
	for _, l := range a.leaves { // which are those of the decision
		if l.foreign {
			return fmt.Errorf("decision: nobody can be asked about %s", l.key)
		}
	}
	if err := c.sees(permission["type"] == "resource"); err != nil {
		return err
	}
	plugins := map[any]bool{} // that the branches ask, or name
	for _, b := range slices.Concat(c.Branches, c.Supposed) {
		where := always
		for _, answer := range b.Answers {
			r, known := rules[answer.Function]
			if !known {
				return fmt.Errorf("%s is no permission rule", answer.Function)
			}
			plugins[r.PluginID] = true
			is := condition{leaf: a.leaf(r, answer.Params)}
			if !answer.Holds {
				is = condition{op: "not", of: []condition{is}}
			}
			where.of = append(where.of, is)
		}
		m := meant{where, never}
		if b.Outcome != nil {
			outcome := value(b.Outcome)
			if m.allows, err = a.read(outcome); err != nil {
				return fmt.Errorf("outcome %s: %w", b.Outcome, err)
			}
			if document, ok := outcome.(map[string]any); ok {
				plugins[document["pluginId"]] = true
			}
		}
		a.branches = append(a.branches, m)
	}
	if a.own.PluginID != "" && !plugins[a.own.PluginID] {
		return fmt.Errorf("no branch is about the plugin %s", a.own.PluginID)
	}
	a.split()
	return a.compare(map[int]bool{}, a.branches)
}

// sees returns why the policy does not see what it would. A permission about a resource has one.
func (c certificate) sees(resource bool) error {
	switch is, there := c.Input["resource"]; {
	case resource && is != anyResource:
		return errors.New("the input has no resource, and the permission is about one")
	case !resource && there:
		return errors.New("the input has a resource, and the permission is about none")
	case !resource && len(c.Supposed) == 0:
		return errors.New("no branch supposes a resource, and the permission is about none")
	case resource && len(c.Supposed) > 0:
		return errors.New("branches suppose a resource, and the permission is about one")
	}
	return nil
}

// compare compares where some atoms are known, of the branches that are possible there.
func (a *agreement) compare(known map[int]bool, branches []meant) error {
	branches = possible(branches, known)
	is := a.decision.holds(known)
	if is != open && !slices.ContainsFunc(branches, func(b meant) bool { return b.allows.holds(known) != is }) {
		return nil
	}
	if atom, found := a.next(known, branches, false); found {
		for _, holds := range []bool{true, false} {
			known[atom] = holds
			if err := a.compare(known, branches); err != nil {
				return err
			}
		}
		delete(known, atom)
		return nil
	}
	if allows := a.every(known, branches); allows != (is == yes) {
		return fmt.Errorf("the policy allows: %v, the decision: %v, where %s", allows, is == yes, a.say(known))
	}
	return nil
}

// every is whether the branches allow by all answers to rules that nobody is asked about.
func (a *agreement) every(known map[int]bool, branches []meant) bool {
	branches = possible(branches, known)
	atom, found := a.next(known, branches, true)
	if !found {
		return !slices.ContainsFunc(branches, func(b meant) bool { return b.allows.holds(known) != yes })
	}
	for _, holds := range []bool{true, false} {
		known[atom] = holds
		if !a.every(known, branches) {
			delete(known, atom)
			return false
		}
	}
	delete(known, atom)
	return true
}

func possible(branches []meant, known map[int]bool) []meant {
	return slices.DeleteFunc(slices.Clone(branches), func(b meant) bool { return b.where.holds(known) == no })
}

// next is an atom that is not known and matters.
func (a *agreement) next(known map[int]bool, branches []meant, foreign bool) (int, bool) {
	var all []condition
	for _, b := range branches {
		all = append(all, b.where)
	}
	all = append(all, a.decision)
	for _, b := range branches {
		all = append(all, b.allows)
	}
	for _, c := range all {
		if atom, found := a.openIn(c, known, foreign); found {
			return atom, true
		}
	}
	return 0, false
}

func (a *agreement) openIn(c condition, known map[int]bool, foreign bool) (int, bool) {
	if c.holds(known) != open {
		return 0, false
	}
	if c.leaf != nil {
		for _, atom := range c.leaf.atoms {
			if _, is := known[atom]; !is && a.foreign[atom] == foreign {
				return atom, true
			}
		}
	}
	for _, part := range c.of {
		if atom, found := a.openIn(part, known, foreign); found {
			return atom, true
		}
	}
	return 0, false
}

func (c condition) holds(known map[int]bool) tri {
	if c.leaf != nil {
		is := no
		for _, atom := range c.leaf.atoms {
			switch holds, ok := known[atom]; {
			case holds:
				return yes
			case !ok:
				is = open
			}
		}
		return is
	}
	if c.op == "not" {
		return [...]tri{no: yes, yes: no, open: open}[c.of[0].holds(known)]
	}
	decides, is := yes, no // of an anyOf
	if c.op == "allOf" {
		decides, is = no, yes
	}
	for _, part := range c.of {
		switch part.holds(known) {
		case decides:
			return decides
		case open:
			is = open
		}
	}
	return is
}

// read reads a decision: a boolean or a document.
func (a *agreement) read(decision any) (condition, error) {
	document, _ := decision.(map[string]any)
	result := document["result"]
	if is, ok := decision.(bool); ok {
		result = map[bool]string{true: "ALLOW", false: "DENY"}[is]
	}
	switch result {
	case "ALLOW":
		return always, nil
	case "DENY":
		return never, nil
	case "CONDITIONAL":
		plugin, _ := document["pluginId"].(string)
		return a.condition(document["conditions"], plugin)
	}
	return never, errors.New("is neither a boolean nor a decision document")
}

func (a *agreement) condition(of any, plugin string) (condition, error) {
	members, _ := of.(map[string]any)
	if name, ok := members["rule"].(string); ok {
		for member := range members {
			if member != "rule" && member != "resourceType" && member != "params" {
				return never, fmt.Errorf("%s is a rule with %s", text(of), member)
			}
		}
		resourceType, _ := members["resourceType"].(string)
		r := rule{PluginID: plugin, ResourceType: resourceType, Rule: name}
		for _, declared := range a.rules {
			if declared.PluginID == plugin && declared.ResourceType == resourceType && declared.Rule == name {
				r = declared
			}
		}
		return condition{leaf: a.leaf(r, members["params"])}, nil
	}
	for op, parts := range members {
		list, ok := parts.([]any)
		if op == "not" {
			list, ok = []any{parts}, true
		}
		if len(members) > 1 || !ok || op != "not" && op != "allOf" && op != "anyOf" {
			break
		}
		c := condition{op: op}
		for _, part := range list {
			read, err := a.condition(part, plugin)
			if err != nil {
				return never, err
			}
			c.of = append(c.of, read)
		}
		return c, nil
	}
	return never, fmt.Errorf("%s is no condition", text(of))
}

// leaf returns the leaf of a rule with its params, the same for equal ones.
func (a *agreement) leaf(r rule, params any) *leaf {
	name := r.PluginID + " " + r.ResourceType + " " + r.Rule + " "
	l := &leaf{foreign: r.ResourceType != a.own.ResourceType || a.own.PluginID != "" && r.PluginID != a.own.PluginID}
	object, _ := params.(map[string]any)
	list, listed := object[r.AnyOf].([]any)
	if listed && r.AnyOf != "" {
		rest := maps.Clone(object)
		delete(rest, r.AnyOf)
		l.alike, l.elements = name+text(rest)+" ", []string{}
		for _, element := range list {
			l.elements = append(l.elements, text(element))
		}
		slices.Sort(l.elements)
		l.elements = slices.Compact(l.elements)
		l.key = l.alike + strings.Join(l.elements, ",")
	} else {
		l.alike = name + text(params)
		l.key = l.alike
	}
	if a.leaves[l.key] == nil {
		a.leaves[l.key] = l
	}
	return a.leaves[l.key]
}

// split makes the atoms. Elements that are in the same lists are one atom.
func (a *agreement) split() {
	in := map[string][]string{} // the leaves of each element
	for _, key := range slices.Sorted(maps.Keys(a.leaves)) {
		l := a.leaves[key]
		if l.elements == nil {
			in[l.alike] = []string{key}
		}
		for _, element := range l.elements {
			in[l.alike+element] = append(in[l.alike+element], key)
		}
	}
	atoms := map[string]int{}
	for _, element := range slices.Sorted(maps.Keys(in)) {
		together := strings.Join(in[element], "\n")
		if _, made := atoms[together]; made {
			continue
		}
		atom := len(a.names)
		atoms[together] = atom
		a.names = append(a.names, element)
		a.foreign = append(a.foreign, a.leaves[in[element][0]].foreign)
		for _, key := range in[element] {
			a.leaves[key].atoms = append(a.leaves[key].atoms, atom)
		}
	}
}

// say says what is known.
func (a *agreement) say(known map[int]bool) string {
	said := make([]string, 0, len(known))
	for _, atom := range slices.Sorted(maps.Keys(known)) {
		said = append(said, fmt.Sprintf("%s is %v", a.names[atom], known[atom]))
	}
	return strings.Join(said, ", ")
}
