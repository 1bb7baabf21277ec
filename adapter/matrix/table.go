package matrix

import (
	"encoding/csv"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/stagedoor/stagedoor/adapter/audience"
	"github.com/stagedoor/stagedoor/adapter/report"
)

// widest is how many columns a table for a terminal or for Markdown has at most. Of more
// callers, it is listed who has which answer.
const widest = 8

// unnamed marks a permission that no rule names.
const unnamed = "°"

// marks are what cells say in few letters: ALLOW, DENY, ERROR or the number of a note.
func (m *Matrix) marks() (marks, notes []string) {
	for _, a := range m.Answers {
		mark := a.Result
		if a.InWords != "" {
			at := slices.Index(notes, a.InWords)
			if at < 0 {
				at = len(notes)
				notes = append(notes, a.InWords)
			}
			mark = fmt.Sprintf("[%d]", at+1)
			if a.Result == "ERROR" {
				mark = "ERROR" + mark
			}
		}
		marks = append(marks, mark)
	}
	return marks, notes
}

// Text is the matrix for a terminal.
func (m *Matrix) Text() string {
	var b strings.Builder
	marks, notes := m.marks()
	wide := len(m.Columns) > widest
	if !wide {
		b.WriteString("callers\n")
		for i, c := range m.Columns {
			fmt.Fprintf(&b, "  %s  %s\n", letter(i), c.name())
		}
		b.WriteByte('\n')
	}
	width := 0
	for _, p := range m.Plugins {
		for _, r := range p.Rows {
			for _, n := range r.Permissions {
				width = max(width, utf8.RuneCountInString(n.mark()))
			}
		}
	}
	for _, p := range m.Plugins {
		head := strings.Builder{}
		fmt.Fprintf(&head, "%-*s", width+4, p.ID)
		if !wide {
			for i := range m.Columns {
				fmt.Fprintf(&head, "%-8s", letter(i))
			}
		}
		fmt.Fprintln(&b, strings.TrimRight(head.String(), " "))
		for _, r := range p.Rows {
			for i, n := range r.Permissions {
				line := strings.Builder{}
				fmt.Fprintf(&line, "  %s%s", n.mark(), strings.Repeat(" ", width+2-utf8.RuneCountInString(n.mark())))
				switch {
				case wide && i < len(r.Permissions)-1: // the answers stand below all of the row
				case !wide && i > 0: // and beside the first of it
				case wide:
					b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
					line.Reset()
					for _, of := range r.byAnswer(m) {
						fmt.Fprintf(&line, "      %-8s %s\n", marks[of.answer], audience.Names(of.callers))
					}
				default:
					for _, cell := range r.Cells {
						fmt.Fprintf(&line, "%-8s", marks[cell])
					}
				}
				fmt.Fprintln(&b, strings.TrimRight(line.String(), " \n"))
			}
		}
		b.WriteByte('\n')
	}
	for i, note := range notes {
		fmt.Fprintf(&b, "[%d] %s\n", i+1, note)
	}
	if m.anyUnnamed() {
		fmt.Fprintf(&b, "%s   no rule and no data names this permission\n", unnamed)
	}
	fmt.Fprintf(&b, "%s\n", m.About)
	return b.String()
}

func (n Named) mark() string {
	if n.Named {
		return n.Name
	}
	return n.Name + unnamed
}

func (m *Matrix) anyUnnamed() bool {
	return slices.ContainsFunc(m.Plugins, func(p Plugin) bool {
		return slices.ContainsFunc(p.Rows, func(r Row) bool {
			return slices.ContainsFunc(r.Permissions, func(n Named) bool { return !n.Named })
		})
	})
}

// letter names a column.
func letter(i int) string { return "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[i : i+1] }

// String says what was asked, in lines.
func (a About) String() string {
	return fmt.Sprintf("policy: %s\npermissions: %s\ncallers: %s", a.Policy, a.Inventory, a.Callers)
}

// Markdown is the matrix for a page or a comment.
func (m *Matrix) Markdown() string {
	var b strings.Builder
	marks, notes := m.marks()
	if len(m.Columns) > widest {
		b.WriteString("| permission | answer | callers |\n| --- | --- | --- |\n")
		for _, p := range m.Plugins {
			for _, r := range p.Rows {
				for _, of := range r.byAnswer(m) {
					fmt.Fprintf(&b, "| %s | %s | %s |\n", r.names(), report.Markdown(marks[of.answer]),
						report.Markdown(audience.Names(of.callers)))
				}
			}
		}
	} else {
		b.WriteString("| permission |")
		for i := range m.Columns {
			fmt.Fprintf(&b, " %s |", letter(i))
		}
		b.WriteString("\n| --- |" + strings.Repeat(" --- |", len(m.Columns)) + "\n")
		for _, p := range m.Plugins {
			for _, r := range p.Rows {
				fmt.Fprintf(&b, "| %s |", r.names())
				for _, cell := range r.Cells {
					fmt.Fprintf(&b, " %s |", report.Markdown(marks[cell]))
				}
				b.WriteByte('\n')
			}
		}
		b.WriteByte('\n')
		for i, c := range m.Columns {
			fmt.Fprintf(&b, "- %s: %s\n", letter(i), report.Markdown(c.name()))
		}
	}
	b.WriteByte('\n')
	for i, note := range notes {
		fmt.Fprintf(&b, "- \\[%d\\] %s\n", i+1, report.Markdown(note))
	}
	if m.anyUnnamed() {
		fmt.Fprintf(&b, "- %s no rule and no data names this permission\n", unnamed)
	}
	for line := range strings.SplitSeq(m.About.String(), "\n") {
		fmt.Fprintf(&b, "- %s\n", report.Markdown(line))
	}
	return b.String()
}

// names are the permissions of a row in Markdown.
func (r Row) names() string {
	names := make([]string, len(r.Permissions))
	for i, n := range r.Permissions {
		names[i] = "`" + n.Name + "`"
		if !n.Named {
			names[i] += unnamed
		}
	}
	return strings.Join(names, "<br>")
}

// CSV has a line for each permission and class of callers. A text that a spreadsheet
// would take for a formula begins with an apostrophe.
func (m *Matrix) CSV() string {
	var b strings.Builder
	w := csv.NewWriter(&b)
	_ = w.Write([]string{"plugin", "permission", "named", "class", "example", "people", "result",
		"condition"}) // to memory
	for _, cell := range m.Cells() {
		for _, c := range cell.Callers {
			_ = w.Write([]string{
				report.Cell(cell.Plugin), report.Cell(cell.Permission), strconv.FormatBool(cell.Named), report.Cell(c.Class),
				report.Cell(c.Example),
				strconv.Itoa(c.Count), cell.Result, report.Cell(cell.InWords),
			})
		}
	}
	w.Flush()
	return b.String()
}
