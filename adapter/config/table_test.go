package config

import (
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/stagedoor/stagedoor/adapter/appconfig"
)

// TestTableNamesEveryKey holds the table of keys to the keys that are read: it has all
// of them, by their whole path, and no others.
func TestTableNamesEveryKey(t *testing.T) {
	page, err := os.ReadFile("../../docs/operate/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{}
	for _, row := range regexp.MustCompile(`(?m)^\| (\x60[a-z].*?) \| `).FindAllStringSubmatch(string(page), -1) {
		first := ""
		for _, match := range regexp.MustCompile("`([A-Za-z0-9.]+)`").FindAllStringSubmatch(row[1], -1) {
			key := match[1]
			if strings.HasPrefix(key, ".") {
				key = first[:strings.LastIndex(first, ".")] + key
			} else {
				first = key
			}
			if top, _, _ := strings.Cut(key, "."); top == "backend" || top == "discovery" || top == "stagedoor" || top == "opa" {
				named[key] = true
			}
		}
	}
	read := keysOf(reflect.TypeFor[document]())
	read[opaSection] = nil
	for _, key := range leaves(read, "") {
		found := false
		for at := key; at != ""; at = at[:max(0, strings.LastIndex(at, "."))] {
			found = found || named[at]
		}
		if !found {
			t.Errorf("the table does not name %s", key)
		}
	}
	for key := range named {
		if !isRead(read, strings.Split(key, ".")) {
			t.Errorf("the table names %s, which nobody reads", key)
		}
	}
	if len(named) < 30 {
		t.Errorf("%d keys are named", len(named))
	}
}

// leaves are the keys that have no keys below them.
func leaves(keys appconfig.Keys, at string) (all []string) {
	for key, below := range keys {
		path := appconfig.Join(at, key)
		if below == nil {
			all = append(all, path)
		}
		all = append(all, leaves(below, path)...)
	}
	return all
}

// isRead reports whether there is such a key.
func isRead(keys appconfig.Keys, path []string) bool {
	below, there := keys[path[0]]
	return there && (len(path) == 1 || isRead(below, path[1:]))
}
