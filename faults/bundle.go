//go:build linux

package main

import (
	"bytes"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"
)

// signingKey signs bundles by HS256.
const signingKey = "what the publisher and stagedoor know"

// signedBundle is a bundle.tar.gz with one module.
func signedBundle(revision, module, key string) ([]byte, error) {
	parsed, err := ast.ParseModule("p.rego", module)
	if err != nil {
		return nil, err
	}
	roots := []string{"p"}
	b := bundle.Bundle{
		Manifest: bundle.Manifest{Revision: revision, Roots: &roots},
		Modules:  []bundle.ModuleFile{{URL: "/p.rego", Path: "/p.rego", Raw: []byte(module), Parsed: parsed}},
		Data:     map[string]any{},
	}
	if err := b.GenerateSignature(bundle.NewSigningConfig(key, "HS256", ""), "k", false); err != nil {
		return nil, err
	}
	var buffer bytes.Buffer
	err = bundle.NewWriter(&buffer).DisableFormat(true).Write(b)
	return buffer.Bytes(), err
}
