package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stagedoor/stagedoor/adapter/check"
	"github.com/stagedoor/stagedoor/adapter/findings"
	"github.com/stagedoor/stagedoor/adapter/trial"
)

func newCheck() *cobra.Command {
	var o check.Options
	var dir, format string
	cmd := &cobra.Command{
		Use:   "check PATH...",
		Short: "What is wrong with policies, read from their source and found by deciding",
		Long: "Check reports everything that is wrong with a policy in one run, each finding on a line of its own:\n\n" +
			"  file:line:col: severity: what is wrong and what to write instead [code]\n\n" +
			"A PATH is a bundle directory, a bundle.tar.gz, or git:REV:path. Several are held against each other's roots.\n" +
			"Those without a rule that decides are asked together with each that has one, as they serve.\n" +
			"A comment `# stagedoor:ignore CODE REASON` on the line of a finding, or above it, silences it.\n" +
			"Exit codes: 0 nothing found, 1 findings, 2 could not run.",
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, paths []string) error {
			write, ok := reportFormats[format]
			if !ok {
				return fmt.Errorf("--format is text, json, sarif or github, not %s", format)
			}
			known, err := loadInventory(dir)
			if err != nil {
				return err
			}
			o.Inventory = known
			o.Progress = newProgress(cmd.ErrOrStderr(), "deciding").tell
			reports, err := check.Check(cmd.Context(), paths, o)
			if err != nil {
				return err
			}
			if err := write(cmd.OutOrStdout(), reports); err != nil {
				return err
			}
			for _, report := range reports {
				describe(cmd.ErrOrStderr(), report)
			}
			if slices.ContainsFunc(reports, func(r check.Report) bool { return len(r.Findings) > 0 }) {
				return errFindings
			}
			return nil
		},
	}
	deciding(cmd, &o.Entrypoint, &o.Reach)
	cmd.Flags().StringVar(&dir, "inventory", "",
		"the `directory` with the permissions and rules of your Backstage (stagedoor inventory pull)")
	cmd.Flags().StringVar(&format, "format", "text", "`text`, json, sarif or github")
	return cmd
}

var reportFormats = map[string]func(io.Writer, []check.Report) error{
	"text": writeText, "json": writeJSON, "sarif": writeSARIF, "github": writeGitHub,
}

// describe says against what a policy was held.
func describe(w io.Writer, r check.Report) {
	if r.Part {
		_, _ = fmt.Fprintf(w, "%s: %d findings, a bundle beside the one that decides, inventory %s\n", r.Path,
			len(r.Findings), r.Inventory)
		return
	}
	if r.Unasked != "" {
		_, _ = fmt.Fprintf(w, "%s: %d findings, inventory %s; not asked what it decides, since %s\n", r.Path, len(r.Findings),
			r.Inventory, r.Unasked)
		return
	}
	if r.Entrypoint == "" {
		_, _ = fmt.Fprintf(w, "%s: must not serve; inventory %s\n", r.Path, r.Inventory)
		return
	}
	style := "decision style"
	if r.AboutResource {
		style = "about the resource"
	}
	parts := []string{"entrypoint " + r.Entrypoint, style, "revision " + r.Revision, "inventory " + r.Inventory}
	for _, source := range r.Nondeterministic {
		parts = append(parts, "never remembered because of "+source)
	}
	if r.Silenced > 0 {
		parts = append(parts, fmt.Sprintf("%d findings silenced", r.Silenced))
	}
	if r.Unlooked != "" {
		parts = append(parts, "not looked at for rules that never hold: "+r.Unlooked)
	}
	what := "ok"
	if n := len(r.Findings); n > 0 {
		what = fmt.Sprintf("%d findings", n)
	}
	_, _ = fmt.Fprintf(w, "%s: %s, %s\n", r.Path, what, strings.Join(parts, ", "))
	var names []string
	for _, class := range r.Callers.List {
		names = append(names, class.Name)
	}
	const most = 12
	if len(names) > most {
		names = append(names[:most], fmt.Sprintf("and %d more", len(names)-most))
	}
	all := "there are no others that it tells apart"
	if !r.Callers.All {
		all = "there may be others: " + r.Callers.Why
	}
	_, _ = fmt.Fprintf(w, "%s: %d decisions for these callers: %s; %s\n", r.Path, r.Questions, strings.Join(names, "; "),
		all)
	now := ""
	if len(r.Nondeterministic) > 0 {
		now = ", now"
	}
	_, _ = fmt.Fprintf(w, "%s: every caller there can be%s: %s\n", r.Path, now, everyone(r.Trial))
}

// everyone says what every caller there can be may.
func everyone(t trial.Trial) string {
	e := t.Everyone
	if e == nil {
		return "not asked for, since " + t.Unknown
	}
	var parts []string
	add := func(who string, names []string) {
		if len(names) > 0 {
			parts = append(parts, who+" "+few(names))
		}
	}
	add("anybody may, even without credentials:", e.Anybody)
	add("whoever is signed in may:", e.SignedIn)
	add("nobody may:", e.Nobody)
	add("by who asks or for what:", e.Some)
	for _, outside := range e.Outside {
		parts = append(parts, fmt.Sprintf("no formula for %s: %s", few(outside.Permissions), outside.Why))
	}
	return strings.Join(parts, "; ")
}

// few are the first of some names, and how many there are.
func few(names []string) string {
	const most = 3
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

func writeText(w io.Writer, reports []check.Report) error {
	for _, report := range reports {
		for _, f := range report.Findings {
			if _, err := fmt.Fprintln(w, f); err != nil {
				return err
			}
		}
	}
	return nil
}

func writeJSON(w io.Writer, reports []check.Report) error {
	return writeIndented(w, map[string]any{"findings": foundIn(reports)})
}

func writeSARIF(w io.Writer, reports []check.Report) error {
	return findings.WriteSARIF(w, foundIn(reports))
}

func foundIn(reports []check.Report) []findings.Finding {
	all := []findings.Finding{}
	for _, report := range reports {
		all = append(all, report.Findings...)
	}
	return all
}

func writeIndented(w io.Writer, value any) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}

// writeGitHub writes workflow commands, which GitHub Actions shows beside the lines.
func writeGitHub(w io.Writer, reports []check.Report) error {
	property := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
	message := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	for _, report := range reports {
		for _, f := range report.Findings {
			at := "file=" + property.Replace(filepath.ToSlash(f.File))
			if f.Line > 0 {
				at += fmt.Sprintf(",line=%d,col=%d", f.Line, max(f.Column, 1))
			}
			_, err := fmt.Fprintf(w, "::%s %s,title=%s::%s\n", f.Severity, at, property.Replace("stagedoor "+f.Code),
				message.Replace(f.Text))
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// progress tells on a terminal, from one second on, how far a command has come.
type progress struct {
	to      io.Writer
	what    string
	started time.Time
	told    time.Time
}

func newProgress(to io.Writer, what string) *progress {
	p := &progress{what: what, started: time.Now()}
	if file, ok := to.(*os.File); ok {
		if info, err := file.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			p.to = to
		}
	}
	return p
}

func (p *progress) tell(done, of int) {
	now := time.Now()
	if p.to == nil || now.Sub(p.started) < time.Second || now.Sub(p.told) < 200*time.Millisecond && done < of {
		return
	}
	p.told = now
	_, _ = fmt.Fprintf(p.to, "\r%s: %d of %d", p.what, done, of)
	if done >= of {
		_, _ = fmt.Fprint(p.to, "\r\x1b[K")
	}
}
