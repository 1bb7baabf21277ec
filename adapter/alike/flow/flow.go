// Package flow follows the texts of the caller through the rules of a policy. It says why
// callers who are alike cannot share one decision ([Through]), with file and line.
//
// It is a data-flow analysis of what OPA compiled: an abstract interpretation, in which a
// [shape.Shape] stands for all values that a term can have. A scope is a body that is looked
// at, with the shapes of its variables. Documents and functions grow until nothing changes.
package flow

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stagedoor/stagedoor/adapter/alike/shape"
)

// Reason is why callers who are alike are decided for one by one.
type Reason struct {
	// Construct is what in the policy asks more of the caller than which of its own
	// texts the claims are.
	Construct string `json:"construct"`
	// Location is the file and line of it.
	Location string `json:"location"`
}

// Through follows the texts of the caller through the rules that the entrypoint reaches,
// and returns why decisions cannot be shared by callers who are alike; nothing where
// they can. The policy is as OPA compiled it, with its annotations.
//
// It interprets the policy abstractly, rule by rule, until no shape grows any more: the
// bodies in the order in which OPA evaluates them, so that the first expression with a
// variable is the one that binds it.
func Through(c *ast.Compiler, entrypoint ast.Ref) []Reason {
	f := &flow{
		compiler: c, root: &node{}, permissions: permissionRules(c),
		values: make(map[*node]*shape.Shape), params: make(map[*node][]*shape.Shape), reached: make(map[*node]bool),
	}
	for _, module := range c.Modules {
		for _, rule := range module.Rules {
			f.root.add(rule)
		}
	}
	// Each round but the last makes some shape larger, and shapes are bounded.
	for f.grown = true; f.grown; {
		f.grown, f.reasons = false, make(map[Reason]bool)
		f.decision(entrypoint)
		for _, n := range f.inOrder() {
			f.document(n)
		}
	}
	return slices.SortedFunc(maps.Keys(f.told()), func(a, b Reason) int {
		return cmp.Or(strings.Compare(a.Location, b.Location), strings.Compare(a.Construct, b.Construct))
	})
}

type flow struct {
	compiler    *ast.Compiler
	root        *node
	permissions map[string]*permission // by the path of the function
	values      map[*node]*shape.Shape
	params      map[*node][]*shape.Shape
	reached     map[*node]bool
	order       []*node
	reasons     map[Reason]bool
	grown       bool
}

// node is a place among the documents that rules make.
type node struct {
	path     string
	children map[string]*node
	rules    []*ast.Rule
}

func (n *node) add(rule *ast.Rule) {
	for _, part := range rule.Ref().GroundPrefix()[1:] {
		if n.children == nil {
			n.children = make(map[string]*node)
		}
		key := part.String()
		child := n.children[key]
		if child == nil {
			child = &node{path: strings.TrimPrefix(n.path+"."+string(asText(part)), ".")}
			n.children[key] = child
		}
		n = child
	}
	n.rules = append(n.rules, rule)
}

func asText(t *ast.Term) ast.String {
	if s, ok := t.Value.(ast.String); ok {
		return s
	}
	return ast.String(t.String())
}

// inOrder are the documents that were reached, in the order in which they were.
func (f *flow) inOrder() []*node { return slices.Clone(f.order) }

func (f *flow) reach(n *node) {
	if !f.reached[n] {
		f.reached[n], f.grown = true, true
		f.order = append(f.order, n)
	}
}

// told are the reasons that an author can do something about.
func (f *flow) told() map[Reason]bool {
	others := maps.Clone(f.reasons)
	maps.DeleteFunc(others, func(r Reason, _ bool) bool { return strings.Contains(r.Construct, shape.NotFollowed) })
	if len(others) > 0 {
		return others // and what follows from them is not followed
	}
	return f.reasons
}

// apart notes why decisions are made for each caller.
func (f *flow) apart(at *ast.Location, format string, args ...any) {
	where := ""
	if at != nil {
		where = fmt.Sprintf("%s:%d", at.File, at.Row)
	}
	f.reasons[Reason{fmt.Sprintf(format, args...), where}] = true
}

// decision looks at what the entrypoint answers.
func (f *flow) decision(entrypoint ast.Ref) {
	n := f.root
	for _, part := range entrypoint[1:] {
		if n = n.children[part.String()]; n == nil {
			return
		}
	}
	var answer *shape.Shape
	var at *ast.Location
	if len(n.rules) > 0 {
		f.reach(n)
		answer, at = f.values[n], n.rules[0].Location
	} else {
		members := make(map[string]*shape.Shape)
		for key, child := range n.children {
			if len(child.rules) > 0 && len(child.rules[0].Head.Args) == 0 {
				f.reach(child)
				members[key], at = f.values[child], child.rules[0].Location
			}
		}
		answer = shape.ObjectOf(members)
	}
	f.answer(at, answer)
}

// answer looks at a value that is a decision.
func (f *flow) answer(at *ast.Location, s *shape.Shape) {
	if !s.Touched() {
		return
	}
	if s.Of == nil || !s.IsDocument() {
		if why := s.WhyNoAnswer(); why != "" {
			f.apart(at, "%s", why)
		}
		return
	}
	for _, key := range slices.Sorted(maps.Keys(s.Of.Members)) {
		member := s.Of.Members[key]
		why := member.WhyNoAnswer()
		switch {
		case key == `"conditions"`:
			if member.Touched() {
				f.allTexts(at)
			}
		case key == `"reason"` && member.Touched() && !member.IsText():
			why = "the reason is made of the caller's texts"
		case slices.Contains([]string{`"result"`, `"pluginId"`, `"resourceType"`}, key) && member.Touched():
			why = "the answer's " + strings.Trim(key, `"`) + " is the caller's"
		case key != `"reason"` && key != `"conditions"`:
			why = "" // nobody reads it
		}
		if why != "" {
			f.apart(at, "%s", why)
		}
	}
}

// allTexts notes the permission rules that do not take every text alike, since an answer
// may name any of them.
func (f *flow) allTexts(at *ast.Location) {
	for _, path := range slices.Sorted(maps.Keys(f.permissions)) {
		if p := f.permissions[path]; p.choosy != "" {
			f.apart(at, "conditions have the claims or the user in them, and the paramsSchema of %s says %s", path, p.choosy)
		}
	}
}

// document looks at the rules of a document, and lets its value grow.
func (f *flow) document(n *node) {
	definitions := 0
	for _, rule := range n.rules {
		if !rule.Default {
			definitions++
		}
	}
	for _, rule := range n.rules {
		for ; rule != nil; rule = rule.Else {
			value := f.rule(n, rule, definitions)
			if joined := f.values[n].Join(value); !joined.Equal(f.values[n]) {
				f.values[n], f.grown = joined, true
			}
		}
	}
}

// rule is the value of a rule, as it is in its document.
func (f *flow) rule(n *node, rule *ast.Rule, definitions int) *shape.Shape {
	s := &scope{flow: f, depth: ruleScope, vars: make(map[ast.Var]*shape.Shape), at: rule.Location}
	for i, arg := range rule.Head.Args {
		given := (*shape.Shape)(nil)
		if i < len(f.params[n]) {
			given = f.params[n][i].Moved(func(alone int) int { return min(alone, outside) })
		}
		s.unify(arg, given.OrKnown())
	}
	for _, e := range rule.Body {
		s.expression(e)
	}
	head := rule.Head
	ref := rule.Ref()
	tail := ref[len(ref.GroundPrefix()):]
	value := shape.Known
	if head.RuleKind() == ast.MultiValue {
		value = s.collected(s.eval(head.Key), true)
	} else {
		if head.Value != nil {
			value = s.eval(head.Value)
		}
		s.oneValue(value, definitions, len(tail) == 0)
		if why := s.notOnePerKey(value, tail); why != "" {
			f.apart(rule.Location, "%s", why)
		}
	}
	value = value.Moved(func(alone int) int { return min(alone, outside) })
	for _, key := range slices.Backward(tail) {
		keys := s.eval(key).Moved(func(alone int) int { return min(alone, outside) })
		if !value.Touched() && !keys.Touched() {
			value = value.OrEmpty().Join(keys)
			continue
		}
		value = &shape.Shape{Of: &shape.Collection{Object: true, Rest: value, Keys: keys, Numbered: keys.Touched()}}
	}
	if value.Depth() > shape.MaxDepth {
		return shape.Opaque
	}
	return value
}

// oneValue looks at a value that is compared with all others of its document: there may
// be one only.
func (s *scope) oneValue(value *shape.Shape, definitions int, complete bool) {
	if value.AloneSince(s.depth) || value.Some(func(s *shape.Shape) bool { return s.Picked }) {
		s.apart("a rule has one claim as its value, and there may be one value only")
	}
	if value.IsCrossed() && (definitions > 1 || !complete || s.generators > 0) {
		s.apart("lists of claims that are repeated are compared, as a rule has one value only")
	}
}

func (s *scope) notOnePerKey(value *shape.Shape, tail ast.Ref) string {
	for _, key := range tail {
		if k := s.eval(key); k.Touched() && !k.IsText() {
			return "the caller's claims are in a key"
		}
	}
	if len(tail) > 0 && value.Touched() && slices.ContainsFunc(tail,
		func(key *ast.Term) bool { return s.eval(key).Touched() }) {
		return "a rule has the caller's texts as keys and in its values"
	}
	return ""
}

// permission is a permission rule: a function that a plugin answers.
type permission struct {
	// choosy is the keyword of its paramsSchema by which texts are not all alike; empty
	// where there is none.
	choosy string
}

// permissionRules are the functions annotated as permission rules, by path.
func permissionRules(c *ast.Compiler) map[string]*permission {
	found := make(map[string]*permission)
	for _, module := range c.Modules {
		for _, a := range module.Annotations {
			custom, is := a.Custom["backstage"].(map[string]any)
			if !is {
				continue
			}
			found[a.GetTargetPath().String()] = &permission{choosy: choosy(custom["paramsSchema"])}
		}
	}
	return found
}

// alikeWords are the keywords of JSON Schema that take all texts alike, and lists of
// texts of any length.
var alikeWords = []string{"type", "properties", "required", "items", "additionalProperties", "title", "description",
	"default",
	"examples", "$schema", "$id", "$comment", "deprecated", "readOnly", "writeOnly"}

// choosy is a keyword of a schema that could tell texts, or lists of them, apart.
func choosy(schema any) string {
	members, is := schema.(map[string]any)
	if !is {
		return ""
	}
	for _, word := range slices.Sorted(maps.Keys(members)) {
		value := members[word]
		switch {
		case !slices.Contains(alikeWords, word):
			return word
		case word == "properties":
			properties, _ := value.(map[string]any)
			for _, name := range slices.Sorted(maps.Keys(properties)) {
				if found := choosy(properties[name]); found != "" {
					return found
				}
			}
		case word == "items" || word == "additionalProperties":
			if _, list := value.([]any); list {
				return "a list of items"
			}
			if found := choosy(value); found != "" {
				return found
			}
		}
	}
	return ""
}
