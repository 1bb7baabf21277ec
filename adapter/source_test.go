package adapter_test

import (
	"os"
	"strings"
	"testing"
)

// functionLines counts the lines of the function whose source starts with start.
func functionLines(t *testing.T, file, start string) int {
	t.Helper()
	text, err := os.ReadFile(file)
	check(t, err)
	_, body, found := strings.Cut(string(text), start)
	if !found {
		return 0
	}
	body, _, _ = strings.Cut(body, "\n}\n")
	return strings.Count(body, "\n") + 2
}
