package soundness

import (
	"slices"
	"strings"
	"unicode/utf16"
)

// realm is the node of what is known to be true of the answers for any resource: that an entity has one kind, a
// label one value, and so on. Outside it nothing can tell two criteria apart. It is far from everything that is so;
// what it leaves out counts against the run.
func (b *bdd) realm() int {
	var asks []ask
	for _, rule := range b.rules {
		asks = append(asks, ask{rule.Name, decodeObject(rule.Params)})
	}
	known := bddTrue
	known = b.and(known, b.oneOf(asks, "IS_ENTITY_KIND", strings.ToLower, member("kinds")))
	known = b.and(known, b.oneOf(asks, "IS_TASK_OWNER", strings.Clone, member("createdBy")))
	known = b.and(known, b.oneOf(asks, "HAS_ACTION_ID", strings.Clone, func(a ask) []string {
		return []string{a.params["actionId"].(string)}
	}))
	for i, a := range asks {
		if a.never() {
			known = b.and(known, b.not(b.variable(i)))
		}
		if a.rule == "IS_ENTITY_OWNER" {
			known = b.and(known, b.owner(asks, i))
		}
		for j, other := range asks {
			switch {
			case i != j && a.implies(other):
				known = b.and(known, b.or(b.not(b.variable(i)), b.variable(j)))
			case i < j && a.excludes(other):
				known = b.and(known, b.not(b.and(b.variable(i), b.variable(j))))
			}
		}
	}
	return known
}

func (b *bdd) variable(rule int) int { return b.node(rule, bddFalse, bddTrue) }

func member(list string) func(ask) []string {
	return func(a ask) []string { return lists(a, a.rule, list) }
}

// oneOf is where the resource has one text, and each rule of the name holds if it is among its own.
func (b *bdd) oneOf(asks []ask, rule string, fold func(string) string, of func(ask) []string) int {
	texts := map[string]bool{"\x00 another": true}
	for _, a := range asks {
		if a.rule == rule {
			for _, text := range of(a) {
				texts[fold(text)] = true
			}
		}
	}
	possible := bddFalse
	for text := range texts {
		this := bddTrue
		for i := len(asks) - 1; i >= 0; i-- {
			if asks[i].rule != rule {
				continue
			}
			has := slices.ContainsFunc(of(asks[i]), func(s string) bool { return fold(s) == text })
			if has {
				this = b.and(this, b.variable(i))
			} else {
				this = b.and(this, b.not(b.variable(i)))
			}
		}
		possible = b.or(possible, this)
	}
	return possible
}

// owner is where the rule i about owners holds with one of its claims: if others have all of them, one of these holds.
func (b *bdd) owner(asks []ask, i int) int {
	others, left := bddFalse, map[string]bool{}
	for _, claim := range lists(asks[i], "IS_ENTITY_OWNER", "claims") {
		left[claim] = true
	}
	implied := bddTrue
	for j, a := range asks {
		if j == i || a.rule != "IS_ENTITY_OWNER" {
			continue
		}
		claims := lists(a, a.rule, "claims")
		inside := !slices.ContainsFunc(claims, func(c string) bool {
			return !slices.Contains(lists(asks[i], a.rule, "claims"), c)
		})
		if inside { // the wider rule holds where the narrower one does
			implied = b.and(implied, b.or(b.not(b.variable(j)), b.variable(i)))
		}
		for _, claim := range claims {
			delete(left, claim)
		}
		others = b.or(others, b.variable(j))
	}
	if len(left) == 0 {
		implied = b.and(implied, b.or(b.not(b.variable(i)), others))
	}
	return implied
}

// property returns what the rule looks up and the value that it asks for, both folded as the rule does.
func (a ask) property() (name, value string, valued bool) {
	for _, key := range []string{"label", "annotation", "key"} {
		if text, ok := a.params[key].(string); ok {
			name = strings.ToLower(text)
		}
	}
	v, valued := a.params["value"]
	if valued {
		value = strings.ToLower(compact(v))
	}
	return name, value, valued && name != ""
}

// implies reports whether the other rule holds wherever a does.
func (a ask) implies(other ask) bool {
	name, value, valued := a.property()
	otherName, otherValue, otherValued := other.property()
	if a.rule != other.rule || name != otherName || name == "" {
		return false
	}
	folds := strings.HasPrefix(a.rule, "HAS_LABEL") || strings.HasPrefix(a.rule, "HAS_ANNOTATION") ||
		a.rule == "HAS_METADATA" || a.rule == "HAS_SPEC"
	if !folds && a.params["key"] != other.params["key"] {
		return false // properties of actions are looked up as they are written
	}
	return valued && !otherValued || folds && valued == otherValued && value == otherValue
}

// excludes reports whether the two rules ask for different values of what has one.
func (a ask) excludes(other ask) bool {
	name, value, valued := a.property()
	otherName, otherValue, otherValued := other.property()
	if a.rule != other.rule || name != otherName || !valued || !otherValued || value == otherValue {
		return false
	}
	switch a.rule {
	case "HAS_LABEL", "HAS_ANNOTATION":
		return true
	case "HAS_STRING_PROPERTY", "HAS_NUMBER_PROPERTY", "HAS_BOOLEAN_PROPERTY":
		digits := func(s string) bool { return strings.Trim(s, `"0123456789`) == "" }
		return a.params["key"] == other.params["key"] && (!digits(value) || !digits(otherValue))
	}
	return false
}

// never reports whether the rule holds for no resource.
func (a ask) never() bool {
	name, _, valued := a.property()
	root := map[string]string{"HAS_METADATA": "metadata.", "HAS_SPEC": "spec."}[a.rule]
	long := func(s string) bool { return len(utf16.Encode([]rune(strings.ToLower(s)))) > 200 }
	value, _ := a.params["value"].(string)
	return root != "" && (root+name == "metadata.etag" || long(root+name) || valued && long(value))
}
