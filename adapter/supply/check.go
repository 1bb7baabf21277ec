package supply

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stagedoor/stagedoor/adapter/vetted"
)

// Check takes in the policy as [Supply.Load] does, and type-checks it strictly
// against the JSON Schemas by name, such as input, that its METADATA may refer to as
// schema.input. It returns the state that would serve. The error is all that the
// policy's author must mend, with file and line where there is one.
func (s *Supply) Check(ctx context.Context, schemas map[string]string) (*vetted.State, error) {
	state, err := s.Load(ctx)
	if err != nil {
		return nil, err
	}
	return state, s.typeCheck(schemas)
}

// typeCheck compiles the local bundle once more, strictly and with the schemas.
func (s *Supply) typeCheck(schemas map[string]string) error {
	b, err := s.local.read()
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
	modules := s.vetter.Library()
	for _, file := range b.Modules {
		modules[file.Path] = file.Parsed
	}
	compiler := ast.NewCompiler().WithSchemas(set).WithUseTypeCheckAnnotations(true).WithStrict(true)
	if compiler.Compile(modules); compiler.Failed() {
		return compiler.Errors
	}
	return nil
}
