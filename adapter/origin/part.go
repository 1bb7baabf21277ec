package origin

import (
	"errors"
	"strings"
)

// sequence is what a part of a pattern, between two slashes, consists of.
type sequence []token

// token is one of it.
type token struct {
	kind  kind
	char  byte       // of literal, in lower case
	set   [128]bool  // of class, in lower case
	many  bool       // of choice: more than one
	none  bool       // of choice: also none
	of    []sequence // of choice
	first bool       // nothing stands before it in its part but choices
}

type kind int

const (
	literal kind = iota
	anyText
	anyChar
	class
	choice
)

// parse reads a part.
func parse(part string) (sequence, error) {
	if part == "**" {
		part = "*"
	}
	s, rest, err := parseUntil(strings.ToLower(part), "", true)
	if err == nil && rest != "" {
		err = errors.New("internal: not read to its end")
	}
	return s, err
}

// parseUntil reads up to one of the characters in end.
func parseUntil(text, end string, first bool) (s sequence, rest string, err error) {
	for text != "" && strings.IndexByte(end, text[0]) < 0 {
		first = first && (len(s) == 0 || s[len(s)-1].kind == choice)
		t := token{char: text[0], first: first}
		switch c := text[0]; {
		case strings.IndexByte("?*+@!", c) >= 0 && strings.HasPrefix(text[1:], "("):
			if t, text, err = parseChoice(t, text[2:]); err != nil {
				return nil, "", err
			}
		case c == '*':
			t.kind, text = anyText, text[1:]
		case c == '?':
			t.kind, text = anyChar, text[1:]
		case c == '[':
			if t, text, err = parseClass(t, text[1:]); err != nil {
				return nil, "", err
			}
		case c == '\\':
			if len(text) == 1 {
				return nil, "", errors.New("a \\ at the end")
			}
			t.char, text = text[1], text[2:]
		default:
			text = text[1:]
		}
		s = append(s, t)
	}
	return s, text, nil
}

// parseChoice reads what follows the opening of @(…), and the like.
func parseChoice(t token, text string) (token, string, error) {
	if t.char == '!' {
		return t, "", errors.New("!(…) is not known here; a pattern that begins with ! means any other origin")
	}
	t.kind, t.many, t.none = choice, t.char == '*' || t.char == '+', t.char == '*' || t.char == '?'
	for {
		one, rest, err := parseUntil(text, "|)", t.first)
		switch {
		case err != nil:
			return t, "", err
		case rest == "":
			return t, "", errors.New("a ( that is not closed in its part")
		case len(one) == 0:
			return t, "", errors.New("an empty choice in (…)")
		}
		t.of = append(t.of, one)
		if text = rest[1:]; rest[0] == ')' {
			return t, text, nil
		}
	}
}

// parseClass reads what follows the [.
func parseClass(t token, text string) (token, string, error) {
	t.kind = class
	negated := strings.HasPrefix(text, "!") || strings.HasPrefix(text, "^")
	if negated {
		text = text[1:]
	}
	body, rest, closed := strings.Cut(text, "]")
	switch {
	case !closed:
		return t, "", errors.New("a [ that is not closed in its part; write \\[ for the character")
	case body == "" || strings.ContainsAny(body, `[\`):
		return t, "", errors.New("want letters, digits and ranges such as a-z in […]")
	}
	for i := 0; i < len(body); i++ {
		from, to := body[i], body[i]
		if i+2 < len(body) && body[i+1] == '-' {
			to = body[i+2]
			i += 2
		}
		if from > to || from != to && (!isWord(from) || !isWord(to)) || from == '-' && len(body) > 1 {
			return t, "", errors.New("want letters, digits and ranges such as a-z in […]")
		}
		for c := from; c <= to; c++ {
			t.set[c] = true
		}
	}
	if negated {
		for c := range t.set {
			t.set[c] = !t.set[c]
		}
	}
	return t, rest, nil
}

func isWord(c byte) bool { return isLetter(c) || '0' <= c && c <= '9' }

// places are positions in a text, those that are true.
type places []bool

// matches reports whether the sequence is the whole of a part.
func (s sequence) matches(part string) bool {
	if len(s) == 0 || part == "" {
		return len(s) == 0 && part == ""
	}
	if part == "." || part == ".." {
		for _, t := range s {
			if t.kind != literal {
				return false
			}
		}
	}
	at := make(places, len(part)+1)
	at[0] = true
	return s.from(at, part)[len(part)]
}

// from returns where the sequence can end when it begins at one of the places.
func (s sequence) from(at places, text string) places {
	for _, t := range s {
		at = t.from(at, text)
	}
	return at
}

func (t token) from(at places, text string) places {
	after := make(places, len(at))
	switch t.kind {
	case anyText:
		going := false
		for i := range at {
			going = going || at[i]
			after[i] = going
			if i < len(text) && !t.takes(text, i) {
				going = false
			}
		}
	case choice:
		if t.none {
			copy(after, at)
		}
		for more := true; more; {
			more = false
			ends := make(places, len(at))
			for _, one := range t.of {
				for i, ends1 := range one.from(at, text) {
					ends[i] = ends[i] || ends1
				}
			}
			for i, end := range ends {
				more = more || end && !after[i]
				after[i] = after[i] || end
			}
			at, more = ends, more && t.many
		}
	default:
		for i := range text {
			if at[i] && t.takes(text, i) {
				after[i+1] = true
			}
		}
	}
	return after
}

// takes reports whether the token takes this character. A dot at the beginning of a
// part is taken by a dot alone, with which the pattern's part begins too.
func (t token) takes(text string, i int) bool {
	c := text[i]
	if i == 0 && c == '.' {
		return t.kind == literal && t.char == '.' && t.first
	}
	switch t.kind {
	case literal:
		return c == t.char
	case class:
		return c < 128 && t.set[c]
	}
	return true
}
