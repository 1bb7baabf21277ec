package main

import (
	"fmt"
	"strings"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"github.com/stagedoor/stagedoor/adapter/supply"
	"github.com/stagedoor/stagedoor/adapter/vetted"
	"github.com/stagedoor/stagedoor/rego"
)

func newCheck() *cobra.Command {
	var entrypoint string
	cmd := &cobra.Command{
		Use:   "check PATH...",
		Short: "Vet policies as serve would, each a bundle directory or bundle.tar.gz",
		Long: "Check vets policies as serve would before one of them serves: roots, compilation, entrypoint,\n" +
			"and every use of the resource. It also compiles strictly and type-checks against the schemas that\n" +
			"METADATA names (schema.input, schema.entity, schema.decision).",
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, paths []string) error {
			vetter, err := vetted.New(vettedBy(entrypoint))
			if err != nil {
				return err
			}
			log := newLog(logrus.ErrorLevel)
			failed := 0
			for _, path := range paths {
				state, err := supply.New(supply.Options{Path: path}, vetter, log).Check(cmd.Context(), rego.Schemas())
				if err != nil {
					failed++
					cmd.PrintErrf("%s: %v\n", path, err)
					continue
				}
				if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: ok, %s\n", path, describe(state)); err != nil {
					return err
				}
			}
			if failed > 0 {
				return fmt.Errorf("%d of %d policies must not serve", failed, len(paths))
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&entrypoint, "entrypoint", "", "the `path` of the rule that decides, where none is annotated")
	return cmd
}

// describe says what of a policy an author would want confirmed.
func describe(s *vetted.State) string {
	style := "decision style"
	if s.AboutResource() {
		style = "about the resource"
	}
	parts := []string{"entrypoint " + s.Entrypoint, style}
	for _, source := range s.Nondeterministic {
		parts = append(parts, fmt.Sprintf("never remembered because of %s at %s", source.Builtin, source.Location))
	}
	return strings.Join(parts, ", ")
}
