package appconfig

import "testing"

// TestWhereQuotesNothing says what is wrong with a text that is no YAML, and never what
// stands in it.
func TestWhereQuotesNothing(t *testing.T) {
	for text, want := range map[string]string{
		"a: [":                     "line 1: not valid: did not find expected node content",
		"a: 1\n b: s3cret":         "line 2: not valid: mapping values are not allowed in this context",
		"a: 's3cret":               "not valid: found unexpected end of stream",
		"a:\n\t- s3cret":           "line 2: not valid: found character that cannot start any token",
		"a: {b: s3cret":            "line 1: not valid: did not find expected ',' or '}'",
		"a: *s3cret":               "not valid",
		"a: \"s3\\cret\"":          "not valid",
		"a: s3cret\ns3cret\nb: 1":  "line 2: not valid: could not find expected ':'",
		"a: !!s3cret<> [b\nc: 'd'": "not valid: did not find expected whitespace or line break",
	} {
		if _, err := parseYAML([]byte(text)); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}
