package decision

import (
	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stagedoor/stagedoor/adapter/wire"
)

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

// Identity is the input's identity, or nil for a caller without credentials. It is
// made once for a batch.
func Identity(c Caller) *ast.Term {
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

// Input is the document that Rego sees as input about a permission, with an identity
// as [Identity] makes them; rego/schemas/input.jsonschema describes it.
func Input(p wire.Permission, identity *ast.Term) ast.Object {
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
