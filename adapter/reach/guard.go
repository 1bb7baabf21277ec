package reach

import (
	"fmt"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// maxCertificates is how large a file of certificates or keys may be that http.send
// reads.
const maxCertificates = 1 << 20

// Guard lets the builtins that reach others refuse what the capabilities of their
// compiler do not allow, and everything where those say nothing. OPA's registry of
// builtins is global to the process, and so is this; it is done once.
func Guard() { guard() }

var guard = sync.OnceFunc(func() {
	guarded(ast.HTTPSend.Name, func(operands []*ast.Term, allowed []string) error {
		request, ok := operands[0].Value.(ast.Object)
		if !ok {
			return nil // the builtin refuses it
		}
		return checkRequest(request, allowed)
	})
	guarded(ast.NetLookupIPAddr.Name, func(operands []*ast.Term, allowed []string) error {
		name, ok := operands[0].Value.(ast.String)
		if !ok {
			return nil // likewise
		}
		return checkHost(ast.NetLookupIPAddr.Name, string(name), allowed)
	})
	closes(ast.JSONSchemaVerify.Name, 0)
	closes(ast.JSONMatchSchema.Name, 1)
})

// guarded puts a check before a builtin, with the hosts that may be reached. OPA's own
// check of every redirect follows it.
func guarded(name string, check func(operands []*ast.Term, allowed []string) error) {
	f := topdown.GetBuiltin(name)
	topdown.RegisterBuiltinFunc(name, func(
		bctx topdown.BuiltinContext, operands []*ast.Term, iter func(*ast.Term) error,
	) error {
		bctx.Capabilities = &ast.Capabilities{AllowNet: allowedBy(bctx)}
		if err := check(operands, bctx.Capabilities.AllowNet); err != nil {
			return err
		}
		return told(f(bctx, operands, iter))
	})
}

// closes has a builtin take a schema that refers to nothing elsewhere, and ask nobody.
func closes(name string, operand int) {
	f := topdown.GetBuiltin(name)
	topdown.RegisterBuiltinFunc(name, func(
		bctx topdown.BuiltinContext, operands []*ast.Term, iter func(*ast.Term) error,
	) error {
		schema, err := closed(bctx, operands[operand].Value, allowedBy(bctx))
		if err != nil {
			return err
		}
		operands = slices.Clone(operands)
		operands[operand] = ast.NewTerm(schema)
		bctx.Capabilities = &ast.Capabilities{AllowNet: []string{}}
		return f(bctx, operands, iter)
	})
}

// allowedBy are the hosts that the capabilities of a compiler allow. No list is no host.
func allowedBy(bctx topdown.BuiltinContext) []string {
	if bctx.Capabilities == nil || bctx.Capabilities.AllowNet == nil {
		return []string{}
	}
	return bctx.Capabilities.AllowNet
}

// told says what to add where OPA refuses a host itself, which it does for redirects. Of
// such a refusal there is nothing but the text.
func told(err error) error {
	if err == nil || !strings.Contains(err.Error(), "disallowed host: ") {
		return err
	}
	return fmt.Errorf("%w; where it should be reached, add it to %s", err, netKey)
}

// checkRequest refuses a request to another host than those allowed, or with a file that
// is none or without end.
func checkRequest(request ast.Object, allowed []string) error {
	return request.Iter(func(key, value *ast.Term) error {
		name, _ := key.Value.(ast.String)
		text, ok := value.Value.(ast.String)
		switch {
		case !ok:
			return nil // the builtin refuses it
		case name == "url":
			return checkURL(string(text), allowed)
		case strings.HasPrefix(string(name), "tls_") && strings.HasSuffix(string(name), "_file"):
			info, err := os.Stat(string(text))
			if err == nil && (!info.Mode().IsRegular() || info.Size() > maxCertificates) {
				return fmt.Errorf("http.send: %s is no file of at most %d bytes", string(name), maxCertificates)
			}
		}
		return nil
	})
}

// checkReferences refuses a schema in METADATA with a reference to elsewhere. The compiler
// follows it when a policy is loaded, and what comes of an allowed host to files too.
func checkReferences(schema any, allowed []string) error {
	switch schema := schema.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(schema)) {
			value := schema[key]
			if text, ok := value.(string); ok {
				if err := checkReference(key, text, allowed); err != nil {
					return err
				}
			} else if err := checkReferences(value, allowed); err != nil {
				return err
			}
		}
	case []any:
		for _, element := range schema {
			if err := checkReferences(element, allowed); err != nil {
				return err
			}
		}
	}
	return nil
}

// metaSchemas is where the drafts of JSON Schema are, which OPA has built in.
const metaSchemas = "json-schema.org"

func checkReference(key, text string, allowed []string) error {
	if err := checkFile(key, text); err != nil {
		return err
	}
	u, err := url.Parse(text)
	if err != nil {
		return nil //nolint:nilerr // OPA refuses it
	}
	elsewhere := false
	switch key {
	case "$ref":
		elsewhere = u.Hostname() != metaSchemas && !strings.HasPrefix(text, "#")
	case "$id", "id": // to which others are relative
		elsewhere = slices.Contains(allowed, u.Hostname())
	}
	if elsewhere {
		return fmt.Errorf("a JSON Schema in METADATA may refer to nothing elsewhere, as %s does by %q; "+
			"write what it refers to under definitions", key, text)
	}
	return nil
}

// checkFile refuses what OPA's reader of schemas may take for the address of a file.
func checkFile(key, text string) error {
	switch key {
	case "$ref", "$schema", "$id", "id":
	default:
		return nil
	}
	if u, err := url.Parse(text); err == nil && u.Scheme == "file" {
		return fmt.Errorf("a JSON Schema may not refer to files, as %s does by %q; write what it refers to under definitions",
			key, text)
	}
	return nil
}
