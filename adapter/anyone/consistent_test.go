package anyone

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
)

// TestExcludesNothingThatIs draws what is said of a text, and tries every short text. Where
// two sayings exclude each other, no text may be as both say.
func TestExcludesNothingThatIs(t *testing.T) {
	var texts []string
	for n := range 7 {
		for bits := range 1 << n {
			var b strings.Builder
			for i := range n {
				b.WriteByte("ab"[bits>>i&1])
			}
			texts = append(texts, b.String())
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	draw := func() fact {
		text := texts[random.IntN(15)]
		switch random.IntN(4) {
		case 0:
			return fact{is: ast.StringTerm(text)}
		case 1:
			return fact{test: ast.StartsWith.Name, text: text, not: random.IntN(2) == 0}
		case 2:
			return fact{test: ast.EndsWith.Name, text: text, not: random.IntN(2) == 0}
		}
		return fact{test: ast.Contains.Name, text: text, not: random.IntN(2) == 0}
	}
	says := func(f fact, text string) bool {
		if f.is != nil {
			return ast.String(text).Equal(f.is.Value)
		}
		return holdsOf(f.test, text, f.text) != f.not
	}
	excluded := 0
	for range 20_000 {
		f, g := draw(), draw()
		if !f.excludes(g) && !g.excludes(f) {
			continue
		}
		excluded++
		for _, text := range texts {
			if says(f, text) && says(g, text) {
				t.Fatalf("%+v and %+v exclude each other, and %q is both", f, g, text)
			}
		}
	}
	if excluded < 1_000 {
		t.Errorf("%d pairs exclude each other, which is too few to show anything", excluded)
	}
}

// TestBeginning holds what a pattern begins with to texts that it matches.
func TestBeginning(t *testing.T) {
	for _, tc := range []struct{ builtin, pattern, want string }{
		{ast.RegexMatch.Name, "^user:a", "user:a"}, {ast.RegexMatch.Name, "^group:.*-admins$", "group:"},
		{ast.RegexMatch.Name, "user:a", ""}, {ast.RegexMatch.Name, "^a|b", ""}, {ast.RegexMatch.Name, "(?i)^user:", ""},
		{ast.RegexMatch.Name, "^ab*", "a"}, {ast.RegexMatch.Name, "^(user|group):", ""}, {ast.RegexMatch.Name, "^", ""},
		{ast.RegexMatch.Name, "(?m)^user:", ""}, {ast.RegexMatch.Name, "[", ""}, {ast.RegexMatch.Name, "^a?b", ""},
		{ast.GlobMatch.Name, "group:a/*", "group:a/"}, {ast.GlobMatch.Name, `a\*b`, "a"}, {ast.GlobMatch.Name, "{a,b}", ""},
		{ast.GlobMatch.Name, "group:a", "group:a"}, {ast.GlobMatch.Name, "a?", "a"}, {ast.GlobMatch.Name, "a[b]", "a"},
	} {
		if got := beginning(tc.builtin, tc.pattern); got != tc.want {
			t.Errorf("%s %s: %q, want %q", tc.builtin, tc.pattern, got, tc.want)
		}
	}
}
