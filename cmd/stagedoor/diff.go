package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stagedoor/stagedoor/adapter/anyone"
	"github.com/stagedoor/stagedoor/adapter/audience"
	"github.com/stagedoor/stagedoor/adapter/census"
	"github.com/stagedoor/stagedoor/adapter/comparison"
	"github.com/stagedoor/stagedoor/adapter/offline"
	"github.com/stagedoor/stagedoor/adapter/provenance"
	"github.com/stagedoor/stagedoor/adapter/report"
	"github.com/stagedoor/stagedoor/adapter/review"
	"github.com/stagedoor/stagedoor/adapter/serving"
	"github.com/stagedoor/stagedoor/adapter/tables"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

func newDiff() *cobra.Command {
	var d diff
	cmd := &cobra.Command{
		Use:   "diff OLD NEW",
		Short: "Who may do what more or less by another policy",
		Long: "Diff decides every permission of the inventory by two policies, for every class of callers, and compares\n" +
			"the conditions as formulas. It prints where the new policy allows more or less, for whom, and when.\n" +
			"OLD and NEW are a bundle directory, a bundle.tar.gz, or git:REV:path. With --against, the policy that\n" +
			"a running stagedoor serves is OLD.",
		Example: "  stagedoor diff git:main:policy policy\n" +
			"  stagedoor diff --against http://127.0.0.1:7009 policy",
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 != (d.against != "") {
				return errors.New("want OLD and NEW, or --against URL and NEW")
			}
			failOn, err := changes(d.failOn)
			if err != nil {
				return err
			}
			if !slices.Contains(diffFormats, d.format) {
				return fmt.Errorf("--format is one of %s, not %s", strings.Join(diffFormats, ", "), d.format)
			}
			report, every, err := d.run(cmd.Context(), args)
			if err != nil {
				return err
			}
			if err := d.print(cmd.OutOrStdout(), report, every, failOn); err != nil {
				return err
			}
			if report.Summary.Has(failOn...) || every != nil && every.Has(failOn...) {
				return errFindings
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&d.against, "against", "", "the `URL` of the admin address of a running stagedoor, whose policy is OLD")
	f.StringVar(&d.inventory, "inventory", "",
		"the `directory` that says which permissions, people and entities there are")
	openingFlags(cmd, &d.opening)
	f.StringVar(&d.format, "format", "text", strings.Join(diffFormats, ", "))
	f.StringVar(&d.failOn, "fail-on", "breaks,wider,other",
		"the `changes` for which the exit code is 1: breaks, wider, narrower, other, or none")
	return cmd
}

var diffFormats = []string{"text", "json", "markdown", "github"}

type diff struct {
	against, inventory, format, failOn string
	opening                            offline.Options
}

// changes reads a list of changes.
func changes(list string) ([]comparison.Change, error) {
	if list == "none" {
		return nil, nil
	}
	known := map[string]comparison.Change{
		"breaks": comparison.Breaks, "wider": comparison.Wider, "narrower": comparison.Narrower, "other": comparison.Other,
	}
	var found []comparison.Change
	for name := range strings.SplitSeq(list, ",") {
		c, ok := known[strings.ToLower(strings.TrimSpace(name))]
		if !ok {
			return nil, fmt.Errorf("--fail-on has %q; it is a list of breaks, wider, narrower and other, or none", name)
		}
		found = append(found, c)
	}
	return found, nil
}

func (d *diff) run(ctx context.Context, args []string) (_ *review.Report, _ *anyone.Changes, err error) {
	inv, err := loadInventory(d.inventory)
	if err != nil {
		return nil, nil, err
	}
	var policies []*offline.Policy
	defer func() {
		for _, p := range policies {
			err = errors.Join(err, p.Close(ctx))
		}
	}()
	for _, path := range args {
		p, err := offline.Open(ctx, path, d.opening)
		if err != nil {
			return nil, nil, err
		}
		policies = append(policies, p)
	}
	after := policies[len(policies)-1]
	var before review.Decider
	var about review.About
	var without []string // data that the policies read and that no file has
	for _, p := range policies {
		absent, err := p.Absent()
		if err != nil {
			return nil, nil, err
		}
		without = append(without, absent...)
		about.Old, about.New = about.New, describePolicy(p, absent)
	}
	if d.against == "" {
		before = policies[0]
	} else {
		running, err := serving.Dial(ctx, d.against)
		if err != nil {
			return nil, nil, err
		}
		before, about.Old = running, running.String()
	}
	known, err := tables.Callers(policies...)
	if err != nil {
		return nil, nil, err
	}
	sources := audience.Sources{Inventory: inv, Known: known}
	if d.against != "" {
		sources.Unread = "the policy that serves is asked and not read"
	}
	who, err := audience.Of(ctx, sources, policies...)
	if err != nil {
		return nil, nil, err
	}
	vocabulary := after.Vocabulary()
	maps.Copy(vocabulary, policies[0].Vocabulary())
	o := review.Options{
		Inventory: inv, Who: who, Vocabulary: vocabulary, Comparer: comparison.NewComparer(policies...),
		Progress: newProgress(os.Stderr, "deciding").tell,
	}
	if o.New, err = provenance.NewTracer(after); err != nil {
		return nil, nil, err
	}
	if d.against == "" {
		if o.Old, err = provenance.NewTracer(policies[0]); err != nil {
			return nil, nil, err
		}
	}
	if len(inv.Entities) > 0 {
		if o.Entities, err = census.New(ctx, inv.Entities, policies...); err != nil {
			return nil, nil, err
		}
	}
	report, err := review.Diff(ctx, before, after, o)
	if err != nil {
		return nil, nil, err
	}
	report.About.Old, report.About.New = about.Old, about.New
	slices.Sort(without)
	report.Summary.Without = slices.Compact(without)
	if d.against != "" {
		return report, nil, nil
	}
	permissions := make([]wire.Permission, len(inv.Permissions))
	for i, p := range inv.Permissions {
		permissions[i] = offline.Permission(p)
	}
	every, err := anyone.Compare(ctx, policies[0], after, permissions, o.Comparer)
	if err == nil && every.Same() && len(without) == 0 {
		report.About.Callers += "; the same is so of every caller there can be"
	}
	if err == nil {
		report.Summary.Unlisted(every.Has)
	}
	return report, every, err
}

// describePolicy names a policy in a report, with the data that it was decided without, and
// that it answers by the time or the like.
func describePolicy(p *offline.Policy, absent []string) string {
	text := fmt.Sprintf("%s, revision %s%s", p.Path, p.Revision(), report.Without(absent))
	if changing := p.Changing(); changing != "" {
		text += ", as it answers now: it asks " + changing
	}
	return text
}

func (d *diff) print(w io.Writer, r *review.Report, every *anyone.Changes, failOn []comparison.Change) error {
	var text string
	told := every != nil && !every.Same()
	switch d.format {
	case "json":
		b, err := json.MarshalIndent(struct {
			*review.Report
			Every *anyone.Changes `json:"every,omitempty"`
		}{r, every}, "", "  ")
		if err != nil {
			return err
		}
		text = string(b) + "\n"
	case "markdown":
		text = r.Markdown()
		if told {
			text += every.Markdown()
		}
	case "github":
		text = r.GitHub(failOn)
		if told {
			text += every.GitHub(failOn)
		}
	default:
		text = r.Text()
		if told {
			text += "\n" + every.Text()
		}
	}
	_, err := io.WriteString(w, text)
	return err
}
