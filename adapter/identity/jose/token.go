// Package jose reads what others sign and publish: JSON Web Tokens (RFC 7519) and JSON
// Web Key Sets (RFC 7517), in Backstage's forms of them.
//
// [Parse] splits a token and reads its header, and [Token.ReadClaims] reads the rest.
// Nothing in a token is believed before [Key.Verify] has agreed. [ParseKeys] reads a
// key set. The key decides which algorithms are good, and never the token.
//
// A claim is kept as the JSON that it is. What a missing one, a null and one of another
// type mean differs from claim to claim, and follows JavaScript: see [Falsy].
//
// No error of this package holds any part of a token.
package jose

import (
	"bytes"
	"encoding/base64"
	"errors"
	"math"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// The typ headers that Backstage signs with (tokenTypes of
// @backstage/plugin-auth-node 0.7).
const (
	TypPlugin  = "vnd.backstage.plugin"
	TypUser    = "vnd.backstage.user"
	TypLimited = "vnd.backstage.limited-user"
)

// MaxToken is the length of the longest token that is looked at. Node, which
// serves Backstage, takes 16 KiB of headers unless told otherwise.
const MaxToken = 64 << 10

// Token is a JWT in compact form, of which nothing is believed yet. It must not be
// changed while others use it.
//
// The errors are texts of ours throughout: those of a JSON decoder may quote.
type Token struct {
	Raw []byte // as it was sent
	// signed is the length of what is signed, and payload starts at body.
	body, signed int

	Header
	Claims
	signature []byte
}

// Header is the members of a header that matter.
type Header struct {
	Typ  jsontext.Value `json:"typ"`
	Alg  jsontext.Value `json:"alg"`
	Kid  jsontext.Value `json:"kid"`
	Crit jsontext.Value `json:"crit"`
}

// Claims are the members of a payload that matter to some kind of token.
type Claims struct {
	Sub jsontext.Value `json:"sub"`
	Aud jsontext.Value `json:"aud"`
	Iat jsontext.Value `json:"iat"`
	Exp jsontext.Value `json:"exp"`
	Nbf jsontext.Value `json:"nbf"`
	Obo jsontext.Value `json:"obo"`
	Ent jsontext.Value `json:"ent"`
	Uip jsontext.Value `json:"uip"`
}

// LastWins makes the last of duplicate members count, as in JavaScript. Names are
// case-sensitive and text is UTF-8 by default.
var LastWins = jsontext.AllowDuplicateNames(true)

// Parse splits raw and reads its header. raw must not change any more.
func Parse(raw []byte) (*Token, error) {
	if len(raw) > MaxToken {
		return nil, errors.New("the token is too long")
	}
	first, last := bytes.IndexByte(raw, '.'), bytes.LastIndexByte(raw, '.')
	if first < 0 || last == first || bytes.IndexByte(raw[first+1:last], '.') >= 0 {
		return nil, errors.New("the token does not have three parts")
	}
	t := &Token{Raw: raw, body: first + 1, signed: last}
	if !decodeObject(raw[:first], &t.Header) {
		return nil, errors.New("the token's header is not a JSON object")
	}
	return t, nil
}

// ReadClaims reads the rest.
func (t *Token) ReadClaims() error {
	if !decodeObject(t.Raw[t.body:t.signed], &t.Claims) {
		return errors.New("the token's payload is not a JSON object")
	}
	var ok bool
	if t.signature, ok = decodeBase64(t.Raw[t.signed+1:]); !ok {
		return errors.New("the token's signature is not base64url")
	}
	return nil
}

// decodeObject reads base64url of a JSON object into v, a pointer to a struct.
func decodeObject(encoded []byte, v any) bool {
	text, ok := decodeBase64(encoded)
	if !ok || jsontext.Value(text).Kind() != '{' {
		return false
	}
	return json.Unmarshal(text, v, LastWins) == nil
}

func decodeBase64(encoded []byte) ([]byte, bool) {
	// The decoder ignores line ends; nobody else does.
	if bytes.IndexByte(encoded, '\n') >= 0 || bytes.IndexByte(encoded, '\r') >= 0 {
		return nil, false
	}
	decoded := make([]byte, base64.RawURLEncoding.DecodedLen(len(encoded)))
	_, err := base64.RawURLEncoding.Strict().Decode(decoded, encoded)
	return decoded, err == nil
}

// Text returns the string that v is.
func Text(v jsontext.Value) (string, bool) {
	b, ok := Unquoted(v)
	return string(b), ok
}

// Unquoted returns the text of the string that v is, which may be a part of v.
func Unquoted(v jsontext.Value) ([]byte, bool) {
	if len(v) < 2 || v[0] != '"' {
		return nil, false
	}
	if bytes.IndexByte(v, '\\') < 0 {
		return v[1 : len(v)-1], true
	}
	b, err := jsontext.AppendUnquote(nil, v)
	return b, err == nil
}

// number returns the number that v is.
func number(v jsontext.Value) (float64, bool) {
	if v.Kind() != '0' {
		return 0, false
	}
	f, err := strconv.ParseFloat(string(v), 64)
	return f, err == nil
}

// Falsy reports whether JavaScript would take v, empty where absent, for false.
// The reference does without many a claim by that rule.
func Falsy(v jsontext.Value) bool {
	switch v.Kind() {
	case '"':
		return len(v) == 2
	case '0':
		f, ok := number(v)
		return ok && f == 0
	case 't', '[', '{':
		return false
	}
	return true
}

// Lifetime is when a token is good, in seconds since 1970 as JWT has it.
type Lifetime struct{ nbf, exp float64 }

// Lifetime reads exp, nbf and iat. exp must be there; the others must be numbers
// where they are there.
func (c *Claims) Lifetime() (Lifetime, error) {
	exp, ok := number(c.Exp)
	if !ok {
		return Lifetime{}, errors.New("exp is no number")
	}
	if _, ok := number(c.Iat); !ok && len(c.Iat) > 0 {
		return Lifetime{}, errors.New("iat is no number")
	}
	nbf, ok := number(c.Nbf)
	switch {
	case len(c.Nbf) == 0:
		nbf = math.Inf(-1)
	case !ok:
		return Lifetime{}, errors.New("nbf is no number")
	}
	return Lifetime{nbf, exp}, nil
}

// Check fails unless now lies within the lifetime. Only whole seconds count,
// as in jose 6.
func (l Lifetime) Check(now time.Time, leeway time.Duration) error {
	seconds := float64(now.Unix())
	switch {
	case l.exp <= seconds-leeway.Seconds():
		return errors.New("the token has expired")
	case l.nbf > seconds+leeway.Seconds():
		return errors.New("the token is not valid yet")
	}
	return nil
}

// Expires returns exp in whole seconds, rounded down.
func (l Lifetime) Expires() time.Time {
	const farAhead = 1 << 40 // past which time.Time would not follow
	return time.Unix(int64(min(math.Floor(l.exp), farAhead)), 0)
}

// Object writes a JSON object of names and values in turn, without those whose
// value is empty. Values are JSON, see [Quoted].
func Object(members ...string) []byte {
	text := []byte{'{'}
	for n := 0; n < len(members); n += 2 {
		if members[n+1] == "" {
			continue
		}
		if len(text) > 1 {
			text = append(text, ',')
		}
		text = append(text, Quoted(members[n])...)
		text = append(text, ':')
		text = append(text, members[n+1]...)
	}
	return append(text, '}')
}

// Quoted writes a JSON string.
func Quoted(s string) string {
	text, _ := jsontext.AppendQuote(nil, s) // fails for invalid UTF-8 alone, which it replaces
	return string(text)
}
