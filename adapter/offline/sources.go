package offline

import (
	"context"
	"io/fs"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Sources are the files of a policy, whether it may serve or not.
type Sources struct {
	// Modules and Tests are the modules that can be parsed, as of [Policy.Modules]
	// and [Policy.Tests].
	Modules, Tests map[string]*ast.Module
	// Errors say why the rest cannot be.
	Errors ast.Errors

	source *source
}

// ReadSources reads the policy at a PATH, as [Open] takes it, without vetting it.
// Close must be called in the end. The error is that of reading.
func ReadSources(ctx context.Context, at string) (*Sources, error) {
	source, err := read(ctx, at)
	if err != nil {
		return nil, err
	}
	s := &Sources{source: source}
	s.Modules, s.Tests, err = source.parse()
	if problems, ok := err.(ast.Errors); ok { //nolint:errorlint // it is what parse returns
		s.Errors, err = problems, nil
	}
	if err != nil {
		_ = source.close()
		return nil, err
	}
	return s, nil
}

// Path is what [ReadSources] was given.
func (s *Sources) Path() string { return s.source.given }

// Files are all files of the bundle, tests and tables among them.
func (s *Sources) Files() fs.FS { return s.source.files }

// Name is the name of one of the Files as the PATH was given.
func (s *Sources) Name(file string) string { return s.source.name(file) }

// Roots are those that the manifest declares; nil without a manifest that can be read.
func (s *Sources) Roots() []string {
	roots, err := s.source.roots()
	if err != nil {
		return nil // serving refuses it, and says what to write
	}
	return roots
}

// Close removes what reading had to write.
func (s *Sources) Close() error { return s.source.close() }
