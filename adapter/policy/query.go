package policy

import (
	"slices"

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
	// Reason is what a decision-style policy said under "reason".
	Reason string
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

// Batch is the answer to all permissions of one request, by one policy.
type Batch struct {
	// Outcomes are in the order asked. They are shared and must not be changed.
	Outcomes []*Outcome
	// Revision, Revisions and Entrypoint are those of the [State] that answered.
	Revision   string
	Revisions  map[string]string
	Entrypoint string

	document ast.Object // the input, where the caller made it
}

var (
	termPermission   = ast.InternedTerm("permission")
	termName         = ast.InternedTerm("name")
	termType         = ast.InternedTerm("type")
	termBasic        = ast.InternedTerm("basic")
	termResource     = ast.InternedTerm("resource")
	termAttributes   = ast.InternedTerm("attributes")
	termAction       = ast.InternedTerm("action")
	termResourceType = ast.InternedTerm("resourceType")
	termIdentity     = ast.InternedTerm("identity")
	termUser         = ast.InternedTerm("user")
	termClaims       = ast.InternedTerm("claims")
	termActor        = ast.InternedTerm("actor")
)

// identityValue is the input's identity, or nil for a caller without credentials.
// It is made once for a batch.
func identityValue(c Caller) *ast.Term {
	if c.Anonymous {
		return nil
	}
	claims := make([]*ast.Term, len(c.Claims))
	for i, claim := range c.Claims {
		claims[i] = ast.StringTerm(claim)
	}
	members := [][2]*ast.Term{
		{termUser, ast.StringTerm(c.User)},
		{termClaims, ast.ArrayTerm(claims...)},
	}
	if c.Actor != "" {
		members = append(members, [2]*ast.Term{termActor, ast.StringTerm(c.Actor)})
	}
	return ast.ObjectTerm(members...)
}

// inputValue is the document that Rego sees as input; rego/schemas/input.jsonschema
// describes it.
func inputValue(p wire.Permission, identity *ast.Term) ast.Object {
	attributes := ast.InternedEmptyObject
	if p.Action != "" {
		attributes = ast.ObjectTerm([2]*ast.Term{termAction, ast.StringTerm(p.Action)})
	}
	permission := [][2]*ast.Term{
		{termName, ast.StringTerm(p.Name)},
		{termType, termBasic},
		{termAttributes, attributes},
	}
	if p.Resource {
		permission[1][1] = termResource
		permission = append(permission, [2]*ast.Term{termResourceType, ast.StringTerm(p.ResourceType)})
	}
	members := [][2]*ast.Term{{termPermission, ast.ObjectTerm(permission...)}}
	if identity != nil {
		members = append(members, [2]*ast.Term{termIdentity, identity})
	}
	return ast.NewObject(members...)
}

// distinct maps every permission to the index of its first occurrence among
// those that differ, so that a batch of a thousand equal questions is one.
func distinct(permissions []wire.Permission) (unique []wire.Permission, index []int) {
	if len(permissions) == 1 {
		return permissions, []int{0}
	}
	index = make([]int, len(permissions))
	seen := make(map[wire.Permission]int, min(len(permissions), 64))
	for i, p := range permissions {
		at, known := seen[p]
		if !known {
			at = len(unique)
			seen[p] = at
			unique = append(unique, p)
		}
		index[i] = at
	}
	return slices.Clip(unique), index
}
