// Package explain says why a policy decides as it does, and what would turn it.
//
// The decision is that of the engine that serves. The reasons are read from stock
// evaluation of the same policy (trial.go), in which every permission rule is one
// leaf: it is answered by its body where the resource is known, and otherwise in
// several ways, so that a rule either holds, does not, or depends on the resource.
//
// What decided is found by trying: a rule is named where the answer is another one
// without it. The change that would turn the answer is found by trying too
// (package counterfactual), and is decided by the engine before it is told.
package explain

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/stagedoor/stagedoor/adapter/explain/counterfactual"
	"github.com/stagedoor/stagedoor/adapter/inventory"
	"github.com/stagedoor/stagedoor/adapter/offline"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// An Explanation is why one question is answered as it is.
type Explanation struct {
	Permission string `json:"permission"`
	User       string `json:"user,omitempty"`
	// Result is ALLOW, DENY or CONDITIONAL; with a resource, ALLOW or DENY for it.
	Result string `json:"result"`
	// InWords is the condition of the decision; empty where it has none.
	InWords string `json:"inWords,omitempty"`
	// Reason is what the policy itself says under reason.
	Reason string `json:"reason,omitempty"`
	// Error is why there is no decision; it denies then.
	Error string `json:"error,omitempty"`
	// Decided are the rules without each of which the answer is another one; where
	// several would do without each other, they are named together.
	Decided []Rule `json:"decided,omitempty"`
	// From says of each part of the condition which rule asks for it.
	From []Part `json:"from,omitempty"`
	// Tree is the author's own rules that were evaluated for the entrypoint.
	Tree []*Node `json:"tree"`
	// Change is the smallest change that was found to turn the answer; nil where none was.
	Change *counterfactual.Change `json:"change,omitempty"`
}

// A Rule is one rule of the author's: its title, or its name where it has none.
type Rule struct {
	Title string `json:"title"`
	File  string `json:"file"`
	Line  int    `json:"line"`
}

// String returns title, file and line.
func (r Rule) String() string { return fmt.Sprintf("%s (%s:%d)", r.Title, r.File, r.Line) }

// A Part is a leaf of a condition and the rules that ask for it.
type Part struct {
	InWords string `json:"inWords"`
	Rules   []Rule `json:"rules"`
}

// A State is whether something holds.
type State string

// The states.
const (
	Holds State = "holds"
	Not   State = "not"
	// Depends is what depends on the resource, which is not known.
	Depends State = "depends"
)

// A Node is one rule of the author's, as it was evaluated.
type Node struct {
	Rule
	State State `json:"state"`
	// LeftOut is whether OPA's index leaves the rule out, so that it never holds; it has no
	// lines then. See the finding index of stagedoor check.
	LeftOut bool `json:"leftOut,omitempty"`
	// Lines are its expressions, in order, as far as they were evaluated.
	Lines []Line `json:"lines,omitempty"`
}

// A Line is one expression.
type Line struct {
	Text  string `json:"text"`
	Line  int    `json:"line"`
	State State  `json:"state"`
	// Leaf is whether it asks a permission rule; the text is in words then.
	Leaf bool `json:"leaf,omitempty"`
	// Of are the author's rules that it refers to.
	Of []*Node `json:"of,omitempty"`
}

// Explain explains the answer of a policy to a question. The inventory brings
// references of groups that a change may name.
//
// The error is the context's, or that of a policy that stock OPA does not compile.
func Explain(
	ctx context.Context, p *offline.Policy, q offline.Question, known *inventory.Inventory,
) (*Explanation, error) {
	outcome, err := p.Decide(ctx, q.Caller, q.Permission)
	if err != nil {
		return nil, err
	}
	e := &Explanation{Permission: q.Permission.Name, User: q.Caller.User, Reason: outcome.Reason}
	if outcome.Err != nil {
		e.Result, e.Error = wire.Deny.String(), outcome.Err.Error()
		return e, nil //nolint:nilerr // the failure is what is explained
	}
	d := outcome.Decision
	e.Result = d.Result.String()
	vocabulary := p.Vocabulary()
	if d.Result == wire.Conditional {
		e.InWords = vocabulary.Condition(d.Conditions, q.Words())
	}
	if q.Resource != nil {
		allowed, err := p.Applies(ctx, d, q.Resource)
		if err != nil {
			return nil, err
		}
		e.Result = result(allowed)
	}
	t, err := newTrials(p, q)
	if err != nil {
		return nil, err
	}
	runs, err := t.runs(ctx, d.Conditions)
	if err != nil {
		return nil, err
	}
	e.Tree = tree(t, runs)
	for leaf := range d.Conditions.Rules() {
		part := Part{InWords: vocabulary.Leaf(leaf, true, q.Words()), Rules: t.from(leaf, runs)}
		if !slices.ContainsFunc(e.From, func(known Part) bool { return known.InWords == part.InWords }) {
			e.From = append(e.From, part)
		}
	}
	decided, err := t.decided(ctx, runs)
	if err != nil {
		return nil, err
	}
	e.Decided = t.named(t.foremost(decided)...)
	e.Change, err = counterfactual.Smallest(ctx, p, q, e.Result == wire.Allow.String(), known)
	return e, err
}

// Decided are the rules that decided a question, as in an [Explanation]. The error is
// as that of [Explain].
func Decided(ctx context.Context, p *offline.Policy, q offline.Question) ([]Rule, error) {
	outcome, err := p.Decide(ctx, q.Caller, q.Permission)
	if err != nil || outcome.Err != nil {
		return nil, err
	}
	t, err := newTrials(p, q)
	if err != nil {
		return nil, err
	}
	runs, err := t.runs(ctx, outcome.Decision.Conditions)
	if err != nil {
		return nil, err
	}
	decided, err := t.decided(ctx, runs)
	return t.named(decided...), err
}

func result(allowed bool) string {
	if allowed {
		return wire.Allow.String()
	}
	return wire.Deny.String()
}

// Text tells it to a person.
func (e *Explanation) Text() string {
	var b strings.Builder
	who := e.User
	if who == "" {
		who = "nobody who is signed in"
	}
	fmt.Fprintf(&b, "%s %s for %s\n", e.Result, e.Permission, who)
	if e.InWords != "" {
		fmt.Fprintf(&b, "  the condition: %s\n", e.InWords)
	}
	if e.Reason != "" {
		fmt.Fprintf(&b, "  the policy says: %s\n", e.Reason)
	}
	if e.Error != "" {
		fmt.Fprintf(&b, "  the policy fails: %s\n", e.Error)
		return b.String()
	}
	if len(e.Decided) > 0 {
		b.WriteString("decided by\n")
		for _, r := range e.Decided {
			fmt.Fprintf(&b, "  %s\n", r)
		}
	}
	if len(e.From) > 0 {
		b.WriteString("the parts of the condition\n")
		for _, part := range e.From {
			var rules []string
			for _, r := range part.Rules {
				rules = append(rules, r.String())
			}
			fmt.Fprintf(&b, "  %s: from %s\n", part.InWords, strings.Join(rules, ", "))
		}
	}
	b.WriteString("the rules (+ holds, - does not, ? depends on the resource)\n")
	var others []string
	for _, n := range e.Tree {
		if n.elsewhere() {
			others = append(others, fmt.Sprintf("%s:%d", n.File, n.Line))
			continue
		}
		n.text(&b, "  ", false)
	}
	if len(others) > 0 {
		fmt.Fprintf(&b, "  - about other permissions: %s\n", shortened(others))
	}
	if e.Change != nil {
		fmt.Fprintf(&b, "it would be %s for %s\n", e.Change.Result, e.Change.Text)
	} else {
		b.WriteString("no change of the caller or the resource that was tried turns it\n")
	}
	return b.String()
}

// shortened lists places, naming a file once.
func shortened(places []string) string {
	var list strings.Builder
	file := ""
	for i, place := range places {
		at := strings.LastIndexByte(place, ':')
		if place[:at] != file {
			file = place[:at]
			list.WriteString(map[bool]string{true: ", "}[i > 0] + place)
			continue
		}
		list.WriteString(", " + place[at+1:])
	}
	return list.String()
}

// elsewhere is whether a rule does not hold because of the permission alone.
func (n *Node) elsewhere() bool {
	if n.State != Not || len(n.Lines) == 0 {
		return false
	}
	last := n.Lines[len(n.Lines)-1]
	return last.State == Not && strings.Contains(last.Text, "input.permission.")
}

// none are expressions that fail by the rules that hold.
var none = regexp.MustCompile(`^not |^count\(.*\) *(== *0|< *1|<= *0)$|^0 *== *count\(`)

var marks = map[State]string{Holds: "+", Not: "-", Depends: "?"}

// text writes the rule and its expressions; below the rules of the entrypoint only
// those expressions that say why.
func (n *Node) text(b *strings.Builder, indent string, below bool) {
	if n.LeftOut {
		fmt.Fprintf(b, "%s%s %s: OPA's index leaves this rule out, whoever asks; stagedoor check says what to write\n",
			indent, marks[n.State], n.Rule)
		return
	}
	fmt.Fprintf(b, "%s%s %s\n", indent, marks[n.State], n.Rule)
	for _, line := range n.Lines {
		if below && n.State != Holds && line.State == Holds && !line.Leaf {
			continue
		}
		if below && n.State == Holds && !line.Leaf && len(line.Of) == 0 {
			continue
		}
		fmt.Fprintf(b, "%s    %s %s\n", indent, marks[line.State], line.Text)
		cause := none.MatchString(line.Text)
		for _, of := range line.Of {
			if of.LeftOut {
				of.text(b, indent+"      ", true)
				continue
			}
			if line.State == Holds || of.State == Not && (cause || line.State == Depends) ||
				of.State == Holds && !cause && line.State == Depends {
				continue
			}
			of.text(b, indent+"      ", true)
		}
	}
}
