package installation

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/stagedoor/stagedoor/adapter/migrate/written"
)

// A Line is one of the plugin's permission lines: p, SUBJECT, OBJECT, ACTION, EFFECT.
type Line struct {
	At      written.Place
	Subject string
	// Object is the name of a permission or a type of resource.
	Object, Action, Effect string
}

// A Binding gives a role to a member: g, MEMBER, ROLE.
type Binding struct {
	At written.Place
	// Member is as the plugin stores it, which is in lower case but for odd lines.
	Member, Role string
	// Written is the member as it stands in the source.
	Written string
}

// readCSV reads a policy file as the plugin's reader, that of Casbin, does: a line at a
// time, with blank lines and comments, white space around fields, and fields in quotes.
// What that reader would skip without a word, or take for something else, is a
// refusal with its line. skipped are the lines that say nothing.
func readCSV(file string, text []byte) (lines []Line, bindings []Binding, skipped []int, refused []Finding) {
	if !utf8.Valid(text) {
		return nil, nil, nil, []Finding{refusal(written.Place{File: file, Line: invalidLine(text)}, "not UTF-8 text")}
	}
	n := 0
	for text := range strings.Lines(string(text)) {
		n++
		at := written.Place{File: file, Line: n}
		text = trim(text)
		switch {
		case strings.Contains(text, "\r"):
			refused = append(refused, refusal(at, "a carriage return inside the line; end lines by a line feed"))
			continue
		case text == "" || text[0] == '#':
			skipped = append(skipped, at.Line)
			continue
		}
		fields, err := splitCSV(text)
		if err != nil {
			refused = append(refused, refusal(at, "%v", err))
			continue
		}
		switch kind, rest := fields[0], fields[1:]; {
		case kind == "p" && len(rest) == 4:
			lines = append(lines, Line{At: at, Subject: rest[0], Object: rest[1], Action: rest[2], Effect: rest[3]})
		case kind == "p":
			refused = append(refused, refusal(at, "%d fields; a permission line is p, SUBJECT, OBJECT, ACTION, EFFECT",
				len(fields)))
		case kind == "g" && len(rest) == 2:
			b := Binding{At: at, Member: rest[0], Role: rest[1], Written: rest[0]}
			if text[0] == 'g' { // of a line that begins with a quote the plugin leaves capitals as they are
				b.Member = Lower(rest[0])
			}
			if b.isOfUser() {
				refused = append(refused, userAsRole(b))
				continue
			}
			bindings = append(bindings, b)
		case kind == "g":
			refused = append(refused, refusal(at, "%d fields; a role's member is g, MEMBER, ROLE", len(fields)))
		default:
			refused = append(refused, refusal(at, "begins with %q; the lines of a policy begin with p or g", kind))
		}
	}
	return lines, bindings, skipped, refused
}

// whiteSpace is what JavaScript trims. It has the mark of byte order, and not the sign of
// a next line.
const whiteSpace = "\t\n\v\f\r \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a" +
	"\u2028\u2029\u202f\u205f\u3000\ufeff"

func trim(text string) string { return strings.Trim(text, whiteSpace) }

// splitCSV splits a line into its fields.
func splitCSV(text string) ([]string, error) {
	var fields []string
	for {
		text = strings.TrimLeft(text, whiteSpace)
		field, rest, last, err := cutField(text)
		if err != nil {
			return nil, err
		}
		fields = append(fields, field)
		if last {
			return fields, nil
		}
		text = rest
	}
}

// cutField cuts the first field off. It is last where no comma follows.
func cutField(text string) (field, rest string, last bool, err error) {
	if !strings.HasPrefix(text, `"`) {
		field, rest, found := strings.Cut(text, ",")
		switch field = trim(field); {
		case strings.Contains(field, `"`):
			return "", "", false, fmt.Errorf("a quote inside %s; put the whole field in quotes, and two quotes for one", field)
		case strings.ContainsAny(field, "()"):
			return "", "", false, fmt.Errorf("a parenthesis inside %q; put the whole field in quotes", field)
		}
		return field, rest, !found, nil
	}
	var value strings.Builder
	for text = text[1:]; ; {
		before, after, found := strings.Cut(text, `"`)
		if !found {
			return "", "", false, errors.New("a quote that is not closed")
		}
		value.WriteString(before)
		if text = after; !strings.HasPrefix(text, `"`) {
			break
		}
		value.WriteByte('"')
		text = text[1:]
	}
	switch text = strings.TrimLeft(text, whiteSpace); {
	case text == "":
		last = true
	case text[0] == ',':
		text = text[1:]
	default:
		return "", "", false, fmt.Errorf("text after the closing quote: %s", text)
	}
	if !closed(value.String()) {
		return "", "", false, fmt.Errorf("a parenthesis inside %q that is not closed", value.String())
	}
	return unquoted(value.String()), text, last, nil
}

// unquoted is what Casbin makes of a field that a reader of CSV has already unquoted: it
// unquotes it once more.
func unquoted(field string) string {
	if len(field) > 1 && strings.HasPrefix(field, `"`) && strings.HasSuffix(field, `"`) {
		field = field[1 : len(field)-1]
	}
	return trim(strings.ReplaceAll(field, `""`, `"`))
}

// closed reports whether each parenthesis has its other half. Casbin joins fields until
// that is so.
func closed(field string) bool {
	open := 0
	for _, r := range field {
		switch r {
		case '(':
			open++
		case ')':
			open--
		}
		if open < 0 {
			return false
		}
	}
	return open == 0
}

// invalidLine is the first line that is not UTF-8.
func invalidLine(text []byte) int {
	for n, line := range strings.Split(string(text), "\n") {
		if !utf8.ValidString(line) {
			return n + 1
		}
	}
	return 0
}

// isOfUser reports whether the plugin takes a user for the role. What is no reference, and
// a group, it skips.
func (b Binding) isOfUser() bool {
	return CheckRef(b.Member, "user", "group") == nil && CheckRef(b.Role, "user") == nil
}

func userAsRole(b Binding) Finding {
	return refusal(b.At, "%s is no role. The plugin takes it for one that allows nothing, and %s then has no "+
		"lines of its own; delete the line", b.Role, b.Member)
}

// String is the binding as it stands in a CSV.
func (b Binding) String() string { return "g, " + b.Written + ", " + b.Role }

// String is the line as it stands in a CSV.
func (l Line) String() string {
	return strings.Join([]string{"p", l.Subject, l.Object, l.Action, l.Effect}, ", ")
}
