package vetted

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// findEntrypoint returns the path of the rule that decides, such as
// backstage/authz/allow: the configured one, or the one rule annotated.
func (v *Vetter) findEntrypoint(c *ast.Compiler) (string, error) {
	if v.entrypoint != "" {
		return v.entrypoint, checkEntrypoint(c, v.entrypoint, " (stagedoor.policy.entrypoint)")
	}
	found := map[string]string{}
	for _, a := range c.GetAnnotationSet().Flatten() {
		if a.Annotations.Entrypoint {
			found[trimData(pathOf(a.Path))] = location(a.Location)
		}
	}
	switch len(found) {
	case 1:
		for entrypoint, at := range found {
			return entrypoint, checkEntrypoint(c, entrypoint, ", annotated at "+at+",")
		}
	case 0:
		return "", fmt.Errorf("no rule decides: annotate the rule that decides with `# METADATA` and "+
			"`# entrypoint: true`, or name it in stagedoor.policy.entrypoint%s",
			nearestRules(c))
	}
	var places []string
	for _, entrypoint := range slices.Sorted(maps.Keys(found)) {
		places = append(places, fmt.Sprintf("%s (%s)", entrypoint, found[entrypoint]))
	}
	return "", fmt.Errorf("several rules are annotated as entrypoint: %s; "+
		"name the one that decides in stagedoor.policy.entrypoint",
		strings.Join(places, ", "))
}

// checkEntrypoint reports why a path cannot be the entrypoint; from says who named it.
// Rules at the path decide, or rules below it that make a document together.
func checkEntrypoint(c *ast.Compiler, entrypoint, from string) error {
	ref := entrypointRef(entrypoint)
	rules := c.GetRulesExact(ref)
	switch {
	case len(rules) == 0 && !slices.ContainsFunc(c.GetRulesWithPrefix(ref), isValue):
		return fmt.Errorf("no rule decides: the entrypoint %s%s is no rule of the policy%s",
			entrypoint, from, nearestRules(c))
	case len(rules) > 0 && len(rules[0].Head.Args) > 0:
		return fmt.Errorf("no rule decides: the entrypoint %s%s is a function%s", entrypoint, from, nearestRules(c))
	}
	return nil
}

// isValue reports whether a rule is no function.
func isValue(r *ast.Rule) bool { return len(r.Head.Args) == 0 }

// nearestRules lists rules that could have been meant.
func nearestRules(c *ast.Compiler) string {
	const most = 5
	rules := map[string]bool{}
	for name, module := range c.Modules {
		if strings.HasPrefix(name, libraryPrefix) {
			continue
		}
		for _, rule := range module.Rules {
			if len(rule.Head.Args) == 0 {
				rules[trimData(pathOf(rule.Ref().GroundPrefix()))] = true
			}
		}
	}
	if len(rules) == 0 {
		return "; it has no rules"
	}
	names := slices.Sorted(maps.Keys(rules))
	if len(names) > most {
		names = append(names[:most], "…")
	}
	return "; its rules are " + strings.Join(names, ", ")
}

// entrypointRef is the reference of an entrypoint's path.
func entrypointRef(entrypoint string) ast.Ref {
	ref := ast.Ref{ast.DefaultRootDocument}
	for step := range strings.SplitSeq(strings.Trim(entrypoint, "/"), "/") {
		ref = append(ref, ast.StringTerm(step))
	}
	return ref
}

// pathOf is the path of a ground reference, data included.
func pathOf(ref ast.Ref) string {
	p, err := ref.Ptr()
	if err != nil {
		return ref.String()
	}
	return p
}

func trimData(s string) string {
	return strings.TrimPrefix(strings.TrimPrefix(s, "data/"), "data.")
}
