package words_test

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/stagedoor/stagedoor/adapter/criteria"
	"github.com/stagedoor/stagedoor/adapter/words"
)

var (
	vocabulary = words.Vocabulary{
		{"IS_ENTITY_OWNER", "catalog-entity"}: template("owned by {claims}"),
		{"HAS_LABEL", "catalog-entity"}:       template("labelled {label}[={value}]"),
		{"HAS_SPEC", "catalog-entity"}:        template("with spec.{key}[={value}]"),
		{"IS_ENTITY_KIND", "catalog-entity"}:  template("of kind {kinds}"),
		{"IS_TASK_OWNER", "scaffolder-task"}:  template("created by {createdBy}"),
		{"IS_NOT_REQUESTER", "approval"}:      template("not requested by {userRef}"),
	}
	ann = words.Caller{User: "user:default/ann", Claims: []string{"user:default/ann", "group:default/web"}}
)

func template(text string) words.Template {
	t, err := words.Parse(text)
	if err != nil {
		panic(err)
	}
	return t
}

// TestCondition is testdata/conditions.txtar: a condition, and below it its words.
func TestCondition(t *testing.T) {
	archive, err := txtar.ParseFile("testdata/conditions.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for i, file := range archive.Files {
		condition, _, _ := strings.Cut(string(file.Data), "\n\n")
		got := condition + "\n\n" + vocabulary.Condition(read(t, condition), ann) + "\n"
		if diff := cmp.Diff(string(file.Data), got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", file.Name, diff)
		}
		archive.Files[i].Data = []byte(got)
	}
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile("testdata/conditions.txtar", txtar.Format(archive), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCase says two conditions in two ways where they differ in the case of letters alone.
func TestCase(t *testing.T) {
	bob := words.Caller{User: "user:default/Bob", Claims: []string{"user:default/Bob", "group:default/Web"}}
	for claims, want := range map[string]string{
		`"user:default/Bob", "group:default/Web"`: "owned by the caller or a group of the caller",
		`"user:default/bob", "group:default/web"`: "owned by the caller or a group of the caller in lower case",
		`"user:default/Bob"`:                      "owned by the caller",
		`"user:default/bob"`:                      "owned by the caller in lower case",
		`"USER:default/bob"`:                      "owned by USER:default/bob",
		`"user:default/Bob", "group:default/web"`: "owned by the caller or group:default/web",
	} {
		condition := `{"rule": "IS_ENTITY_OWNER", "resourceType": "catalog-entity", "params": {"claims": [` + claims + `]}}`
		if got := vocabulary.Condition(read(t, condition), bob); got != want {
			t.Errorf("%s: %s; want %s", claims, got, want)
		}
	}
}

// TestMarkup says a text with what HTML would take for its own as it is.
func TestMarkup(t *testing.T) {
	condition := `{"rule": "HAS_LABEL", "resourceType": "catalog-entity", "params": {"label": "a <b> & c"}}`
	const want = `labelled "a <b> & c"`
	if got := vocabulary.Condition(read(t, condition), words.Caller{}); got != want {
		t.Errorf("%s; want %s", got, want)
	}
}

func read(t *testing.T, text string) criteria.Criteria {
	t.Helper()
	switch text {
	case "always":
		return criteria.Criteria{Op: criteria.Always}
	case "never":
		return criteria.Criteria{}
	}
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	var document any
	if err := decoder.Decode(&document); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	c, err := criteria.Parse(document)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestOneClaim(t *testing.T) {
	bob := words.Caller{User: "user:default/bob", Claims: []string{"user:default/bob"}}
	for condition, want := range map[string]string{
		`{"rule":"IS_ENTITY_OWNER","resourceType":"catalog-entity","params":{"claims":["user:default/bob"]}}`:   "owned by the caller or a group of the caller",
		`{"rule":"IS_TASK_OWNER","resourceType":"scaffolder-task","params":{"createdBy":["user:default/bob"]}}`: "created by the caller",
	} {
		if got := vocabulary.Condition(read(t, condition), bob); got != want {
			t.Errorf("%q, want %q", got, want)
		}
		if got := vocabulary.Condition(read(t, condition), words.Caller{}); !strings.HasSuffix(got, " by user:default/bob") {
			t.Errorf("for nobody: %q", got)
		}
	}
}

func TestParse(t *testing.T) {
	for text, want := range map[string]string{
		"":             "one line",
		" x":           "one line",
		"x\ny":         "one line",
		"by {":         "a param is written {name}",
		"by {a b}":     "a param is written {name}",
		"by }":         "closes no {",
		"by [x":        "not closed",
		"by x]":        "closes no [",
		"by [x [y] z]": "inside of another",
	} {
		if _, err := words.Parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	if got := template("a {x} [b {y}{x}] {z}").Params(); !slices.Equal(got, []string{"x", "y", "z"}) {
		t.Error(got)
	}
}

func TestSame(t *testing.T) {
	for _, pair := range [][2]string{
		{"a, and not b", "not b,  and a"},
		{"(a, or b), and c", "c, and (a, or b)"},
		{`x "1, and 2", and b`, `b, and x "1, and 2"`},
	} {
		if !words.Same(pair[0], pair[1]) {
			t.Errorf("%q is not %q", pair[0], pair[1])
		}
	}
	for _, pair := range [][2]string{
		{"a, and b", "a, or b"},
		{"(a, or b), and c", "(a, and c), or b"},
		{`x "1, and 2"`, `2", and x "1`},
	} {
		if words.Same(pair[0], pair[1]) {
			t.Errorf("%q is %q", pair[0], pair[1])
		}
	}
}
