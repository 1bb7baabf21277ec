package config

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/knadh/koanf/maps"
	"go.yaml.in/yaml/v3"
)

// environment looks up an environment variable, as os.LookupEnv does.
type environment func(string) (string, bool)

// loadFiles reads the files and merges them in order: a later file's objects are
// merged into those before, anything else of it replaces what stood there, as
// @backstage/config-loader does. Problems are collected, each with its place.
func loadFiles(paths []string, env environment) (map[string]any, problems) {
	merged := map[string]any{}
	var found problems
	for _, path := range paths {
		document, err := readYAML(path)
		if err != nil {
			found = append(found, problem{text: err.Error()})
			continue
		}
		r := resolver{env: env, file: path}
		resolved, _ := r.resolve(document, "").(map[string]any)
		found = append(found, r.problems...)
		maps.Merge(resolved, merged)
	}
	return merged, found
}

func readYAML(path string) (map[string]any, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var document map[string]any
	if err := yaml.Unmarshal(text, &document); err != nil {
		return nil, fmt.Errorf("%s: %s", path, where(err))
	}
	return document, nil
}

var lineNumber = regexp.MustCompile(`line \d+`)

// where says where a text is not what it should be, without quoting it: it may hold
// secrets.
func where(err error) string {
	if line := lineNumber.FindString(err.Error()); line != "" {
		return line + ": not valid"
	}
	return "not valid"
}

// resolver fills in what a configuration file leaves to its surroundings:
// ${NAME}, ${NAME:-fallback}, and the objects {$env: NAME}, {$file: path} and
// {$include: path#key.path}, as @backstage/config-loader 1.10 does.
type resolver struct {
	env      environment
	file     string
	depth    int // of files that include one another
	problems problems
}

// maxIncludes is how deep files may include one another.
const maxIncludes = 8

// missing stands for a value that is to be left out.
type missing struct{}

func (r *resolver) resolve(value any, at string) any {
	switch v := value.(type) {
	case string:
		return r.substitute(v, at)
	case []any:
		list := make([]any, 0, len(v))
		for i, element := range v {
			if resolved := r.resolve(element, at+"["+strconv.Itoa(i)+"]"); !isMissing(resolved) {
				list = append(list, resolved)
			}
		}
		return list
	case map[string]any:
		if directive, argument, ok := directiveOf(v); ok {
			return r.direct(directive, argument, at)
		}
		object := make(map[string]any, len(v))
		for key, element := range v {
			if resolved := r.resolve(element, join(at, key)); !isMissing(resolved) {
				object[key] = resolved
			}
		}
		return object
	}
	return value
}

func isMissing(v any) bool {
	_, is := v.(missing)
	return is
}

var variable = regexp.MustCompile(`\$?\$\{([^{}]+)\}`)

func (r *resolver) substitute(text, at string) any {
	absent := false
	filled := variable.ReplaceAllStringFunc(text, func(match string) string {
		if strings.HasPrefix(match, "$$") {
			return match[1:]
		}
		name, fallback, hasFallback := strings.Cut(strings.TrimSpace(match[2:len(match)-1]), ":-")
		if value, ok := r.env(strings.TrimSpace(name)); ok && value != "" {
			return value
		}
		if !hasFallback {
			absent = true
			r.note(at, "the environment variable %s is not set", name)
		}
		return fallback
	})
	if absent {
		return missing{}
	}
	return filled
}

func directiveOf(v map[string]any) (directive, argument string, ok bool) {
	if len(v) != 1 {
		return "", "", false
	}
	for key, value := range v {
		text, isText := value.(string)
		if isText && (key == "$env" || key == "$file" || key == "$include") {
			return key, text, true
		}
	}
	return "", "", false
}

func (r *resolver) direct(directive, argument, at string) any {
	if directive == "$env" {
		if value, ok := r.env(argument); ok {
			return value
		}
		r.note(at, "the environment variable %s is not set", argument)
		return missing{}
	}
	name, fragment, _ := strings.Cut(argument, "#")
	path := name
	if !filepath.IsAbs(path) {
		path = filepath.Join(filepath.Dir(r.file), path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		r.note(at, "%s: %v", directive, err)
		return missing{}
	}
	if directive == "$file" {
		return strings.TrimSpace(string(text))
	}
	return r.include(path, text, fragment, at)
}

func (r *resolver) include(path string, text []byte, fragment, at string) any {
	var value any
	parse := yaml.Unmarshal
	if filepath.Ext(path) == ".json" {
		parse = json.Unmarshal
	}
	if err := parse(text, &value); err != nil {
		r.note(at, "$include: %s: %s", path, where(err))
		return missing{}
	}
	for step := range strings.SplitSeq(fragment, ".") {
		if step == "" {
			continue
		}
		object, _ := value.(map[string]any)
		next, ok := object[step]
		if !ok {
			r.note(at, "$include: %s has no %s", path, fragment)
			return missing{}
		}
		value = next
	}
	if r.depth == maxIncludes {
		r.note(at, "$include: files include one another more than %d deep", maxIncludes)
		return missing{}
	}
	inner := resolver{env: r.env, file: path, depth: r.depth + 1}
	resolved := inner.resolve(value, at)
	r.problems = append(r.problems, inner.problems...)
	return resolved
}

func (r *resolver) note(at, format string, args ...any) {
	r.problems = append(r.problems, problem{path: at, text: fmt.Sprintf(format, args...)})
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
