package policy

import (
	"time"

	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage"

	"github.com/stagedoor/stagedoor/adapter/explore"
)

// State is one policy that was vetted and may serve. It is immutable once
// published, holds its data itself, and is exchanged whole.
type State struct {
	// Revision names the bundles that it is made of: the revision of the one, or
	// name=revision of each, sorted.
	Revision string
	// Revisions is the revision of every bundle by name.
	Revisions map[string]string
	// Since is when it became active.
	Since time.Time
	// Entrypoint is the path of the rule that decides, such as backstage/authz/allow.
	Entrypoint string
	// Nondeterministic says what forbids to remember its decisions; empty where
	// nothing does.
	Nondeterministic []Source

	serial uint64
	read   parts
	roots  []storage.Path
	data   *snapshot
	rules  map[ruleKey]*explore.PermissionRule

	// One of the two decides, as the entrypoint is: a policy about the resource
	// is explored, any other is evaluated.
	explorer *explore.Policy
	query    rego.PreparedEvalQuery
}

// AboutResource reports whether the entrypoint is a rule about the resource,
// which is answered by exploration.
func (s *State) AboutResource() bool { return s.explorer != nil }

// Deterministic reports whether its decisions may be remembered.
func (s *State) Deterministic() bool { return len(s.Nondeterministic) == 0 }

// ruleKey finds a permission rule by what a condition says of it.
type ruleKey struct{ pluginID, name string }
