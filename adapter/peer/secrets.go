package peer

import (
	"regexp"
	"strings"
)

// Where a URL can hold a secret: a user's password, and the query, by which
// stores of objects are given signatures. In quotes it ends where they do.
var (
	userinfo    = regexp.MustCompile(`://[^/\s"]+@`)
	quotedQuery = regexp.MustCompile(`("[^"\s]*://[^"?]+)\?(?:[^"\\\n]|\\.)*"`)
	bareQuery   = regexp.MustCompile(`(://[^\s"?]+)\?[^\s"]+`)
)

// Tokens as they stand in texts: JSON Web Tokens, and heads of such; and in a path
// from outside whatever is as long as one.
var (
	webToken = regexp.MustCompile(`eyJ[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]*)*`)
	longPart = regexp.MustCompile(`[A-Za-z0-9_-]{24,}|eyJ[A-Za-z0-9_.-]*`)
)

// WithoutSecrets takes out of a text what a URL in it should not show.
func WithoutSecrets(text string) string {
	text = userinfo.ReplaceAllString(text, "://…@")
	text = quotedQuery.ReplaceAllString(text, `$1?…"`)
	return bareQuery.ReplaceAllString(text, "$1?…")
}

// WithoutTokens takes out of a foreign text what may be a token.
func WithoutTokens(text string) string { return webToken.ReplaceAllLiteralString(text, "[token]") }

// Path is the start of a path from outside, as a log may show it: without what could
// be a token.
func Path(path string) string {
	const most = 200
	if len(path) > most {
		path = path[:most] + "…"
	}
	return longPart.ReplaceAllLiteralString(path, "[…]")
}

// maxText is what an error keeps of a foreign text, in bytes.
const maxText = 300

// Shorten cuts a foreign text down to what an error has room for.
func Shorten(text string) string {
	if len(text) <= maxText {
		return text
	}
	return strings.ToValidUTF8(text[:maxText], "") + "…"
}
