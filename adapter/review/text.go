package review

import (
	"fmt"
	"slices"
	"strings"

	"github.com/stagedoor/stagedoor/adapter/audience"
	"github.com/stagedoor/stagedoor/adapter/comparison"
	"github.com/stagedoor/stagedoor/adapter/report"
	"github.com/stagedoor/stagedoor/adapter/words"
)

// A Fold is differences that say the same of several permissions, for the same callers.
type Fold struct {
	Permissions []string
	Difference
}

// Folded folds the differences over permissions.
func (r *Report) Folded() []Fold {
	var folds []Fold
	at := make(map[string]int)
	for _, d := range r.Differences {
		key := fmt.Sprintf("%v%v%v", d.Said, d.Callers, d.Entities)
		if i, ok := at[key]; ok {
			folds[i].Permissions = append(folds[i].Permissions, d.Permission)
			for _, from := range d.From {
				if !slices.Contains(folds[i].From, from) {
					folds[i].From = append(folds[i].From, from)
				}
			}
			continue
		}
		at[key] = len(folds)
		folds = append(folds, Fold{[]string{d.Permission}, d})
	}
	return folds
}

// Text is the report for a terminal.
func (r *Report) Text() string {
	var b strings.Builder
	for _, f := range r.Folded() {
		fmt.Fprintf(&b, "%s  %s\n", f.Change, strings.Join(f.Permissions, ", "))
		for _, line := range f.lines() {
			fmt.Fprintf(&b, "  %s\n", line)
		}
		b.WriteByte('\n')
	}
	fmt.Fprintf(&b, "%s\n%s\n", r.Summary, r.About)
	return b.String()
}

// lines say a change, what matters most first.
func (f Fold) lines() []string {
	lines := append([]string{"for " + audience.Names(f.Callers)}, f.Lines()...)
	if f.Witness != "" && !words.Same(f.Witness, f.GainsInWords) && !words.Same(f.Witness, f.LosesInWords) {
		lines = append(lines, "for example: "+f.Witness)
	}
	if f.Entities != nil {
		lines = append(lines, f.Entities.Lines()...)
	}
	if len(f.From) > 0 {
		lines = append(lines, "decided at: "+strings.Join(f.From, ", "))
	}
	return lines
}

// String says what was found.
func (s Summary) String() string {
	text := fmt.Sprintf("%s in %s%s", s.Counts, report.Count(s.Questions, "question", "questions"),
		report.Without(s.Without))
	if len(s.Beyond) == 0 {
		return text
	}
	beyond := make([]string, len(s.Beyond))
	for i, change := range s.Beyond {
		beyond[i] = string(change)
	}
	return text + "; for other callers " + strings.Join(beyond, ", ")
}

// String says what was asked, in lines.
func (a About) String() string {
	lines := []string{
		"old: " + a.Old,
		"new: " + a.New,
		"permissions: " + a.Inventory,
		"callers: " + a.Callers,
	}
	if a.Entities > 0 {
		lines = append(lines, "entities: "+report.Thousands(a.Entities))
	}
	return strings.Join(lines, "\n")
}

// Markdown is the report for a comment on a change.
func (r *Report) Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "### Who may do what: %s\n\n", r.Summary)
	for _, f := range r.Folded() {
		fmt.Fprintf(&b, "**%s** %s\n", f.Change, report.Codes(f.Permissions))
		for _, line := range f.lines() {
			fmt.Fprintf(&b, "- %s\n", report.Markdown(line))
		}
		b.WriteByte('\n')
	}
	b.WriteString("<details><summary>What was compared</summary>\n\n")
	for line := range strings.SplitSeq(r.About.String(), "\n") {
		fmt.Fprintf(&b, "- %s\n", report.Markdown(line))
	}
	b.WriteString("\n</details>\n")
	return b.String()
}

// GitHub is the report as commands of a GitHub workflow, which shows them beside the
// lines of the change.
func (r *Report) GitHub(failOn []comparison.Change) string {
	var b strings.Builder
	for _, f := range r.Folded() {
		level := "notice"
		if slices.Contains(failOn, f.Change) {
			level = "error"
		}
		at := ""
		if len(f.From) > 0 {
			file, line, _ := strings.Cut(f.From[len(f.From)-1], ":")
			at = fmt.Sprintf("file=%s,line=%s,", report.Property(file), report.Property(line))
		}
		title := fmt.Sprintf("%s: %s", f.Change, strings.Join(f.Permissions, ", "))
		fmt.Fprintf(&b, "::%s %stitle=%s::%s\n", level, at, report.Property(title),
			report.Message(strings.Join(f.lines(), "\n")))
	}
	fmt.Fprintf(&b, "::notice title=Who may do what::%s\n", report.Message(r.Summary.String()+"\n"+r.About.String()))
	return b.String()
}
