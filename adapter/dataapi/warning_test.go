package dataapi

import "testing"

// TestWarning tells of what is misspelt in an input, and of nothing that a plugin's
// request or the OPA wrapper module has.
func TestWarning(t *testing.T) {
	for body, want := range map[string]string{
		``:                                     "'input' key missing from the request",
		`{}`:                                   "'input' key missing from the request",
		`{"inptu":{}}`:                         "'input' key missing from the request",
		`{"input":{"permision":{"name":"a"}}}`: `input has no member "permision" where a plugin asks: permission?`,
		`{"input":{"permission":{"name":"a","attribute":{}}}}`:                                                                         `input.permission has no member "attribute" where a plugin asks: attributes?`,
		`{"input":{"permission":{"name":"a","attributes":{"verb":"read"}}}}`:                                                           "",
		`{"input":{"identity":{"user":"u","groups":[]}}}`:                                                                              "",
		`{"input":{"permission":{"name":"a"},"identity":{"user":"u","claims":["u"],"actor":"plugin:a"}}}`:                              "",
		`{"input":{"permission":{"name":"a","type":"resource","attributes":{"action":"read"},"resourceType":"r"},"resource":{"x":1}}}`: "",
		`{"input":{"permission":1}}`: "",
	} {
		input, err := inputDocument([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if w := warning(input); w != nil {
			got = w.Message
		}
		if got != want {
			t.Errorf("%s: %q, want %q", body, got, want)
		}
	}
}
