package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stagedoor/stagedoor/adapter/callers"
	"github.com/stagedoor/stagedoor/adapter/comparison"
	"github.com/stagedoor/stagedoor/adapter/offline"
	"github.com/stagedoor/stagedoor/adapter/replay"
)

var replayFormats = []string{"text", "csv", "json"}

type replaying struct {
	policy, inventory, format, failOn string
	opening                           offline.Options
}

func newReplay() *cobra.Command {
	var r replaying
	cmd := &cobra.Command{
		Use:   "replay LOG... --policy PATH",
		Short: "Decide a decision log again by another policy",
		Long: "Replay decides every distinct question of decision logs by a policy, " +
			"and compares the answers with those of\n" +
			"the log. A LOG has OPA's events, one after the other or in arrays, plain or packed by gzip; " +
			"- is standard input.\n" +
			"What cannot be decided again is counted with its reason. Where that is most of the log, or there is no event,\n" +
			"the exit code is 2.",
		Example: "  stagedoor replay replay.jsonl.gz --policy policy --inventory inventory",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			failOn, err := changes(r.failOn)
			if err != nil {
				return err
			}
			if !slices.Contains(replayFormats, r.format) {
				return fmt.Errorf("--format is one of %s, not %s", strings.Join(replayFormats, ", "), r.format)
			}
			if r.policy == "" {
				return errors.New("want --policy PATH, the policy that decides the log again")
			}
			report, err := r.run(cmd.Context(), cmd.InOrStdin(), args)
			if err != nil {
				return err
			}
			text := report.Text()
			switch r.format {
			case "csv":
				text = report.CSV()
			case "json":
				if text, err = asJSON(report); err != nil {
					return err
				}
			}
			if _, err := io.WriteString(cmd.OutOrStdout(), text); err != nil {
				return err
			}
			switch {
			case report.Summary.Events == 0:
				return fmt.Errorf("%s: there is no event to decide again", strings.Join(args, ", "))
			case report.MostUndecided():
				return fmt.Errorf("%d of %d events could not be decided again", report.Summary.Undecided, report.Summary.Events)
			case report.Summary.Has(failOn...):
				return errFindings
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&r.policy, "policy", "", "the `path` of the policy that decides the log again")
	f.StringVar(&r.inventory, "inventory", "", "the `directory` with the people, whose claims a log does not tell")
	openingFlags(cmd, &r.opening)
	f.StringVar(&r.format, "format", "text", strings.Join(replayFormats, ", "))
	f.StringVar(&r.failOn, "fail-on", "breaks,wider,other",
		"the `changes` for which the exit code is 1: breaks, wider, narrower, other, or none")
	return cmd
}

func (r replaying) run(ctx context.Context, stdin io.Reader, logs []string) (_ *replay.Report, err error) {
	inv, err := loadInventory(r.inventory)
	if err != nil {
		return nil, err
	}
	p, err := offline.Open(ctx, r.policy, r.opening)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.Close(ctx)) }()
	var log replay.Log
	for _, name := range logs {
		if err := readLog(ctx, &log, stdin, name); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	report, err := log.Replay(ctx, p, replay.Options{
		Inventory: inv, Vocabulary: p.Vocabulary(), Comparer: comparison.NewComparer(p),
		Placed: callers.Placed(p.Modules()) != "", Progress: newProgress(os.Stderr, "deciding").tell,
	})
	if err != nil {
		return nil, err
	}
	absent, err := p.Absent()
	if err != nil {
		return nil, err
	}
	report.About.Policy, report.About.Logs, report.About.People = describePolicy(p, absent), logs, inv.Source
	report.About.Changing = p.Changing()
	return report, nil
}

func readLog(ctx context.Context, into *replay.Log, stdin io.Reader, name string) error {
	if name == "-" {
		return into.Read(ctx, stdin)
	}
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	return into.Read(ctx, file)
}
