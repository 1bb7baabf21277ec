// Package origin matches the origins of front ends by the patterns of Backstage's
// backend.cors.origin, as minimatch 11.0.9 does with the options that Backstage gives
// it: without regard to case, and ** as *.
//
//	http://localhost:3000            that origin
//	https://*.example.org            * any text without a slash, ? one character
//	https://{a,b}.example.org        either; {3000..3002} a sequence
//	https://[a-c].example.org        one of these; [!a-c] one that is not
//	https://@(a|b).example.org       @ one, ? one or none, + one or more, * any number
//	!https://example.org             any other than this
//
// What would mean something else here than there is refused by [Compile]: !(…),
// [:alpha:], a single {, letters that are not ASCII. An origin of which a part between
// slashes is . or .. matches fewer patterns here; no browser sends one.
package origin

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Pattern is a pattern that was read. It is immutable and safe for concurrent use.
type Pattern struct {
	negated bool
	rows    [][]sequence // of the texts that its braces stand for, by their slashes
}

// most is how many texts the braces of a pattern may stand for.
const most = 10_000

// Compile reads a pattern. The error says what of it is not known.
func Compile(pattern string) (*Pattern, error) {
	p := &Pattern{}
	for _, r := range pattern {
		if r < ' ' || r > '~' {
			return nil, errors.New("want ASCII alone: write a host in its xn-- form")
		}
	}
	if strings.HasPrefix(pattern, "#") {
		return nil, errors.New("it begins with #, so it would match nothing")
	}
	if pattern == "" {
		return p, nil
	}
	rest := strings.TrimLeft(pattern, "!")
	p.negated = (len(pattern)-len(rest))%2 == 1
	if rest == "" {
		return nil, errors.New("nothing stands after the ! at its beginning")
	}
	texts, err := expand(rest)
	if err != nil {
		return nil, err
	}
	for _, text := range texts {
		if text == "" {
			continue
		}
		var row []sequence
		for i, part := range split(text) {
			if part == ".." {
				return nil, errors.New("it has .. as a part")
			}
			s, err := parse(part)
			if err != nil {
				return nil, fmt.Errorf("part %d: %w", i+1, err)
			}
			row = append(row, s)
		}
		p.rows = append(p.rows, row)
	}
	return p, nil
}

// Match reports whether an origin matches.
func (p *Pattern) Match(origin string) bool {
	if p.rows == nil && !p.negated {
		return origin == ""
	}
	parts := split(strings.ToLower(origin))
	for _, row := range p.rows {
		if matches(row, parts) {
			return !p.negated
		}
	}
	return p.negated
}

// split takes a text apart at its slashes, of which several count as one.
func split(text string) []string {
	parts := []string{""}
	for i := range len(text) {
		switch {
		case text[i] != '/':
			parts[len(parts)-1] += text[i : i+1]
		case i == 0 || text[i-1] != '/':
			parts = append(parts, "")
		}
	}
	return parts
}

func matches(row []sequence, parts []string) bool {
	if len(parts) == len(row)+1 && parts[len(row)] == "" { // a slash at the end
		parts = parts[:len(row)]
	}
	if len(parts) != len(row) {
		return false
	}
	for i, s := range row {
		if !s.matches(parts[i]) {
			return false
		}
	}
	return true
}

// expand returns the texts that a text with braces stands for. A backslash keeps what
// follows it from counting, and stays.
func expand(text string) ([]string, error) {
	all, rest, err := expandUntil(text, "")
	if err == nil && rest != "" {
		err = errors.New("a } that ends no list; write \\} for the character")
	}
	return all, err
}

// expandUntil expands up to one of the characters in end, or } where there is none.
func expandUntil(text, end string) (all []string, rest string, err error) {
	all = []string{""}
	for text != "" {
		var next []string
		switch c := text[0]; {
		case c == '}' || strings.IndexByte(end, c) >= 0:
			return all, text, nil
		case c == '\\' && len(text) > 1:
			next, text = []string{text[:2]}, text[2:]
		case c == '{':
			if strings.HasSuffix(all[0], "$") {
				return nil, "", errors.New("${ is not known here")
			}
			if next, text, err = list(text[1:]); err != nil {
				return nil, "", err
			}
		default:
			next, text = []string{text[:1]}, text[1:]
		}
		if len(all)*len(next) > most {
			return nil, "", fmt.Errorf("its braces stand for more than %d texts", most)
		}
		var both []string
		for _, a := range all {
			for _, b := range next {
				both = append(both, a+b)
			}
		}
		all = both
	}
	return all, "", nil
}

// list expands what follows a {, and returns what follows its }.
func list(text string) (all []string, rest string, err error) {
	body, after, closed := strings.Cut(text, "}")
	if closed && strings.Contains(body, "..") && !strings.ContainsAny(body, `{,\`) {
		all, err = numbers(body)
		return all, after, err
	}
	for choices := 1; ; choices++ {
		some, rest, err := expandUntil(text, ",")
		switch {
		case err != nil:
			return nil, "", err
		case rest == "":
			return nil, "", errors.New("a { that is not closed; write \\{ for the character")
		}
		all, text = append(all, some...), rest[1:]
		if rest[0] == ',' {
			continue
		}
		if choices == 1 {
			return nil, "", errors.New("a list in braces without a comma; write \\{ for the character")
		}
		return all, text, nil
	}
}

// numbers expands the sequence 3000..3002, or a..c.
func numbers(body string) ([]string, error) {
	unknown := fmt.Errorf("the sequence {%s} is not known here: want {1..3} or {a..c}", body)
	from, to, _ := strings.Cut(body, "..")
	const letter = 'z' + 1
	letters := len(from) == 1 && len(to) == 1 && isLetter(from[0]) && isLetter(to[0])
	if letters {
		from, to = strconv.Itoa(int(from[0])), strconv.Itoa(int(to[0]))
	}
	first, err := strconv.Atoi(from)
	last, err2 := strconv.Atoi(to)
	if err != nil || err2 != nil || strconv.Itoa(first) != from || strconv.Itoa(last) != to || first < 0 || last < 0 {
		return nil, unknown
	}
	step := 1
	if last < first {
		step = -1
	}
	if (last-first)*step >= most {
		return nil, fmt.Errorf("its braces stand for more than %d texts", most)
	}
	var all []string
	for n := first; ; n += step {
		if letters {
			if !isLetter(byte(n % letter)) {
				return nil, unknown
			}
			all = append(all, string(rune(n%letter)))
		} else {
			all = append(all, strconv.Itoa(n))
		}
		if n == last {
			return all, nil
		}
	}
}

func isLetter(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' }
