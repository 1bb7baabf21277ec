// Package counterfactual finds the smallest change that turns the answer of a policy.
//
// An explanation by what would have been otherwise is what the literature calls a
// counterfactual. [Smallest] tries three kinds of it. One is an edit of the resource, for the
// rules of Backstage's own plugins: a label more, another owner. One is another caller: with a
// group more or less, another user, one who is signed in. The third is both at once. Each
// edit and each other caller costs one, and the cheapest change wins.
//
// A change is found by trying. The engine that serves decides for each other caller, and the
// rules themselves are asked about each edited resource, before the change is told. The
// search is bounded: mostCandidates callers, and mostEdits edits among mostLeaves rules.
package counterfactual

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"

	"github.com/stagedoor/stagedoor/adapter/criteria"
	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/inventory"
	"github.com/stagedoor/stagedoor/adapter/offline"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// A Change is one that turns the answer. It was decided with it.
type Change struct {
	// Text says it: "the same entity without spec.lifecycle=production", "a caller in
	// group:default/platform".
	Text string `json:"text"`
	// Result is the answer then.
	Result string `json:"result"`
	// InWords is the condition of the answer then, where it has one.
	InWords string `json:"inWords,omitempty"`
	// Claim is what the caller has more, User who the caller is; empty for neither.
	Claim string `json:"claim,omitempty"`
	User  string `json:"user,omitempty"`
	// Resource is the resource with the change; nil where it is the same or not known.
	Resource any `json:"resource,omitempty"`
}

// candidate is another caller.
type candidate struct {
	caller      decision.Caller
	text        string
	claim, user string
	cost        int
}

// Smallest finds the smallest change that turns the answer: of the resource, of the
// caller, or of both. It returns nil where it finds none.
func Smallest(
	ctx context.Context, p *offline.Policy, q offline.Question, allowed bool, known *inventory.Inventory,
) (*Change, error) {
	var best *Change
	least := mostEdits + 2
	turned := wire.Allow
	if allowed {
		turned = wire.Deny
	}
	var answer string // to the question as it is, which is the first
	for _, c := range candidates(ctx, p, q, known, allowed) {
		if c.cost >= least {
			continue
		}
		outcome, err := p.Decide(ctx, c.caller, q.Permission)
		if err != nil {
			return nil, err
		}
		if outcome.Err != nil {
			continue
		}
		d := outcome.Decision
		if c.cost == 0 {
			answer = d.Text()
		} else if q.Resource == nil && d.Text() == answer {
			continue
		}
		if q.Resource == nil || d.Result != wire.Conditional {
			if change := unconditional(p, q, c, d, allowed); change != nil && change.cost < least {
				best, least = &change.Change, change.cost
			}
			continue
		}
		edited, texts, err := edit(ctx, p, d.Conditions, q.Resource, !allowed, least-c.cost-1)
		if err != nil {
			return nil, err
		}
		if cost := c.cost + len(texts); edited != nil && cost > 0 && cost < least {
			change := Change{Claim: c.claim, User: c.user, Result: turned.String(), Text: c.text}
			if len(texts) > 0 {
				change.Resource = edited
				change.Text = "the same " + noun(q) + " " + strings.Join(texts, " and ")
				if c.text != "" {
					change.Text = c.text + ", with " + change.Text
				}
			}
			best, least = &change, cost
		}
	}
	return best, nil
}

type costed struct {
	Change
	cost int
}

// unconditional is a change of the caller alone.
func unconditional(p *offline.Policy, q offline.Question, c candidate, d wire.Decision, allowed bool) *costed {
	now := d.Result == wire.Allow
	if c.cost == 0 || q.Resource != nil && now == allowed ||
		q.Resource == nil && (now == allowed && d.Result != wire.Conditional) {
		return nil
	}
	change := costed{Change{Text: c.text, Claim: c.claim, User: c.user, Result: d.Result.String()}, c.cost}
	if d.Result == wire.Conditional {
		change.InWords = p.Vocabulary().Condition(d.Conditions, offline.Question{Caller: c.caller}.Words())
		change.Text += " where it is " + change.InWords
		change.cost++ // a caller who may without a condition is told first
	}
	return &change
}

func noun(q offline.Question) string {
	if q.Permission.ResourceType == "catalog-entity" {
		return "entity"
	}
	return "resource"
}

// reference is a reference of a user or a group.
var reference = regexp.MustCompile(`^(?i)(user|group):[^/\s]+/[^/\s]+$`)

// mostCandidates bounds the callers that are tried.
const mostCandidates = 400

// candidates are the caller of the question, and callers who differ from it in one
// thing: a claim more or less, another user, signed in or out. Where less is likelier to
// turn the answer it comes first: of equal changes the first is told.
func candidates(
	ctx context.Context, p *offline.Policy, q offline.Question, known *inventory.Inventory, allowed bool,
) []candidate {
	less, more := withLess(q), withMore(ctx, p, q, known)
	list := []candidate{{caller: q.Caller}}
	if allowed {
		list = slices.Concat(list, less, more)
	} else {
		list = slices.Concat(list, more[:min(len(more), max(0, mostCandidates-1-len(less)))], less)
	}
	return list[:min(len(list), mostCandidates)]
}

// withLess are the callers with a claim less, and the one who is signed out.
func withLess(q offline.Question) (list []candidate) {
	if q.Caller.Anonymous {
		return nil
	}
	for i, claim := range q.Caller.Claims {
		c := q.Caller
		c.Claims = slices.Delete(slices.Clone(c.Claims), i, i+1)
		if claim != c.User {
			list = append(list, candidate{caller: c, text: "the same caller outside of " + claim, cost: 1})
		}
	}
	return append(list, candidate{caller: decision.Caller{Anonymous: true}, text: "a caller who is signed out", cost: 1})
}

// withMore are the callers with a claim more, other users, and one who is signed in.
func withMore(
	ctx context.Context, p *offline.Policy, q offline.Question, known *inventory.Inventory,
) (list []candidate) {
	if q.Caller.Anonymous {
		c := decision.Caller{User: "user:default/somebody", Claims: []string{"user:default/somebody"}}
		list = append(list, candidate{caller: c, text: "a caller who is signed in", user: c.User, cost: 1})
	}
	for _, ref := range references(ctx, p, known) {
		lower := strings.ToLower(ref)
		if slices.ContainsFunc(q.Caller.Claims, func(c string) bool { return strings.EqualFold(c, ref) }) {
			continue
		}
		c := q.Caller
		if c.Anonymous {
			c = decision.Caller{User: "user:default/somebody", Claims: []string{"user:default/somebody"}}
		}
		if strings.HasPrefix(lower, "user:") {
			c.User, c.Claims = lower, []string{lower}
			list = append(list, candidate{caller: c, text: "the caller " + lower, user: lower, cost: 1})
			continue
		}
		c.Claims = append(slices.Clone(c.Claims), lower)
		list = append(list, candidate{caller: c, text: "a caller in " + lower, claim: lower, cost: 1})
	}
	return list
}

// references are those of groups and users in the policy's source and data, groups
// first, and the groups of the inventory.
func references(ctx context.Context, p *offline.Policy, known *inventory.Inventory) []string {
	found := map[string]bool{}
	note := func(x any) bool {
		if text, ok := x.(ast.String); ok && reference.MatchString(string(text)) {
			found[string(text)] = true
		}
		return false
	}
	for _, module := range p.Modules() {
		ast.NewGenericVisitor(note).Walk(module)
	}
	if data, err := storage.ReadOne(ctx, p.Data(), storage.RootPath); err == nil {
		if value, ok := data.(ast.Value); ok {
			ast.NewGenericVisitor(note).Walk(value)
		}
	}
	if known != nil {
		for ref := range known.Groups {
			found[ref] = true
		}
	}
	refs := slices.Collect(maps.Keys(found))
	slices.SortFunc(refs, func(a, b string) int {
		return cmp.Or(cmp.Compare(strings.ToLower(a)[:1], strings.ToLower(b)[:1]), cmp.Compare(a, b))
	})
	return refs
}

// The bounds of a search for edits of a resource.
const (
	mostEdits  = 4
	mostLeaves = 14
)

// edit finds the fewest edits of a resource after which a condition holds, or does
// not, and says them. Each edit turns the answer of one rule.
func edit(
	ctx context.Context, p *offline.Policy, c criteria.Criteria, resource any, wanted bool, most int,
) (edited any, texts []string, err error) {
	holds, err := p.Holds(ctx, c, resource)
	if err != nil {
		return nil, nil, err
	}
	if holds == wanted {
		return resource, nil, nil
	}
	rules := leaves(c)
	rules = rules[:min(len(rules), mostLeaves)]
	for size := 1; size <= min(most, mostEdits, len(rules)); size++ {
		var found any
		var said []string
		combinations(len(rules), size, func(chosen []int) bool {
			changed := clone(resource)
			var all []string
			for _, i := range chosen {
				was, failed := p.RuleHolds(ctx, rules[i], changed)
				if failed != nil || !turn(changed, rules[i], !was) {
					return false
				}
				all = append(all, worded(p.Vocabulary().Leaf(rules[i], !was, offline.Question{}.Words())))
			}
			if now, failed := p.Holds(ctx, c, changed); failed == nil && now == wanted {
				found, said = changed, all
				return true
			}
			return false
		})
		if found != nil {
			return found, said, nil
		}
	}
	return nil, nil, nil
}

// worded is what follows "the same entity".
func worded(text string) string {
	if strings.HasPrefix(text, "with") {
		return text
	}
	return "that is " + text
}

// combinations calls try with each choice of size out of n, until it returns true.
func combinations(n, size int, try func([]int) bool) {
	chosen := make([]int, 0, size)
	var next func(from int) bool
	next = func(from int) bool {
		if len(chosen) == size {
			return try(chosen)
		}
		for i := from; i < n; i++ {
			chosen = append(chosen, i)
			if next(i + 1) {
				return true
			}
			chosen = chosen[:len(chosen)-1]
		}
		return false
	}
	next(0)
}

func clone(v any) any {
	text, err := json.Marshal(v)
	if err != nil {
		return v
	}
	var copied any
	if json.Unmarshal(text, &copied) != nil {
		return v
	}
	return copied
}

// turn edits a resource so that a rule answers otherwise. It returns false for a rule
// of which it does not know how.
func turn(resource any, r criteria.Rule, holds bool) bool {
	object, ok := resource.(map[string]any)
	var params map[string]any
	if !ok || json.Unmarshal([]byte(cmp.Or(r.Params, "{}")), &params) != nil {
		return false
	}
	text := func(name string) string {
		s, _ := params[name].(string)
		return s
	}
	first := func(name string) any {
		list, _ := params[name].([]any)
		if len(list) == 0 {
			return nil
		}
		return list[0]
	}
	switch r.Name {
	case "IS_ENTITY_OWNER":
		return own(object, first("claims"), holds)
	case "IS_ENTITY_KIND":
		return kind(object, params["kinds"], holds)
	case "HAS_LABEL":
		return set(object, []string{"metadata", "labels"}, text("label"), params["value"], holds)
	case "HAS_ANNOTATION":
		return set(object, []string{"metadata", "annotations"}, text("annotation"), params["value"], holds)
	case "HAS_METADATA":
		return set(object, []string{"metadata"}, text("key"), params["value"], holds)
	case "HAS_SPEC":
		return set(object, []string{"spec"}, text("key"), params["value"], holds)
	case "HAS_TAG":
		return tag(object, params["tag"], holds)
	case "HAS_ACTION_ID":
		return member(object, "action", params["actionId"], "another:action", holds)
	case "IS_TASK_OWNER":
		return member(object, "createdBy", first("createdBy"), "user:default/somebody-else", holds)
	case "IS_OWNER":
		return member(object, "owner", first("owners"), "user:default/somebody-else", holds)
	}
	return false
}

func own(object map[string]any, owner any, holds bool) bool {
	relations, _ := object["relations"].([]any)
	if holds {
		if owner == nil {
			return false
		}
		object["relations"] = append(slices.Clone(relations), map[string]any{"type": "ownedBy", "targetRef": owner})
		return true
	}
	object["relations"] = slices.DeleteFunc(slices.Clone(relations), func(r any) bool {
		relation, _ := r.(map[string]any)
		return relation["type"] == "ownedBy"
	})
	return true
}

func kind(object map[string]any, kinds any, holds bool) bool {
	list, _ := kinds.([]any)
	if holds {
		if len(list) == 0 {
			return false
		}
		object["kind"] = list[0]
		return true
	}
	for _, other := range []string{"Component", "API", "Resource", "System", "Template"} {
		if !slices.ContainsFunc(list, func(k any) bool { return strings.EqualFold(fmt.Sprint(k), other) }) {
			object["kind"] = other
			return true
		}
	}
	return false
}

// set sets a key, whose parts are joined by dots, below some members, or takes it out.
func set(object map[string]any, below []string, key string, value any, holds bool) bool {
	if key == "" {
		return false
	}
	at := object
	for _, name := range below {
		next, ok := at[name].(map[string]any)
		if !ok {
			if !holds {
				return true
			}
			next = map[string]any{}
			at[name] = next
		}
		at = next
	}
	// A key with dots is one key, as labels have them, or leads into objects.
	for name := range at {
		if !strings.EqualFold(name, key) {
			if head, rest, nested := strings.Cut(key, "."); nested && strings.EqualFold(name, head) {
				if _, ok := at[name].(map[string]any); ok {
					return set(at, []string{name}, rest, value, holds)
				}
			}
			continue
		}
		delete(at, name)
	}
	if holds {
		if value == nil {
			value = "true"
		}
		at[key] = value
	}
	return true
}

func tag(object map[string]any, tag any, holds bool) bool {
	permissions, ok := object["backstage:permissions"].(map[string]any)
	if !ok {
		permissions = map[string]any{}
		object["backstage:permissions"] = permissions
	}
	tags, _ := permissions["tags"].([]any)
	tags = slices.DeleteFunc(slices.Clone(tags), func(t any) bool { return t == tag })
	if holds {
		tags = append(tags, tag)
	}
	permissions["tags"] = tags
	return true
}

func member(object map[string]any, name string, value any, other string, holds bool) bool {
	if value == nil {
		return false
	}
	object[name] = other
	if holds {
		object[name] = value
	}
	return true
}

// leaves are the different rules of a condition.
func leaves(c criteria.Criteria) []criteria.Rule {
	var rules []criteria.Rule
	for r := range c.Rules() {
		if !slices.Contains(rules, r) {
			rules = append(rules, r)
		}
	}
	return rules
}
