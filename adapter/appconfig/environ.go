package appconfig

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// prefix begins the names of variables that are keys.
const prefix = "APP_CONFIG_"

// keyPart is what may stand between the underscores of such a name.
var keyPart = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9]*(?:[-_:][A-Za-z0-9]+)*$`)

// variables is the environment by name.
func variables(environ []string) map[string]string {
	env := make(map[string]string, len(environ))
	for _, pair := range environ {
		name, value, _ := strings.Cut(pair, "=")
		if _, twice := env[name]; !twice {
			env[name] = value
		}
	}
	return env
}

// environmentKeys is what the variables APP_CONFIG_* say: the name is the key, with
// underscores for dots, and the value JSON, or else a text. Empty ones say nothing.
func environmentKeys(environ []string) (map[string]any, []Problem) {
	root := map[string]any{}
	var found []Problem
	for _, pair := range environ {
		name, text, _ := strings.Cut(pair, "=")
		key, is := strings.CutPrefix(name, prefix)
		if !is || text == "" {
			continue
		}
		path := strings.Split(key, "_")
		if err := put(root, path, text); err != nil {
			found = append(found, Problem{
				Key: strings.Join(path, "."), Text: fmt.Sprintf("the environment variable %s: %v", name, err),
			})
		}
	}
	return root, found
}

func put(object map[string]any, path []string, text string) error {
	for i, part := range path {
		if !keyPart.MatchString(part) {
			return fmt.Errorf("%q cannot be a key", part)
		}
		if i == len(path)-1 {
			break
		}
		if object[part] == nil {
			object[part] = map[string]any{}
		}
		below, isObject := object[part].(map[string]any)
		if !isObject {
			return fmt.Errorf("another variable gives %s a value that has no keys", strings.Join(path[:i+1], "."))
		}
		object = below
	}
	last := path[len(path)-1]
	if _, there := object[last]; there {
		return fmt.Errorf("another variable gives %s a value already", strings.Join(path, "."))
	}
	value, err := parseJSON([]byte(text))
	if err != nil {
		value = text
	}
	if value == nil {
		return errors.New("the value is null; to leave a key out, leave the variable out")
	}
	object[last] = value
	return nil
}
