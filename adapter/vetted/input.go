package vetted

import "github.com/open-policy-agent/opa/v1/ast"

// Parts is a set of parts of the input.
type Parts uint16

// The parts of the input.
const (
	PartName Parts = 1 << iota
	PartType
	PartAction
	PartResourceType
	PartAnonymous // whether there is an identity at all
	PartUser
	PartClaims
	PartActor

	partsPermission = PartName | PartType | PartAction | PartResourceType
	partsIdentity   = PartAnonymous | PartUser | PartClaims | PartActor
	partsAll        = partsPermission | partsIdentity
)

// inputParts returns the parts of the input that the rules read. What it cannot
// see through it takes to read everything.
func inputParts(rules []*ast.Rule) Parts {
	var read Parts
	for _, rule := range rules {
		ast.WalkTerms(rule, func(t *ast.Term) bool {
			switch v := t.Value.(type) {
			case ast.Ref:
				if v.HasPrefix(ast.InputRootRef) {
					read |= partsOf(v)
					// What stands in the brackets of a reference may be one itself.
					for _, step := range v[1:] {
						read |= inputPartsOfTerm(step)
					}
					return true
				}
			case ast.Var:
				if v.Equal(ast.InputRootDocument.Value) {
					read = partsAll
				}
			}
			return false
		})
	}
	return read
}

func inputPartsOfTerm(t *ast.Term) Parts {
	var read Parts
	ast.WalkRefs(t, func(r ast.Ref) bool {
		if r.HasPrefix(ast.InputRootRef) {
			read |= partsOf(r)
		}
		return false
	})
	return read
}

func partsOf(ref ast.Ref) Parts {
	step := func(i int) (string, bool) {
		if i >= len(ref) {
			return "", false
		}
		s, ok := ref[i].Value.(ast.String)
		return string(s), ok
	}
	document, ok := step(1)
	if !ok {
		return partsAll
	}
	member, ok := step(2)
	switch document {
	case "permission":
		if !ok {
			return partsPermission
		}
		switch member {
		case "name":
			return PartName
		case "type":
			return PartType
		case "attributes":
			return PartAction
		case "resourceType":
			return PartResourceType
		}
	case "identity":
		if !ok {
			return partsIdentity
		}
		switch member {
		case "user":
			return PartAnonymous | PartUser
		case "claims":
			return PartAnonymous | PartClaims
		case "actor":
			return PartAnonymous | PartActor
		}
		return PartAnonymous
	}
	// A member that the input never has is undefined for every caller, and the
	// resource is not known when a decision is made.
	return 0
}
