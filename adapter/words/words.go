// Package words says a condition in plain English:
//
//	owned by the caller or a group of the caller, and not labelled frozen
//
// What a rule says comes from a template in its METADATA, custom.backstage.words:
//
//	words: labelled {label}[={value}]
//
// A name in braces stands for the param of that name. What stands in brackets is
// left out where one of its params is not given. The elements of a list are joined
// by "or". Where the rule does not hold the template is said with "not" before it; one
// that begins with "with" begins with "without" then, and one that begins with "not"
// loses it. A rule without words is said by its name and its params.
//
// The caller's own reference is "the caller", and all claims of the caller in one
// list are "the caller or a group of the caller". A text that is more than one word
// is quoted, so that no value reads like a part of the sentence.
//
// The words are the same wherever a condition is shown. They are stable: a condition
// in canonical form always has the same ones, and negations stand at the rules alone.
// The package is pure, and all of it is safe for concurrent use.
package words

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/stagedoor/stagedoor/adapter/criteria"
)

// A Template is how a rule is said. The zero Template says nothing: the rule is
// said by its name and params.
type Template struct {
	parts []part
}

// part is a text or a param, or what is left out where one of its params is missing.
type part struct {
	text     string
	param    string
	optional []part
}

// Parse reads a template. The error says what is malformed.
func Parse(text string) (Template, error) {
	if strings.TrimSpace(text) != text || text == "" || strings.ContainsAny(text, "\n\t") {
		return Template{}, errors.New("words are one line without space around it")
	}
	parts, rest, err := parse(text, false)
	if err == nil && rest != "" {
		err = errors.New("a ] that closes no [")
	}
	if err != nil {
		return Template{}, fmt.Errorf("words %q: %w", text, err)
	}
	return Template{parts}, nil
}

func parse(text string, within bool) (parts []part, rest string, err error) {
	for text != "" {
		at := strings.IndexAny(text, "{}[]")
		if at < 0 {
			at = len(text)
		}
		if at > 0 {
			parts = append(parts, part{text: text[:at]})
		}
		if text = text[at:]; text == "" {
			break
		}
		switch text[0] {
		case '{':
			name, after, closed := strings.Cut(text[1:], "}")
			if !closed || !paramName.MatchString(name) {
				return nil, "", fmt.Errorf("a param is written {name}, not %q", text)
			}
			parts, text = append(parts, part{param: name}), after
		case '[':
			if within {
				return nil, "", errors.New("a [ inside of another")
			}
			optional, after, err := parse(text[1:], true)
			if err != nil {
				return nil, "", err
			}
			parts, text = append(parts, part{optional: optional}), after
		case ']':
			if !within {
				return nil, "", errors.New("a ] that closes no [")
			}
			return parts, text[1:], nil
		default:
			return nil, "", errors.New("a } that closes no {")
		}
	}
	if within {
		return nil, "", errors.New("a [ that is not closed")
	}
	return parts, "", nil
}

var paramName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// Params are the names of the params in the template, sorted.
func (t Template) Params() []string {
	names := map[string]bool{}
	for _, p := range t.parts {
		for _, p := range append(p.optional, p) {
			if p.param != "" {
				names[p.param] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// A Caller is whose references are said as "the caller". The zero Caller is nobody.
type Caller struct {
	User   string
	Claims []string
}

// A Vocabulary is how rules are said, by what a condition says of them.
type Vocabulary map[Rule]Template

// Rule names a rule as a condition does.
type Rule struct{ Name, ResourceType string }

// Condition says a condition as it applies to the caller. It is "always" or "never"
// where it does not depend on the resource.
func (v Vocabulary) Condition(c criteria.Criteria, who Caller) string {
	return v.say(c, false, false, who)
}

// Leaf says one rule, or that it does not hold.
func (v Vocabulary) Leaf(r criteria.Rule, holds bool, who Caller) string {
	text := v.rule(r, who)
	if holds {
		return text
	}
	if after, ok := strings.CutPrefix(text, "with "); ok {
		return "without " + after
	}
	if after, ok := strings.CutPrefix(text, "not "); ok {
		return after
	}
	return "not " + text
}

func (v Vocabulary) say(c criteria.Criteria, negated, within bool, who Caller) string {
	switch c.Op {
	case criteria.Leaf:
		return v.Leaf(c.Rule, !negated, who)
	case criteria.Not:
		return v.say(c.Of[0], !negated, within, who)
	case criteria.AllOf, criteria.AnyOf:
		op := c.Op
		if negated {
			op = criteria.AllOf + criteria.AnyOf - op
		}
		members := flat(c, op, negated)
		slices.SortStableFunc(members, func(a, b member) int { return cmp.Compare(a.place(), b.place()) })
		var said []string
		for _, m := range members {
			said = append(said, v.say(m.of, m.negated, true, who))
		}
		text := strings.Join(said, map[criteria.Op]string{criteria.AllOf: ", and ", criteria.AnyOf: ", or "}[op])
		if within && len(said) > 1 {
			return "(" + text + ")"
		}
		return text
	}
	if (c.Op == criteria.Always) != negated {
		return "always"
	}
	return "never"
}

// member is one of a list, which can be meant negated.
type member struct {
	of      criteria.Criteria
	negated bool
}

// place is where a member stands: what holds, what does not, and then lists.
func (m member) place() int {
	switch {
	case m.of.Op != criteria.Leaf:
		return 2
	case m.negated:
		return 1
	}
	return 0
}

// flat are the members of a list that is op once its negation is at the rules, with
// those of the lists in it that are op too.
func flat(c criteria.Criteria, op criteria.Op, negated bool) []member {
	own := c.Op
	if negated && (own == criteria.AllOf || own == criteria.AnyOf) {
		own = criteria.AllOf + criteria.AnyOf - own
	}
	switch {
	case c.Op == criteria.Not:
		return flat(c.Of[0], op, !negated)
	case own != op:
		return []member{{c, negated}}
	}
	var members []member
	for _, child := range c.Of {
		members = append(members, flat(child, op, negated)...)
	}
	return members
}

func (v Vocabulary) rule(r criteria.Rule, who Caller) string {
	params := map[string]any{}
	if r.Params != "" {
		decoder := json.NewDecoder(strings.NewReader(r.Params))
		decoder.UseNumber()
		if err := decoder.Decode(&params); err != nil {
			return r.Name + quoted(r.Params)
		}
	}
	if template, ok := v[Rule{r.Name, r.ResourceType}]; ok {
		if text, ok := fill(template.parts, params, who); ok && text != "" {
			return text
		}
	}
	var said []string
	for _, name := range slices.Sorted(maps.Keys(params)) {
		said = append(said, name+": "+who.value(name, params[name]))
	}
	if len(said) == 0 {
		return r.Name
	}
	return r.Name + "(" + strings.Join(said, ", ") + ")"
}

// fill says the parts; it fails where a param is missing.
func fill(parts []part, params map[string]any, who Caller) (string, bool) {
	var text strings.Builder
	for _, p := range parts {
		switch {
		case p.param != "":
			value, given := params[p.param]
			if !given {
				return "", false
			}
			text.WriteString(who.value(p.param, value))
		case p.optional != nil:
			said, _ := fill(p.optional, params, who)
			text.WriteString(said)
		default:
			text.WriteString(p.text)
		}
	}
	return text.String(), true
}

// value says the value of a param.
func (who Caller) value(param string, v any) string {
	switch v := v.(type) {
	case string:
		return who.text(v)
	case []any:
		return who.list(param, v)
	}
	text := asJSON(v)
	if _, structured := v.(map[string]any); structured {
		return quoted(text)
	}
	return text
}

// asJSON is a value as JSON, for people: < stays as it is.
func asJSON(v any) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil { // It was decoded from JSON.
		return fmt.Sprint(v)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func (who Caller) text(v string) string {
	switch {
	case who.User == "":
	case v == who.User:
		return "the caller"
	case v == strings.ToLower(who.User):
		return "the caller in lower case"
	}
	return quoted(v)
}

// list says the elements of a list. All claims of the caller in it are said at once.
func (who Caller) list(param string, v []any) string {
	if len(v) == 0 {
		return "none"
	}
	var said []string
	listed := map[string]bool{}
	for _, element := range v {
		if text, ok := element.(string); ok {
			listed[text] = true
		}
	}
	claimed, words := who.claimed(param, listed, func(claim string) string { return claim }), ""
	if claimed == nil {
		claimed, words = who.claimed(param, listed, strings.ToLower), " in lower case"
	}
	if claimed != nil {
		said = append(said, "the caller or a group of the caller"+words)
	}
	for _, element := range v {
		if text, ok := element.(string); ok && claimed[text] {
			continue
		}
		said = append(said, who.value("", element))
	}
	slices.SortStableFunc(said, func(a, b string) int {
		return cmp.Compare(ownFirst(a), ownFirst(b))
	})
	return strings.Join(slices.Compact(said), " or ")
}

// claimed are the caller's claims, written in some way, where all of them are listed so.
//
// One claim can be all claims or the user alone. Where a rule asks for claims, it is said
// as it is for callers with more of them.
func (who Caller) claimed(param string, listed map[string]bool, written func(string) string) map[string]bool {
	claimed := map[string]bool{}
	for _, claim := range who.Claims {
		claimed[written(claim)] = true
	}
	if len(claimed) == 0 || len(claimed) == 1 && !strings.Contains(strings.ToLower(param), "claim") {
		return nil
	}
	for claim := range claimed {
		if !listed[claim] {
			return nil
		}
	}
	return claimed
}

func ownFirst(text string) int {
	if strings.HasPrefix(text, "the caller") {
		return 0
	}
	return 1
}

// plain is a text that cannot be taken for anything but itself.
var plain = regexp.MustCompile(`^[\pL\pN_./:@+~$*#%-]+$`)

func quoted(text string) string {
	if plain.MatchString(text) {
		return text
	}
	return asJSON(text)
}

// Same reports whether two conditions in words are the same but for space and for
// the order in which the members of the outermost list are named.
func Same(a, b string) bool { return canonical(a) == canonical(b) }

func canonical(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	for _, joint := range []string{", and ", ", or "} {
		if parts := outermost(text, joint); len(parts) > 1 {
			slices.Sort(parts)
			return strings.Join(parts, joint)
		}
	}
	return text
}

// outermost splits at the joints that stand outside of parentheses and quotes.
func outermost(text, joint string) []string {
	var parts []string
	depth, from, inQuotes := 0, 0, false
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '\\' && inQuotes:
			i++
		case text[i] == '"':
			inQuotes = !inQuotes
		case inQuotes:
		case text[i] == '(':
			depth++
		case text[i] == ')':
			depth--
		case depth == 0 && strings.HasPrefix(text[i:], joint):
			parts = append(parts, text[from:i])
			from = i + len(joint)
			i = from - 1
		}
	}
	return append(parts, text[from:])
}
