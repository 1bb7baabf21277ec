// Package decision is the vocabulary of who decides: who asks ([Caller]), what the
// policy sees ([Input]), what came of it ([Outcome], [Batch]), and why nothing did
// ([Failure]). An engine in process and a remote server answer in it alike, and the
// decision log tells it.
package decision

import (
	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stagedoor/stagedoor/adapter/wire"
)

// Caller is who asks, as the policy sees it: never a token.
type Caller struct {
	// Anonymous is a caller without credentials, for whom the input has no
	// identity. It is possible only where the default auth policy is disabled.
	Anonymous bool
	// User is the user's entity ref, the sub of the token as it stands.
	User string
	// Claims are the user's ownership entity refs.
	Claims []string
	// Actor is the plugin that asks on behalf of the user; empty when the user
	// asks directly.
	Actor string
}

// Outcome is the answer to one permission, or why there is none.
type Outcome struct {
	Decision wire.Decision
	// Reason is what the documents of the policy said under "reason", and which rules
	// were decided by either answer (package explore).
	Reason string
	// Rules are those of a policy about the resource that the decision comes from.
	Rules []Rule
	// Excluded are the errors of those branches of a policy about the resource
	// that are therefore no part of the conditions.
	Excluded []error
	// RuleLabels are the labels in the METADATA of the rules that were evaluated.
	RuleLabels []map[string]any
	// Remembered is whether the decision was not made anew.
	Remembered bool
	// Err is the failure of the policy for this item, of type *Failure, or nil. The
	// Decision beside an Err is the zero one, which denies.
	Err error
}

// Rule is a rule of the policy.
type Rule struct {
	// Title is that of its METADATA; empty where there is none.
	Title string `json:"title,omitempty"`
	// Place is where it stands, as file:line.
	Place string `json:"place"`
}

// Batch is the answer to all permissions of one request, by one policy.
type Batch struct {
	// Outcomes are in the order asked. They are shared and must not be changed.
	Outcomes []*Outcome
	// Revision, Revisions and Entrypoint are those of the policy that answered.
	Revision   string
	Revisions  map[string]string
	Entrypoint string

	// Input is what the policy saw, where the caller made it; nil else, since it
	// follows from the caller and the permission.
	Input ast.Object
}

// What a note of how a decision was found costs, roughly: so many bytes besides its
// text; and so many for each byte of a decision's JSON, which is kept beside the tree
// of conditions.
const (
	noteOverhead = 64
	ruleOverhead = 32
	treeFactor   = 3
)

// Size is about how many bytes of memory the outcome takes.
func (o *Outcome) Size() int {
	n := len(o.Reason) + treeFactor*len(o.Decision.Text()) + noteOverhead*(len(o.Excluded)+len(o.RuleLabels))
	for _, rule := range o.Rules {
		n += ruleOverhead + len(rule.Title) + len(rule.Place)
	}
	for _, err := range o.Excluded {
		n += len(err.Error())
	}
	return n
}
