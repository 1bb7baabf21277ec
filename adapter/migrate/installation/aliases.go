package installation

import (
	"regexp"
	"slices"

	"github.com/stagedoor/stagedoor/adapter/migrate/written"
)

// The aliases that the plugin fills in: the user who asks, and in a list the user's claims.
const (
	CurrentUser = "$currentUser"
	OwnerRefs   = "$ownerRefs"
)

var aliasLike = regexp.MustCompile(`^\$[A-Za-z]`)

// Understood reports whether every rule of the condition is about the policy's type of
// resource, and has no alias that is not filled in. The condition gives nothing otherwise.
func (p Policy) Understood() bool {
	return !slices.ContainsFunc(p.Condition.Rules(), func(c Condition) bool {
		return c.ResourceType != p.ResourceType || len(c.UnknownAliases()) > 0
	})
}

// UnknownAliases are the texts in a rule's params that look like an alias, and stand
// where no such alias is filled in.
func (c Condition) UnknownAliases() []written.Value {
	var unknown []written.Value
	var visit func(v written.Value, depth int, inList bool)
	visit = func(v written.Value, depth int, inList bool) {
		switch of := v.Of.(type) {
		case written.List:
			for _, one := range of {
				visit(one, depth+1, depth == 1)
			}
		case *written.Object:
			for _, name := range of.Names {
				visit(of.Members[name], depth+1, false)
			}
		case string:
			filled := of == CurrentUser && (depth == 1 || inList && depth == 2) || of == OwnerRefs && inList && depth == 2
			if aliasLike.MatchString(of) && !filled {
				unknown = append(unknown, v)
			}
		}
	}
	visit(c.Params, 0, false)
	return unknown
}
