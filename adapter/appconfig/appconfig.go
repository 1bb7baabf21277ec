// Package appconfig reads Backstage's configuration files as
// @backstage/config-loader 1.11.5 does: YAML of version 1.2, merged in order, with
// ${NAME}, $env, $file and $include filled in, and the variables APP_CONFIG_* last.
//
// One thing it does otherwise: it fills in only the keys that somebody reads. A
// secret that no reader asks for need not be there, and a mistake counts only at a
// key that is read, above one, or below one.
//
// A variable that is not set leaves its key out, so that an earlier file's value
// stays. Under the keys that [Options.Strict] names it is a mistake instead.
//
// docs/operate/configuration.md lists every difference by name, and the files of
// testdata/appconfig hold this package to it: each has what Backstage makes of it.
package appconfig

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Keys is a tree of the keys that are read. A key without keys below it, a nil
// map, is read as a whole. In a list the tree counts for each element.
type Keys map[string]Keys

// Options say what to read, and from where.
type Options struct {
	// Files are merged in this order.
	Files []string
	// Environ is the environment as os.Environ lists it.
	Environ []string
	// Read are the keys that are read.
	Read Keys
	// Strict are top-level keys under which it is a mistake to name what is not there: a
	// variable that is not set, or a part of a file that it does not have.
	Strict []string
}

// Document is what was read.
type Document struct {
	// Values has the keys of Options.Read that are there, and no others.
	Values map[string]any
	// Top are the top-level keys of all files and variables, also those that are
	// not read, sorted.
	Top []string
	// LeftOut are the keys that are not there because what they name is not.
	LeftOut []Problem
}

// Problem is one thing that is wrong, or worth knowing.
type Problem struct {
	// Key is the path of the key, such as discovery.endpoints[0].target. It is
	// empty where a file as a whole is meant.
	Key string
	// Text says what is wrong. It quotes no value.
	Text string
}

// Read reads the files and the environment. Every problem is found at once. It is
// safe for concurrent use.
func Read(o Options) (Document, []Problem) {
	d := Document{Values: map[string]any{}}
	var found []Problem
	environment := variables(o.Environ)
	for _, file := range o.Files {
		root, err := readFile(file)
		if err != nil {
			found = append(found, Problem{Text: err.Error()})
			continue
		}
		r := resolver{env: environment, strict: o.Strict, file: file, shared: &shared{}}
		resolved := r.resolve(root, o.Read, "")
		found = append(found, r.shared.problems...)
		d.LeftOut = append(d.LeftOut, r.shared.leftOut...)
		d.Top = append(d.Top, r.shared.top...)
		object, isObject := resolved.(map[string]any)
		if !isObject && resolved != nil && len(r.shared.problems) == 0 {
			found = append(found, Problem{Text: file + ": want an object of keys"})
		}
		merge(d.Values, object)
	}
	last, problems := environmentKeys(o.Environ)
	for _, p := range problems {
		if o.Read.concern(strings.Split(p.Key, ".")) {
			found = append(found, p)
		}
	}
	for key := range last {
		d.Top = append(d.Top, key)
	}
	if kept, ok := pick(last, o.Read).(map[string]any); ok {
		merge(d.Values, kept)
	}
	slices.Sort(d.Top)
	d.Top = slices.Compact(d.Top)
	return d, found
}

// concern reports whether a key is read, or lies above or below one that is.
func (k Keys) concern(path []string) bool {
	for _, key := range path {
		if k == nil {
			return true
		}
		below, there := k[key]
		if !there {
			return false
		}
		k = below
	}
	return true
}

// pick leaves of a value only what is read.
func pick(value any, read Keys) any {
	if read == nil {
		return value
	}
	switch v := value.(type) {
	case []any:
		list := make([]any, len(v))
		for i := range v {
			list[i] = pick(v[i], read)
		}
		return list
	case map[string]any:
		object := map[string]any{}
		for key, below := range read {
			if element, there := v[key]; there {
				object[key] = pick(element, below)
			}
		}
		return object
	}
	return value
}

// merge puts from over into: objects are merged, anything else replaces what was
// there, and null takes it away.
func merge(into, from map[string]any) {
	for key, value := range from {
		above, isObject := value.(map[string]any)
		below, wasObject := into[key].(map[string]any)
		if isObject && wasObject {
			merge(below, above)
			continue
		}
		into[key] = value
	}
}

func readFile(path string) (any, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	value, err := parseYAML(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return value, nil
}

// Join is the path of a key in the object at path.
func Join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func element(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }
