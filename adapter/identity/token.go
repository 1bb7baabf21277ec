package identity

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
	typPlugin  = "vnd.backstage.plugin"
	typUser    = "vnd.backstage.user"
	typLimited = "vnd.backstage.limited-user"
)

// maxToken is the length of the longest token that is looked at. Node, which
// serves Backstage, takes 16 KiB of headers unless told otherwise.
const maxToken = 64 << 10

// token is a JWT in compact form, of which nothing is believed yet. Its values
// are kept as the JSON that they are, since what a missing one, a null and one of
// another type mean differs from claim to claim.
//
// The errors are texts of ours throughout: those of a JSON decoder may quote.
type token struct {
	raw []byte
	// signed is the length of what is signed, and payload starts at body.
	body, signed int

	header
	claims
	signature []byte
}

// header is the members of a header that matter.
type header struct {
	Typ  jsontext.Value `json:"typ"`
	Alg  jsontext.Value `json:"alg"`
	Kid  jsontext.Value `json:"kid"`
	Crit jsontext.Value `json:"crit"`
}

// claims are the members of a payload that matter to some kind of token.
type claims struct {
	Sub jsontext.Value `json:"sub"`
	Aud jsontext.Value `json:"aud"`
	Iat jsontext.Value `json:"iat"`
	Exp jsontext.Value `json:"exp"`
	Nbf jsontext.Value `json:"nbf"`
	Obo jsontext.Value `json:"obo"`
	Ent jsontext.Value `json:"ent"`
	Uip jsontext.Value `json:"uip"`
}

// lastWins makes the last of duplicate members count, as in JavaScript. Names are
// case-sensitive and text is UTF-8 by default.
var lastWins = jsontext.AllowDuplicateNames(true)

// newToken splits raw and reads its header. raw must not change any more.
func newToken(raw []byte) (*token, error) {
	if len(raw) > maxToken {
		return nil, errors.New("the token is too long")
	}
	first, last := bytes.IndexByte(raw, '.'), bytes.LastIndexByte(raw, '.')
	if first < 0 || last == first || bytes.IndexByte(raw[first+1:last], '.') >= 0 {
		return nil, errors.New("the token does not have three parts")
	}
	t := &token{raw: raw, body: first + 1, signed: last}
	if !decodeObject(raw[:first], &t.header) {
		return nil, errors.New("the token's header is not a JSON object")
	}
	return t, nil
}

// readClaims reads the rest.
func (t *token) readClaims() error {
	if !decodeObject(t.raw[t.body:t.signed], &t.claims) {
		return errors.New("the token's payload is not a JSON object")
	}
	var ok bool
	if t.signature, ok = decodeBase64(t.raw[t.signed+1:]); !ok {
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
	return json.Unmarshal(text, v, lastWins) == nil
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

// text returns the string that v is.
func text(v jsontext.Value) (string, bool) {
	b, ok := unquoted(v)
	return string(b), ok
}

// unquoted returns the text of the string that v is, which may be a part of v.
func unquoted(v jsontext.Value) ([]byte, bool) {
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

// falsy reports whether JavaScript would take v, empty where absent, for false.
// The reference does without many a claim by that rule.
func falsy(v jsontext.Value) bool {
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

// lifetime is when a token is good, in seconds since 1970 as JWT has it.
type lifetime struct{ nbf, exp float64 }

// lifetime reads exp, nbf and iat. exp must be there; the others must be numbers
// where they are there.
func (c *claims) lifetime() (lifetime, error) {
	exp, ok := number(c.Exp)
	if !ok {
		return lifetime{}, errors.New("exp is no number")
	}
	if _, ok := number(c.Iat); !ok && len(c.Iat) > 0 {
		return lifetime{}, errors.New("iat is no number")
	}
	nbf, ok := number(c.Nbf)
	switch {
	case len(c.Nbf) == 0:
		nbf = math.Inf(-1)
	case !ok:
		return lifetime{}, errors.New("nbf is no number")
	}
	return lifetime{nbf, exp}, nil
}

// check reports whether now lies within the lifetime. Only whole seconds count,
// as in jose 6.
func (l lifetime) check(now time.Time, leeway time.Duration) error {
	seconds := float64(now.Unix())
	switch {
	case l.exp <= seconds-leeway.Seconds():
		return errors.New("the token has expired")
	case l.nbf > seconds+leeway.Seconds():
		return errors.New("the token is not valid yet")
	}
	return nil
}

// expires returns exp in whole seconds, rounded down.
func (l lifetime) expires() time.Time {
	const farAhead = 1 << 40 // past which time.Time would not follow
	return time.Unix(int64(min(math.Floor(l.exp), farAhead)), 0)
}
