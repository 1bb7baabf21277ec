package spelling

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func TestMeant(t *testing.T) {
	for _, tc := range []struct {
		name  string
		names []string
		want  string
	}{
		{"lisen", []string{"data", "listen"}, "listen"},
		{"nam", []string{"attributes", "name"}, "name"},
		{"DENYED", []string{"ALLOW", "DENY", "CONDITIONAL"}, "DENY"},
		{"allow", []string{"ALLOW", "DENY"}, "ALLOW"},
		// In one or two letters nothing may change but the case.
		{"a", []string{"b", "ab"}, ""},
		{"ab", []string{"AB", "b"}, "AB"},
		// One change in three to five.
		{"an", []string{"bob", "ann"}, "ann"},
		{"api", []string{"API", "Component"}, "API"},
		{"Apps", []string{"API", "Component"}, ""},
		{"raed", []string{"create", "delete", "read"}, "read"},
		// A quarter from twelve on.
		{"catalog.entities.read", []string{"catalog.entity.create", "catalog.entity.read"}, "catalog.entity.read"},
		{"catalog.entities.read", []string{"scaffolder.task.read"}, ""},
		// One of the names, or none of them.
		{"test", []string{"test", "tests"}, ""},
		{"anything", nil, ""},
		{"", []string{""}, ""},
		{"", []string{"a"}, ""},
		// As near as each other: the case, and then the alphabet.
		{"datq", []string{"DATA", "data"}, "data"},
		{"datas", []string{"datat", "datab"}, "datab"},
		// Letters count, not bytes.
		{"öä", []string{"öü"}, ""},
	} {
		if got := Meant(tc.name, tc.names); got != tc.want {
			t.Errorf("by %q of %q %q is meant, want %q", tc.name, tc.names, got, tc.want)
		}
	}
}

func TestNear(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		want bool
	}{
		{"test", "test", true},
		{"opa", "OPA", true},
		{"opa", "oap", true},
		{"opa", "poa!", false},
		{"tset", "test", true},
		{"stagdoor", "stagedoor", true},
		{"stage", "stagedoor", false},
		{"elevenlette", "elevenle", false},
		{"twelveletter", "twelvelet", true},
		{"twelveletter", "twelvele", false},
	} {
		if Near(tc.a, tc.b) != tc.want || Near(tc.b, tc.a) != tc.want {
			t.Errorf("%q is near %q: %v, and the other way round %v", tc.a, tc.b, Near(tc.a, tc.b), Near(tc.b, tc.a))
		}
	}
}

func TestNearest(t *testing.T) {
	if got := Nearest("ulr", []string{"tls", "url"}); got != "url" {
		t.Errorf("%q is nearest", got)
	}
	if got := Nearest("something", []string{"listen"}); got != "listen" {
		t.Errorf("%q is nearest, however far", got)
	}
	if got := Nearest("something", nil); got != "" {
		t.Errorf("of nothing %q is nearest", got)
	}
}

func TestChanges(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"", "abc", 3}, {"abc", "abc", 0}, {"abc", "abd", 1}, {"abc", "ac", 1}, {"abc", "bac", 1},
		{"kitten", "sitting", 3}, {"ca", "abc", 3}, {"größe", "grosse", 3}, {"abcdef", "badcfe", 3},
	} {
		if got, back := changes(tc.a, tc.b), changes(tc.b, tc.a); got != tc.want || back != tc.want {
			t.Errorf("from %q to %q there are %d changes, and back %d; want %d", tc.a, tc.b, got, back, tc.want)
		}
	}
}

// TestMeantIsNearest holds what is meant to the nearest of all names that are near, measured
// one by one.
func TestMeantIsNearest(t *testing.T) {
	draw := rand.New(rand.NewPCG(1, 2))
	drawn := func(longest int) string {
		letters := make([]rune, draw.IntN(longest+1))
		for i := range letters {
			letters[i] = []rune("aAö")[draw.IntN(3)]
		}
		return string(letters)
	}
	found := 0
	for range 20_000 {
		names := make([]string, draw.IntN(6))
		for i := range names {
			names[i] = drawn(14)
		}
		name := drawn(14)
		near := slices.DeleteFunc(slices.Clone(names), func(other string) bool { return !Near(name, other) })
		want := Nearest(name, near)
		if want == name {
			want = ""
		}
		if got := Meant(name, names); got != want {
			t.Fatalf("by %q of %q %q is meant, want %q", name, names, got, want)
		}
		if want != "" {
			found++
		}
	}
	if found < 1000 {
		t.Errorf("%d names were meant", found)
	}
}
