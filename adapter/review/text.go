package review

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

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
		says := d.says()
		says.permission = ""
		key := fmt.Sprintf("%v%v%v", says, d.Callers, d.Entities)
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
	lines := []string{"for " + f.who()}
	add := func(before, text string) {
		if text != "" {
			lines = append(lines, before+text)
		}
	}
	add("fails: ", f.Error)
	switch {
	case f.GainsInWords == "" && f.LosesInWords == "":
	case f.OldInWords == "DENY" || f.NewInWords == "DENY" || f.OldInWords == "ALLOW" || f.NewInWords == "ALLOW":
		// The two decisions say it in fewer words.
	default:
		add("gains: ", f.GainsInWords)
		add("loses: ", f.LosesInWords)
	}
	add("was: ", f.OldInWords)
	if f.Error == "" {
		add("now: ", f.NewInWords)
	}
	if !words.Same(f.Witness, f.GainsInWords) && !words.Same(f.Witness, f.LosesInWords) {
		add("for example: ", f.Witness)
	}
	if f.Entities != nil {
		lines = append(lines, f.Entities.lines()...)
	}
	add("decided at: ", strings.Join(f.From, ", "))
	return lines
}

// mostNamed is how many classes of callers a line names.
const mostNamed = 4

// who says for whom a change is.
func (d *Difference) who() string {
	var names []string
	for i, c := range d.Callers {
		if i == mostNamed {
			names = append(names, fmt.Sprintf("%d more", len(d.Callers)-i))
			break
		}
		names = append(names, c.name())
	}
	text := names[0]
	if len(names) > 1 {
		text = strings.Join(names[:len(names)-1], "; ") + " and " + names[len(names)-1]
	}
	if n := d.people(); n > 0 {
		text += fmt.Sprintf(" (%s)", count(n, "person", "people"))
	}
	return text
}

func (a Affected) name() string {
	if a.Count > 1 && a.Class == a.Example {
		return fmt.Sprintf("%s and %d alike", a.Class, a.Count-1)
	}
	return a.Class
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%s %s", thousands(n), many)
}

// thousands writes a number as people read it.
func thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// String says what was found.
func (s Summary) String() string {
	var found []string
	for _, of := range []struct {
		n    int
		what Change
	}{{s.Breaks, Breaks}, {s.Wider, Wider}, {s.Other, Other}, {s.Narrower, Narrower}} {
		if of.n > 0 {
			found = append(found, fmt.Sprintf("%s %s", thousands(of.n), of.what))
		}
	}
	if len(found) == 0 {
		return "SAME in " + count(s.Questions, "question", "questions")
	}
	return fmt.Sprintf("%s in %s", strings.Join(found, ", "), count(s.Questions, "question", "questions"))
}

// Has is whether there is a change of one of some kinds.
func (s Summary) Has(kinds ...Change) bool {
	n := 0
	for _, kind := range kinds {
		n += map[Change]int{Breaks: s.Breaks, Wider: s.Wider, Narrower: s.Narrower, Other: s.Other}[kind]
	}
	return n > 0
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
		lines = append(lines, "entities: "+thousands(a.Entities))
	}
	return strings.Join(lines, "\n")
}

// Markdown is the report for a comment on a change.
func (r *Report) Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "### Who may do what: %s\n\n", r.Summary)
	for _, f := range r.Folded() {
		fmt.Fprintf(&b, "**%s** %s\n", f.Change, codes(f.Permissions))
		for _, line := range f.lines() {
			fmt.Fprintf(&b, "- %s\n", escape(line))
		}
		b.WriteByte('\n')
	}
	b.WriteString("<details><summary>What was compared</summary>\n\n")
	for line := range strings.SplitSeq(r.About.String(), "\n") {
		fmt.Fprintf(&b, "- %s\n", escape(line))
	}
	b.WriteString("\n</details>\n")
	return b.String()
}

func codes(names []string) string {
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = "`" + strings.ReplaceAll(name, "`", "'") + "`"
	}
	return strings.Join(quoted, ", ")
}

// escape keeps Markdown and HTML from reading a text of a policy as theirs.
var escape = strings.NewReplacer(`\`, `\\`, "`", "\\`", "*", `\*`, "_", `\_`, "<", "&lt;", ">", "&gt;",
	"[", `\[`, "]", `\]`,
	"|", `\|`, "@", "&#64;").Replace

// GitHub is the report as commands of a GitHub workflow, which shows them beside the
// lines of the change.
func (r *Report) GitHub(failOn []Change) string {
	var b strings.Builder
	for _, f := range r.Folded() {
		level := "notice"
		if slices.Contains(failOn, f.Change) {
			level = "error"
		}
		at := ""
		if len(f.From) > 0 {
			file, line, _ := strings.Cut(f.From[len(f.From)-1], ":")
			at = fmt.Sprintf("file=%s,line=%s,", property(file), property(line))
		}
		title := fmt.Sprintf("%s: %s", f.Change, strings.Join(f.Permissions, ", "))
		fmt.Fprintf(&b, "::%s %stitle=%s::%s\n", level, at, property(title), message(strings.Join(f.lines(), "\n")))
	}
	fmt.Fprintf(&b, "::notice title=Who may do what::%s\n", message(r.Summary.String()+"\n"+r.About.String()))
	return b.String()
}

// message and property write a text as a workflow command takes it.
var (
	message  = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A").Replace
	property = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C").Replace
)
