package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// A target is code that is broken, and the tests that have to notice.
type target struct {
	packages []string // that are broken
	tests    []test
}

// A test is a run of some tests of one package.
type test struct {
	dir, pattern string
	args         []string
}

// targets are what mutants are held to tests of, by name. The checker of certificates is
// another thing: it takes explore and criteria.
var targets = map[string]target{
	"anyone": {
		packages: []string{
			"adapter/anyone", "adapter/anyone/call", "adapter/anyone/evaluation", "adapter/anyone/example",
			"adapter/anyone/scope", "adapter/anyone/theory", "adapter/anyone/valuation", "adapter/anyone/verdict",
		},
		tests: []test{
			{dir: "adapter/anyone", pattern: "^Test(May|Outside|Compare|Survey)$"},
			{dir: "soundness", pattern: "^TestAnyoneCo(llection|nstructs)$"},
			{dir: "soundness", pattern: "^TestAnyone$", args: []string{"-trials", "8000"}},
			{dir: "adapter/anyone", pattern: "."},
			{dir: "cmd/stagedoor", pattern: "^TestScripts$/^(matrix|diff|tables)$"},
		},
	},
	"alike": {
		packages: []string{"adapter/alike", "adapter/alike/flow", "adapter/alike/shape"},
		tests: []test{
			{dir: "adapter/alike/flow", pattern: "."},
			{dir: "soundness", pattern: "^TestAlikePolicies$"},
			{dir: "soundness", pattern: "^TestAlike$", args: []string{"-alike", "8000"}},
		},
	},
}

// tested breaks a target in so many ways, and wants its tests to fail each time.
func (r *run) tested(t target) error {
	overlay, err := r.mutate(t.packages...)
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(os.Stdout, "%d mutants can be made; they are being compiled\n", len(r.mutants))
	for _, test := range t.tests {
		out, err := command(context.Background(), ".", nil, "go", "test", "-c", "-overlay", overlay, "-o", r.binary(test),
			"./"+test.dir)
		if err != nil {
			return fmt.Errorf("go test: %w\n%.4000s", err, out)
		}
	}
	if by, out := r.noticed(t, 0); by != "" {
		return fmt.Errorf("%s fails without any mutant:\n%.4000s", by, out)
	}
	if err := r.readEquivalent(); err != nil {
		return err
	}
	chosen, err := r.choose.of(len(r.mutants))
	if err != nil {
		return err
	}
	for i, at := range chosen {
		m := r.mutants[at]
		by, out := r.noticed(t, at+1)
		said := "noticed by " + by + ": " + firstFailure(out)
		reason, known := r.equivalent[m.key()]
		switch {
		case by == "" && known:
			said = "equivalent: " + reason
			r.same++
		case by == "":
			said = "MISSED"
			r.missed++
		case known:
			return fmt.Errorf("%v is no equivalent, as %s says: %s", m, equivalents, said)
		default:
			r.caught++
		}
		_, _ = fmt.Fprintf(os.Stdout, "%3d  #%d %s: %s\n", i+1, at+1, m, said)
	}
	return nil
}

func (r *run) binary(t test) string { return r.at(strings.ReplaceAll(t.dir, "/", "_") + ".test") }

// noticed is which test fails with a mutant, and what it says.
func (r *run) noticed(t target, number int) (by, out string) {
	for _, test := range t.tests {
		out, err := r.mutant(number, test.dir, r.binary(test),
			append([]string{"-test.failfast", "-test.run", test.pattern}, test.args...)...)
		if err != nil {
			return test.dir, string(out) + err.Error()
		}
	}
	return "", ""
}

var failure = regexp.MustCompile(`(?m)^ *--- FAIL: (\S+)|^(panic|fatal error): .*`)

// firstFailure is the first line that says what failed.
func firstFailure(out string) string {
	if found := failure.FindAllString(out, -1); len(found) > 0 {
		return oneLine(found[len(found)-1])
	}
	return oneLine(out)
}

// equivalents has the mutants that change nothing that anybody could see, each with why:
// a line of the mutant, and below it indented lines.
const equivalents = "soundness/mutants/equivalent.txt"

// key is a mutant without its line, which changes with the file.
func (m mutant) key() string {
	file, _, _ := strings.Cut(m.place, ":")
	return filepath.ToSlash(file) + ": " + m.what
}

func (r *run) readEquivalent() error {
	text, err := os.ReadFile(equivalents)
	if err != nil {
		return err
	}
	made := make(map[string]bool)
	dirs := make(map[string]bool)
	for _, m := range r.mutants {
		made[m.key()] = true
		dirs[filepath.Dir(m.key())] = true
	}
	r.equivalent = make(map[string]string)
	last := ""
	for line := range strings.Lines(string(text)) {
		switch trimmed := strings.TrimSpace(line); {
		case trimmed == "", strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "\t"):
			r.equivalent[last] = strings.TrimSpace(r.equivalent[last] + " " + trimmed)
		default:
			last = trimmed
			r.equivalent[last] = ""
		}
	}
	for _, key := range slices.Sorted(maps.Keys(r.equivalent)) {
		if file, _, _ := strings.Cut(key, ": "); dirs[filepath.Dir(file)] && !made[key] {
			return fmt.Errorf("%s: there is no mutant %s", equivalents, key)
		}
	}
	return nil
}
