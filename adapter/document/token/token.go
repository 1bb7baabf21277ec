// Package token reads JSON text piece by piece, in place: what is compared with something
// that is there already is not copied first.
//
// It takes no text that encoding/json refuses.
package token

import (
	"encoding/json"
	"unicode/utf8"
)

// Reader reads one text. Whatever it is asked for, it skips the space before.
type Reader struct {
	text []byte
	at   int
}

// New reads a text, which must not change meanwhile.
func New(text []byte) *Reader { return &Reader{text: text} }

// Peek is the next byte; 0 at the end.
func (r *Reader) Peek() byte {
	for r.at < len(r.text) {
		switch c := r.text[r.at]; c {
		case ' ', '\t', '\n', '\r':
			r.at++
		default:
			return c
		}
	}
	return 0
}

// Skip goes on behind a word, such as a brace or null, and reports whether it comes next.
func (r *Reader) Skip(word string) bool {
	r.Peek()
	if end := r.at + len(word); end <= len(r.text) && string(r.text[r.at:end]) == word {
		r.at = end
		return true
	}
	return false
}

// End reports whether nothing comes any more.
func (r *Reader) End() bool {
	r.Peek()
	return r.at == len(r.text)
}

// String is the next value where that is a string. Most are a part of the text.
func (r *Reader) String() ([]byte, bool) {
	if r.Peek() != '"' {
		return nil, false
	}
	from, plain, ascii := r.at+1, true, byte(0)
	for i := from; i < len(r.text); i++ {
		switch c := r.text[i]; {
		case c == '"':
			r.at = i + 1
			if plain && (ascii < utf8.RuneSelf || utf8.Valid(r.text[from:i])) {
				return r.text[from:i], true
			}
			var decoded string
			err := json.Unmarshal(r.text[from-1:r.at], &decoded)
			return []byte(decoded), err == nil
		case c == '\\':
			plain = false
			i++
		case c < ' ':
			return nil, false
		default:
			ascii |= c
		}
	}
	return nil, false
}

// Number is the next value where that is a number, as it is written.
func (r *Reader) Number() ([]byte, bool) {
	r.Peek()
	from := r.at
	r.one("-")
	if !r.one("0") && r.digits() == 0 {
		return nil, false
	}
	if r.one(".") && r.digits() == 0 {
		return nil, false
	}
	if r.one("eE") {
		r.one("+-")
		if r.digits() == 0 {
			return nil, false
		}
	}
	return r.text[from:r.at], true
}

// one skips a byte that is one of those.
func (r *Reader) one(of string) bool {
	if r.at == len(r.text) {
		return false
	}
	for i := range len(of) {
		if r.text[r.at] == of[i] {
			r.at++
			return true
		}
	}
	return false
}

// digits skips digits, and tells how many.
func (r *Reader) digits() int {
	from := r.at
	for r.at < len(r.text) && '0' <= r.text[r.at] && r.text[r.at] <= '9' {
		r.at++
	}
	return r.at - from
}
