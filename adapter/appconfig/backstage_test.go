package appconfig

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

const folder = "../../testdata/appconfig"

// TestAsBackstage reads every case of testdata/appconfig and wants what Backstage
// makes of it, unless the case names a difference, which the page must name, and says
// what stagedoor makes of it. e2e/test/config.test.mjs holds the cases to Backstage.
func TestAsBackstage(t *testing.T) {
	cases, err := filepath.Glob(filepath.Join(folder, "*.txtar"))
	if err != nil || len(cases) < 60 {
		t.Fatalf("%d cases, %v", len(cases), err)
	}
	page, err := os.ReadFile("../../docs/operate/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	named := differencesOf(t, string(page))
	shown := map[string]bool{}
	for _, file := range cases {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			c := readCase(t, file)
			got := c.read(t)
			if c.difference == "" {
				if diff := cmp.Diff(c.backstage, got); diff != "" {
					t.Errorf("Backstage (-) and stagedoor (+):\n%s", diff)
				}
				return
			}
			shown[c.difference] = true
			if !named[c.difference] {
				t.Errorf("the page does not name the difference %q", c.difference)
			}
			if cmp.Equal(c.backstage, got) {
				t.Error("there is no difference")
			}
			if diff := cmp.Diff(c.stagedoor, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	for name := range named {
		if !shown[name] {
			t.Errorf("no case shows the difference %q", name)
		}
	}
}

// differencesOf are the names in the first column of the table under "Differences".
func differencesOf(t *testing.T, page string) map[string]bool {
	t.Helper()
	_, section, found := strings.Cut(page, "### Differences from Backstage's loader\n")
	if !found {
		t.Fatal("the page has no section on differences")
	}
	section, _, _ = strings.Cut(section, "\n#")
	named := map[string]bool{}
	for _, row := range regexp.MustCompile(`(?m)^\| ([^|]+) \|`).FindAllStringSubmatch(section, -1) {
		if name := strings.Trim(row[1], " `"); name != "name" && name != "---" {
			named[name] = true
		}
	}
	return named
}

// loaderCase is one case.
type loaderCase struct {
	files, environ       []string
	archive              *txtar.Archive
	backstage, stagedoor any // what each makes of it
	difference           string
}

func readCase(t *testing.T, file string) loaderCase {
	t.Helper()
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	c := loaderCase{archive: archive}
	for _, f := range archive.Files {
		switch text := strings.TrimSuffix(string(f.Data), "\n"); f.Name {
		case "files":
			c.files = strings.Split(text, "\n")
		case "env":
			for line := range strings.SplitSeq(text, "\n") {
				c.environ = append(c.environ, variable(t, line))
			}
		case "difference":
			c.difference = text
		case "backstage.json":
			c.backstage = decoded(t, f.Data)
		case "stagedoor.json":
			c.stagedoor = decoded(t, f.Data)
		}
	}
	return c
}

// variable is a line of the section env: NAME=value, or NAME: and the value in JSON.
func variable(t *testing.T, line string) string {
	t.Helper()
	name, quoted, isQuoted := strings.Cut(line, ": ")
	if !isQuoted || strings.Contains(name, "=") {
		return line
	}
	return name + "=" + decoded(t, []byte(quoted)).(string) //nolint:forcetypeassert // a case that is wrong fails
}

func decoded(t *testing.T, text []byte) any {
	t.Helper()
	var value any
	if err := json.Unmarshal(text, &value); err != nil {
		t.Fatal(err)
	}
	return value
}

// read is what this package makes of the case.
func (c loaderCase) read(t *testing.T) any {
	t.Helper()
	dir := t.TempDir()
	for _, f := range c.archive.Files {
		path := filepath.Join(dir, filepath.FromSlash(f.Name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, f.Data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(filepath.Join(folder, "read.json"))
	if err != nil {
		t.Fatal(err)
	}
	var read Keys
	if err := json.Unmarshal(text, &read); err != nil {
		t.Fatal(err)
	}
	o := Options{Environ: c.environ, Read: read, Strict: []string{"stagedoor", "opa"}}
	for _, name := range c.files {
		o.Files = append(o.Files, filepath.Join(dir, name))
	}
	d, problems := Read(o)
	if len(problems) > 0 {
		t.Log(problems)
		return map[string]any{"error": true}
	}
	encoded, err := json.Marshal(withoutNull(d.Values))
	if err != nil {
		t.Fatal(err)
	}
	return decoded(t, encoded)
}

// withoutNull leaves out the keys that are null, as Backstage does when it is asked
// for a whole object.
func withoutNull(value any) any {
	object, isObject := value.(map[string]any)
	if !isObject {
		return value
	}
	kept := map[string]any{}
	for key, one := range object {
		if one != nil && !reflect.DeepEqual(one, missing{}) {
			kept[key] = withoutNull(one)
		}
	}
	return kept
}

// TestBounds are files that would not end; Backstage's loader does not end with them.
func TestBounds(t *testing.T) {
	var laughs strings.Builder
	laughs.WriteString("x0: &x0 [a]\n")
	for i := range 30 {
		fmt.Fprintf(&laughs, "x%d: &x%d [*x%d, *x%d, *x%d]\n", i+1, i+1, i, i, i)
	}
	for name, text := range map[string]string{
		"an alias of what it stands in": "backend: &a {baseUrl: *a}",
		"aliases make the document":     laughs.String() + "backend: {baseUrl: *x30}",
		"without an end":                "backend: {$include: file.yaml}",
	} {
		path := filepath.Join(t.TempDir(), "file.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, problems := Read(Options{Files: []string{path}, Read: Keys{"backend": {"baseUrl": nil, "backend": nil}}})
		if len(problems) != 1 || !strings.Contains(problems[0].Text, name) {
			t.Errorf("%s: %v", name, problems)
		}
	}
}

// TestErrorsQuoteNothing holds errors to name places, not what stands there.
func TestErrorsQuoteNothing(t *testing.T) {
	for _, text := range []string{
		"backend: {baseUrl: !s3cret x}", "a: s3cret\nbackend: [s3cret", "backend: &s3cret {baseUrl: *s3cretx}",
		"s3cret: 1\ns3cret: 2", "a: &a s3cret\na: 's3cret\n", "s3cret\n---\ns3cret", "%s3cret\n---\na: 1",
	} {
		path := filepath.Join(t.TempDir(), "file.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, problems := Read(Options{Files: []string{path}, Read: Keys{"backend": nil}})
		if len(problems) != 1 || strings.Contains(problems[0].Text, "s3cret") {
			t.Errorf("%q: %v", text, problems)
		}
	}
}
