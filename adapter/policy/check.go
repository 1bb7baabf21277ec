package policy

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Check vets the bundle at o.Path as serving would, and type-checks it against the
// JSON Schemas by name, such as input, that its METADATA may refer to as
// schema.input. It returns the state that would serve.
//
// The error is all that the bundle's author must mend, with file and line where
// there is one.
func Check(ctx context.Context, o Options, schemas map[string]string) (*State, error) {
	e, err := New(ctx, o)
	if err != nil {
		return nil, err
	}
	defer e.Close(ctx)
	if err := e.typeCheck(schemas); err != nil {
		return nil, err
	}
	return e.State(), nil
}

// Vet checks everything about o that can be checked without being seen from
// outside: OPA's configuration, and the policy where that is a local one. What
// bundles of OPA's will bring is not known.
func Vet(ctx context.Context, o Options) error {
	if err := o.Validate(); err != nil {
		return err
	}
	document, err := o.opaDocument()
	if err != nil {
		return err
	}
	source, err := o.localSource(document)
	if err != nil || source == nil {
		return err
	}
	o.OPA, o.AuditRequired = nil, false // nothing is fetched, sent or recorded
	e, err := New(ctx, o)
	if err != nil {
		return err
	}
	e.Close(ctx)
	return nil
}

// typeCheck compiles the local bundle once more, strictly and with the schemas.
func (e *Engine) typeCheck(schemas map[string]string) error {
	b, err := e.local.read()
	if err != nil {
		return err
	}
	set := ast.NewSchemaSet()
	for name, text := range schemas {
		var schema any
		if err := json.Unmarshal([]byte(text), &schema); err != nil {
			return fmt.Errorf("schema %s: %w", name, err)
		}
		set.Put(ast.SchemaRootRef.Append(ast.StringTerm(name)), schema)
	}
	modules := make(map[string]*ast.Module, len(e.vetter.library)+len(b.Modules))
	for name, module := range e.vetter.library {
		modules[name] = module.Copy()
	}
	for _, file := range b.Modules {
		modules[file.Path] = file.Parsed
	}
	compiler := ast.NewCompiler().WithSchemas(set).WithUseTypeCheckAnnotations(true).WithStrict(true)
	if compiler.Compile(modules); compiler.Failed() {
		return compiler.Errors
	}
	return nil
}
