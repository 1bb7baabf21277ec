package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/stagedoor/stagedoor/adapter/offline"
	"github.com/stagedoor/stagedoor/adapter/tables"
	"github.com/stagedoor/stagedoor/adapter/tests"
)

// testFormats are how test can report.
var testFormats = map[string]func(testRun) ([]byte, error){
	"text": testRun.pretty, "json": testRun.json, "junit": testRun.junit, "github": testRun.github,
}

func newTest() *cobra.Command {
	var o tests.Options
	var opening offline.Options
	var format, known string
	var verbose bool
	var threshold float64
	cmd := &cobra.Command{
		Use:   "test PATH...",
		Short: "Run the tests of policies, each as Rego and as production decides",
		Long: "Test runs the tests that opa test runs, with the rule library loaded. Each evaluation of the entrypoint is\n" +
			"decided once more as production does, without the resource, and the conditions are applied to it: both must\n" +
			"agree. Inputs that no Backstage sends fail a test. Decision tables (*.decisions.yaml) run too.",
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, paths []string) error {
			write, ok := testFormats[format]
			if !ok {
				return fmt.Errorf("--format is text, json, junit or github, not %s", format)
			}
			inventory, err := loadInventory(known)
			if err != nil {
				return err
			}
			o.Inventory = inventory
			o.Coverage = o.Coverage || threshold > 0
			run := testRun{Inventory: inventory.Source, verbose: verbose, threshold: threshold}
			for _, path := range paths {
				tested, err := testPolicy(cmd.Context(), path, opening, o)
				if err != nil {
					return err
				}
				run.Policies = append(run.Policies, tested)
			}
			text, err := write(run)
			if err != nil {
				return err
			}
			if _, err := cmd.OutOrStdout().Write(text); err != nil {
				return err
			}
			if !run.passed() {
				return errFindings
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVarP(&o.Run, "run", "r", "", "run only tests whose full name the regular `expression` matches")
	f.BoolVarP(&verbose, "verbose", "v", false, "list every test, with what it printed")
	f.BoolVarP(&o.Coverage, "coverage", "c", false, "say how much of the author's files the tests evaluate")
	f.Float64Var(&threshold, "threshold", 0, "fail below this coverage, in `percent`")
	f.DurationVar(&o.Timeout, "timeout", 0, "how long one test may take (5s)")
	openingFlags(cmd, &opening)
	f.StringVar(&known, "inventory", "",
		"the `directory` that says which permissions there are; the stock ones where this is not given")
	f.StringVar(&format, "format", "text", "text, json, junit or github")
	return cmd
}

// testPolicy runs the tests of one policy. One that does not load has failed.
func testPolicy(ctx context.Context, path string, opening offline.Options, o tests.Options) (tested testedPolicy,
	err error) {
	tested.Path = path
	p, err := offline.Open(ctx, path, opening)
	if refused, ok := errors.AsType[*offline.RefusedError](err); ok {
		tested.Refused = refused.Cause.Error()
		return tested, nil
	}
	if err != nil {
		return tested, err
	}
	defer func() { err = errors.Join(err, p.Close(ctx)) }()
	tested.Revision, tested.Entrypoint = p.Revision(), p.Entrypoint()
	report, err := tests.Run(ctx, p, o)
	if refused, ok := errors.AsType[*offline.RefusedError](err); ok {
		tested.Refused = refused.Cause.Error()
		return tested, nil
	}
	if err != nil {
		return tested, err
	}
	rows, err := tables.Run(ctx, p, o)
	if err != nil {
		return tested, err
	}
	report.Tests = append(report.Tests, rows...)
	tested.Report = *report
	return tested, nil
}
