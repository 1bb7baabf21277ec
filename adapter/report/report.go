// Package report writes what reports share: numbers, and the texts of policies and
// callers in formats that would take them for their own.
package report

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
)

// Count is a number of things: "1 person", "5,000 people".
func Count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%s %s", Thousands(n), many)
}

// Thousands writes a number as people read it.
func Thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// OneLine joins the lines of a text. Other control characters become spaces, so that a text
// of somebody else's cannot make a terminal do anything.
func OneLine(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' {
			return ' '
		}
		return r
	}, text)
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return strings.Join(lines, " ")
}

// Cell is a text for a spreadsheet, which would evaluate one that looks like a formula.
func Cell(text string) string {
	if text != "" && strings.ContainsRune("=+-@\t\r", rune(text[0])) {
		return "'" + text
	}
	return text
}

// Markdown is a text in which neither Markdown nor HTML finds anything of theirs.
func Markdown(text string) string { return markdown.Replace(text) }

var markdown = strings.NewReplacer(`\`, `\\`, "`", "\\`", "*", `\*`, "_", `\_`, "<", "&lt;", ">", "&gt;",
	"[", `\[`, "]", `\]`,
	"|", `\|`, "@", "&#64;")

// Codes lists names in Markdown, each as code.
func Codes(names []string) string {
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = "`" + strings.ReplaceAll(name, "`", "'") + "`"
	}
	return strings.Join(quoted, ", ")
}

// Message is a text as a command of a GitHub workflow takes it.
func Message(text string) string { return message.Replace(text) }

// Property is a text as a property of such a command takes it.
func Property(text string) string { return property.Replace(text) }

var (
	message  = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	property = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
)

// Without says which data a policy was decided without; it is empty where there is none.
func Without(absent []string) string {
	const most = 3
	if len(absent) == 0 {
		return ""
	}
	said := strings.Join(absent[:min(len(absent), most)], ", ")
	if len(absent) > most {
		said += fmt.Sprintf(" and %d more", len(absent)-most)
	}
	return ", without " + said + ", which no file has"
}
