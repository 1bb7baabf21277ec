package installation

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

var (
	refName      = regexp.MustCompile(`^[a-zA-Z0-9]+([._-][a-zA-Z0-9]+)*$`)
	refNamespace = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
)

// mostRef is how long a name or namespace may be.
const mostRef = 63

// CheckRef says what of an entity reference the plugin would not take.
func CheckRef(ref string, kinds ...string) error {
	kind, rest, hasKind := strings.Cut(ref, ":")
	namespace, name, hasNamespace := strings.Cut(rest, "/")
	switch {
	case !hasKind || !hasNamespace:
		return fmt.Errorf("%q is no whole entity reference, such as %s:default/name", ref, kinds[0])
	case !slices.Contains(kinds, kind):
		return fmt.Errorf("%q is of kind %q; want %s", ref, kind, strings.Join(kinds, " or "))
	case !refName.MatchString(name) || len(name) > mostRef:
		return fmt.Errorf("the name in %q is not letters and digits with single dots, dashes or underscores between, "+
			"at most %d", ref, mostRef)
	case !refNamespace.MatchString(namespace) || len(namespace) > mostRef:
		return fmt.Errorf("the namespace in %q is not lower-case letters and digits with single dashes between, at "+
			"most %d", ref, mostRef)
	}
	return nil
}

// Lower is a reference in lower case, as JavaScript has it: of one capital it makes two
// letters.
func Lower(ref string) string { return strings.ToLower(strings.ReplaceAll(ref, "\u0130", "i\u0307")) }
