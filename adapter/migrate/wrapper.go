package migrate

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stagedoor/stagedoor/adapter/explore"
	"github.com/stagedoor/stagedoor/adapter/migrate/installation"
	"github.com/stagedoor/stagedoor/adapter/migrate/written"
	"github.com/stagedoor/stagedoor/adapter/offline"
)

// Wrapper finds in a policy of the OPA wrapper module what says conditions by hand, and
// says for each what says it about the resource: the call of the permission rule, and
// for a CONDITIONAL document the ALLOW that takes its place. The findings are notes,
// but for rules of which the policy and the library have none.
func Wrapper(p *offline.Policy) []installation.Finding {
	var found []installation.Finding
	modules := p.Modules()
	for _, file := range slices.Sorted(maps.Keys(modules)) {
		add := func(at *ast.Location, severity installation.Severity, code, format string, args ...any) {
			found = append(found, installation.Finding{
				Place: written.Place{File: at.File, Line: at.Row}, Severity: severity, Code: code,
				Text: fmt.Sprintf(format, args...),
			})
		}
		ast.WalkTerms(modules[file], func(term *ast.Term) bool {
			object, ok := term.Value.(ast.Object)
			if !ok {
				return false
			}
			if textOf(object, "result") == "CONDITIONAL" {
				add(term.Location, installation.Note, "document",
					`write {"result": "ALLOW"} in its place, and its conditions into the body of the rule`)
			}
			name, resourceType := textOf(object, "rule"), textOf(object, "resourceType")
			if name == "" {
				return false
			}
			if rule := ruleOf(p, name, resourceType); rule != nil {
				add(term.Location, installation.Note, "rule", "%s is %s", name, callOf(rule, object))
			} else {
				add(term.Location, installation.Warning, "unknown-rule",
					"neither the library nor the policy has a rule for %s; write one, annotated, as docs/writing.md says", name)
			}
			return false
		})
	}
	installation.SortFindings(found)
	return found
}

// textOf is the text of a member, empty where it has none.
func textOf(object ast.Object, name string) string {
	member := object.Get(ast.StringTerm(name))
	if member == nil {
		return ""
	}
	text, _ := member.Value.(ast.String)
	return string(text)
}

// ruleOf is the permission rule with a plugin's name for it, of the type of resource
// where that is a text.
func ruleOf(p *offline.Policy, name, resourceType string) *explore.PermissionRule {
	for _, rule := range p.Rules() {
		if rule.Name == name && (resourceType == "" || rule.ResourceType == resourceType) {
			return rule
		}
	}
	return nil
}

// callOf is the call of a rule with the params of a condition, as one writes it after
// importing the rule's package.
func callOf(rule *explore.PermissionRule, object ast.Object) string {
	params := "{}"
	if term := object.Get(ast.StringTerm("params")); term != nil {
		params = term.String()
	}
	steps := strings.Split(strings.TrimPrefix(rule.Function.String(), "data."), ".")
	last := len(steps) - 1
	return fmt.Sprintf("%s(input.resource, %s), with import data.%s",
		strings.Join(steps[last-1:], "."), params, strings.Join(steps[:last], "."))
}
