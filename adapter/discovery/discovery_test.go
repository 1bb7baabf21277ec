package discovery

import (
	"strings"
	"testing"
)

func TestBaseURL(t *testing.T) {
	d, err := New(Options{
		BaseURL: "http://127.0.0.1:7007/",
		Endpoints: []Endpoint{
			{Target: "https://early.internal/{{ pluginId }}", Plugins: []string{"todo"}},
			{Target: "http://todo.internal/x/{{pluginId}}/", Plugins: []string{"todo", "notes"}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]string{
		"catalog": "http://127.0.0.1:7007/api/catalog",
		"todo":    "http://todo.internal/x/todo",
		"notes":   "http://todo.internal/x/notes",
	} {
		if got, err := d.BaseURL(t.Context(), id); err != nil || got != want {
			t.Errorf("BaseURL(%q) = %q, %v; want %q", id, got, err, want)
		}
		if !ValidID(id) {
			t.Errorf("%q is the id of a plugin", id)
		}
	}
	for _, id := range []string{"", "../todo", "a/b", "todo?x", "a.b", "ü"} {
		if got, err := d.BaseURL(t.Context(), id); err == nil {
			t.Errorf("BaseURL(%q) = %q; want an error", id, got)
		}
		if ValidID(id) {
			t.Errorf("%q is no id of a plugin", id)
		}
	}
}

func TestCatchAllServesTheRest(t *testing.T) {
	d, err := New(Options{Endpoints: []Endpoint{
		{Target: "http://all/{{pluginId}}", Plugins: []string{"*"}},
		{Target: "http://one", Plugins: []string{"todo"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]string{"todo": "http://one", "catalog": "http://all/catalog"} {
		if got, _ := d.BaseURL(t.Context(), id); got != want {
			t.Errorf("BaseURL(%q) = %q; want %q", id, got, want)
		}
	}
}

func TestNewNamesEveryProblem(t *testing.T) {
	_, err := New(Options{BaseURL: "ftp://x", Endpoints: []Endpoint{
		{Target: "http://", Plugins: []string{"a"}},
		{Target: "http+srv://name:80/x"},
	}})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		"backend.baseUrl: ", "discovery.endpoints[0].target: ", "discovery.endpoints[1].target: ", "discovery.endpoints[1].plugins: ",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nlacks %q", err, want)
		}
	}
}

func TestTargetsThatCannotWork(t *testing.T) {
	for target, want := range map[string]string{
		"http://127.0.0.1:7007/x?k=secret": "without ? and #", "http://127.0.0.1:7007/#secret": "without ? and #",
		"http://127.0.0.1:7007/?": "without ? and #", "http://127.0.0.1:99999": "want 1 to 65535", "http://127.0.0.1:0": "want 1 to 65535",
		"http://me:secret@127.0.0.1:99999": "want 1 to 65535",
	} {
		_, err := New(Options{BaseURL: target})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", target, err)
		}
	}
}

func TestSpelling(t *testing.T) {
	d, err := New(Options{BaseURL: "http://127.0.0.1:7007", Endpoints: []Endpoint{
		{Target: "http://one", Plugins: []string{"azureSites", "Twice", "*"}},
		{Target: "http://two", Plugins: []string{"twice"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]string{
		"todo": "todo", "Todo": "todo", "TODO": "todo", "a-B_9": "a-b_9",
		"azureSites": "azureSites", "azuresites": "azureSites", "AZURESITES": "azureSites",
		"Twice": "Twice", "twice": "twice", "TWICE": "twice",
	} {
		if got := d.Spelling(id); got != want {
			t.Errorf("Spelling(%q) = %q; want %q", id, got, want)
		}
	}
}
