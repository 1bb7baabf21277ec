package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// TestPagesNameEveryKey holds the documentation to name every key that is read.
func TestPagesNameEveryKey(t *testing.T) {
	var pages strings.Builder
	for _, name := range []string{"install.md", "operate/configuration.md", "operate/policies.md", "operate/remote-opa.md"} {
		text, err := os.ReadFile(filepath.Join("..", "..", "docs", filepath.FromSlash(name)))
		if err != nil {
			t.Fatal(err)
		}
		pages.Write(text)
	}
	keys := namesOf(reflect.TypeFor[document]())
	for _, key := range keys {
		if !strings.Contains(pages.String(), key) {
			t.Errorf("no page names %s", key)
		}
	}
	if len(keys) < 40 {
		t.Errorf("only %d keys", len(keys))
	}
}

// namesOf are the keys of a part of the configuration and of what is in it.
func namesOf(typ reflect.Type) (keys []string) {
	for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
		typ = typ.Elem()
	}
	if typ.Kind() != reflect.Struct {
		return nil
	}
	for field := range typ.Fields() {
		if name := field.Tag.Get("mapstructure"); name != "" {
			keys = append(keys, name)
		}
		keys = append(keys, namesOf(field.Type)...)
	}
	return keys
}
