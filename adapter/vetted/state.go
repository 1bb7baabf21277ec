package vetted

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage"

	"github.com/stagedoor/stagedoor/adapter/alike"
	"github.com/stagedoor/stagedoor/adapter/alike/flow"
	"github.com/stagedoor/stagedoor/adapter/criteria"
	"github.com/stagedoor/stagedoor/adapter/document"
	"github.com/stagedoor/stagedoor/adapter/document/touch"
	"github.com/stagedoor/stagedoor/adapter/explore"
	"github.com/stagedoor/stagedoor/adapter/reach"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// State is one policy that was vetted and may serve. It is immutable once
// completed, holds its data itself, and is exchanged whole.
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
	// LeftOut says where rules stand that can hold, but that OPA's index leaves out, so
	// that they never count.
	LeftOut []string
	// Reach is what it may reach beyond its input and data.
	Reach reach.Options
	// Number tells it from every other state of its store, and Policy is the number of
	// the first that has the same policy: from there on only data has changed.
	Number, Policy uint64

	reads    Parts
	policy   *alike.Policy
	alike    *alike.Callers
	data     *snapshot
	rules    map[ruleKey]*explore.PermissionRule
	compiler *ast.Compiler
	changes  touch.Changes // since the state of number Policy
	// samePolicy is whether it differs in data only from the state that the store had
	// before, and written names what was written to that from outside, of so many bytes.
	samePolicy   bool
	written      string
	writtenBytes int64

	modules map[string]*ast.Module

	// One of the two decides, as the entrypoint is: a policy about the resource
	// is explored, any other is evaluated.
	explorer *explore.Policy
	query    rego.PreparedEvalQuery
}

// ChangesSince are the changes of data after the state of the number. It is false where
// they are not known, or that state had another policy.
func (s *State) ChangesSince(number uint64) (touch.Changes, bool) {
	if number < s.Policy || number > s.Number {
		return nil, false
	}
	return s.changes.Last(s.Number - number)
}

// Commit is what was committed of the data of a state.
type Commit struct {
	Data *document.Document
	// Written are the paths of all that was written.
	Written []storage.Path
	// Since is when.
	Since time.Time
}

// Complete gives the state, which nobody else has yet, its data and its place after
// previous, the state that served before; nil for the first. Follows is whether nothing
// was written between the two but what the commit says.
func (s *State) Complete(c Commit, previous *State, follows bool) {
	s.Number, s.Since = 1, c.Since
	if previous != nil {
		s.Number = previous.Number + 1
		if s.written == "" {
			s.written, s.writtenBytes = previous.written, previous.writtenBytes // which no bundle takes out
			s.Revision = RevisionOf(s.Revisions, s.written)
		}
	}
	var changed []storage.Path
	if follows {
		changed, follows = document.Differences(previous.data.data, c.Data, c.Written, touch.MostPaths)
	}
	s.data = &snapshot{data: c.Data}
	if s.samePolicy && follows {
		s.changes = previous.changes.And(changed)
		s.alike = previous.alike.With(c.Data, changed)
		return
	}
	s.Policy, s.changes = s.Number, nil
	if !follows {
		previous = nil
	}
	s.alike = s.callers(previous, changed)
}

// setBundles names what it is made of.
func (s *State) setBundles(bundles map[string]Bundle) {
	s.Revisions = make(map[string]string, len(bundles))
	for name, b := range bundles {
		s.Revisions[name] = b.Revision
	}
	s.Revision = RevisionOf(s.Revisions, s.written)
}

// callers are those whose decisions are shared by who is alike; nil where none are. Where
// data differs from that of previous at the changed paths only, no other is read.
func (s *State) callers(previous *State, changed []storage.Path) *alike.Callers {
	if !s.Deterministic() {
		return nil
	}
	known := (*alike.Callers)(nil)
	if previous != nil {
		known = previous.alike
	}
	lists := func(pluginID string, leaf criteria.Rule) string {
		if rule := s.rules[ruleKey{pluginID, leaf.Name}]; rule != nil && rule.ResourceType == leaf.ResourceType {
			return rule.AnyOf
		}
		return ""
	}
	if !s.AboutResource() {
		lists = nil
	}
	reads := alike.Reads{User: s.Reads(PartUser), Claims: s.Reads(PartClaims), Actor: s.Reads(PartActor)}
	return s.policy.Callers(s.data.data, known, changed, reads, lists)
}

// Alike are the callers whose decisions are shared by who is alike; nil where every
// caller is decided for.
func (s *State) Alike() *alike.Callers { return s.alike }

// Apart is why every caller is decided for, where that is because of how the policy is
// written. Nothing is remembered of a policy that is not deterministic.
func (s *State) Apart() []flow.Reason { return s.policy.Apart }

// AboutResource reports whether the entrypoint is a rule about the resource,
// which is answered by exploration.
func (s *State) AboutResource() bool { return s.explorer != nil }

// Deterministic reports whether its decisions may be remembered.
func (s *State) Deterministic() bool { return len(s.Nondeterministic) == 0 }

// Reads reports whether a decision depends on any of the parts of the input.
func (s *State) Reads(p Parts) bool { return s.reads&p != 0 }

// Explorer answers a policy about the resource; it is nil for any other, which is
// asked by Query.
func (s *State) Explorer() *explore.Policy { return s.explorer }

// Query evaluates the entrypoint of a policy that is not about the resource.
func (s *State) Query() rego.PreparedEvalQuery { return s.query }

// Data is a store with its data and a view of it for one decision.
func (s *State) Data() (storage.Store, *View) { return s.data, &View{data: s.data.data} }

// Compiler is what OPA compiled of its bundles. Who writes to the store is alone with it.
func (s *State) Compiler() *ast.Compiler { return s.compiler }

// Modules are the parsed modules that it was made of, stagedoor's own among them, by
// file. They must not be changed.
func (s *State) Modules() map[string]*ast.Module { return s.modules }

// ruleKey finds a permission rule by what a condition says of it.
type ruleKey struct{ pluginID, name string }

// CheckConditions holds a conditional decision against the rules that the policy's
// modules declare. A rule that they do not declare may still exist in the plugin.
func (s *State) CheckConditions(d wire.Decision) error {
	for leaf := range d.Conditions.Rules() {
		rule, known := s.rules[ruleKey{d.PluginID, leaf.Name}]
		if !known {
			continue
		}
		if err := checkParams(rule, leaf.Params); err != nil {
			return fmt.Errorf("rule %s of %s: %w", leaf.Name, d.PluginID, err)
		}
	}
	return nil
}

func checkParams(rule *explore.PermissionRule, text string) error {
	var params map[string]any
	if text != "" {
		decoder := json.NewDecoder(strings.NewReader(text))
		decoder.UseNumber()
		if err := decoder.Decode(&params); err != nil {
			return err
		}
	}
	return rule.CheckParams(params)
}
