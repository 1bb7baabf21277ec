package wire

import "regexp"

// Where a URL can hold a secret: a user's password, and the query, by which
// stores of objects are given signatures. In quotes it ends where they do.
var (
	userinfo    = regexp.MustCompile(`://[^/\s"]+@`)
	quotedQuery = regexp.MustCompile(`("[^"\s]*://[^"?]+)\?(?:[^"\\\n]|\\.)*"`)
	bareQuery   = regexp.MustCompile(`(://[^\s"?]+)\?[^\s"]+`)
)

// WithoutSecrets takes out of a text what a URL in it should not show.
func WithoutSecrets(text string) string {
	text = userinfo.ReplaceAllString(text, "://…@")
	text = quotedQuery.ReplaceAllString(text, `$1?…"`)
	return bareQuery.ReplaceAllString(text, "$1?…")
}
