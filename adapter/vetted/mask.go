package vetted

import (
	"bytes"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"
)

// maskPackage is where OPA's decision log looks for what to mask and to drop.
var maskPackage = ast.MustParseRef("data.system.log")

// masksItself reports whether a module of the bundles, or of those that were
// active before and stay, is in the package of the mask.
func masksItself(opts *bundle.ActivateOpts) (bool, error) {
	for _, b := range opts.Bundles {
		for _, m := range b.Modules {
			if m.Parsed.Package.Path.Equal(maskPackage) {
				return true, nil
			}
		}
	}
	ids, err := opts.Store.ListPolicies(opts.Ctx, opts.Txn)
	if err != nil {
		return false, err
	}
	for _, id := range ids {
		if isReplaced(id, opts.Bundles) {
			continue
		}
		text, err := opts.Store.GetPolicy(opts.Ctx, opts.Txn, id)
		if err != nil {
			return false, err
		}
		if !bytes.Contains(text, []byte("system.log")) {
			continue
		}
		// One of an older Rego does not parse, and does not count: two masks that do
		// not go together do not compile.
		if module, err := ast.ParseModule(id, string(text)); err == nil && module.Package.Path.Equal(maskPackage) {
			return true, nil
		}
	}
	return false, nil
}

// isReplaced reports whether the stored module is of one of the bundles, whose
// modules OPA stores below the bundle's name.
func isReplaced(id string, bundles map[string]*bundle.Bundle) bool {
	for name := range bundles {
		if strings.HasPrefix(strings.TrimPrefix(id, "/"), strings.Trim(name, "/")+"/") {
			return true
		}
	}
	return false
}
