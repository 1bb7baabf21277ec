package origin

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"
)

// refused are the patterns of testdata/origins.json, of those that a person wrote, that
// are not read here.
var refused = []string{
	"https://[a.example.org", "https://[[:alpha:]].example.org", "https://!(a).example.org", "https://{a}.example.org",
	"https://{a,b.example.org", "https://a}.example.org", "https://@(a.example.org", "https://@(a/b).example.org",
	"https://@(a|).example.org", "https://ä.example.org", "#https://example.org", "!", "https://{01..03}.example.org",
	"https://{1..9..2}.example.org", "https://${X}.example.org", "https://../example.org", "https://[z-a].example.org",
	`https://a\`, "http://[[]::1]:3000",
}

// TestAsMinimatch holds the patterns to what minimatch makes of them, as it was
// recorded: by hand, and 400 that were drawn.
func TestAsMinimatch(t *testing.T) {
	text, err := os.ReadFile("../../testdata/origins.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Pattern string
		Origins map[string]bool
	}
	if err := json.Unmarshal(text, &cases); err != nil {
		t.Fatal(err)
	}
	read := 0
	for _, c := range cases {
		p, err := Compile(c.Pattern)
		if err != nil {
			continue
		}
		read++
		for origin, want := range c.Origins {
			if got := p.Match(origin); got != want {
				t.Errorf("%q with %q: %v, want %v", c.Pattern, origin, got, want)
			}
		}
	}
	if read < 300 {
		t.Errorf("only %d of %d patterns are read", read, len(cases))
	}
}

func TestRefused(t *testing.T) {
	for _, pattern := range refused {
		if _, err := Compile(pattern); err == nil {
			t.Errorf("%q is read", pattern)
		}
	}
}

// TestHugePatterns are read, or refused, and matched at once.
func TestHugePatterns(t *testing.T) {
	started := time.Now()
	for _, pattern := range []string{
		strings.Repeat("*(a|*b)", 50) + "c", strings.Repeat("{a,b}", 40), "{1..999999999}", strings.Repeat("?(a)", 200) + strings.Repeat("a", 200),
		strings.Repeat("@(", 500) + "a" + strings.Repeat(")", 500), strings.Repeat("{a,", 5000),
	} {
		if p, err := Compile(pattern); err == nil {
			p.Match(strings.Repeat("a", 500))
		}
	}
	if took := time.Since(started); took > 20*time.Second {
		t.Errorf("%v", took)
	}
}

func FuzzCompile(f *testing.F) {
	for _, pattern := range append(refused, "https://*.{a,b}.org", "!@(a|+(b|c))[!a-c]?") {
		f.Add(pattern, "https://a.example.org")
	}
	f.Fuzz(func(_ *testing.T, pattern, origin string) {
		if p, err := Compile(pattern); err == nil {
			p.Match(origin)
		}
	})
}
