package appconfig

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// resolver fills in what one file leaves to its surroundings.
type resolver struct {
	env    map[string]string
	strict []string
	file   string
	depth  int // of the inclusions that led here
	shared *shared
}

// shared is what all files that one file includes have in common.
type shared struct {
	problems []Problem
	leftOut  []Problem
	top      []string
	includes int
}

// So many files may be included in all, and so many one in the other.
const maxIncludes, maxDepth = 10_000, 64

// missing stands for a value that is to be left out.
type missing struct{}

func isMissing(v any) bool {
	_, is := v.(missing)
	return is
}

// The directives: objects of one key that stand for something else.
const (
	directiveEnv     = "$env"
	directiveFile    = "$file"
	directiveInclude = "$include"
)

// resolve returns the value at a key, as far as it is read.
func (r *resolver) resolve(value any, read Keys, at string) any {
	object, isObject := value.(map[string]any)
	if !isObject {
		return r.within(value, read, at)
	}
	switch directive, argument, err := directiveOf(object); {
	case err != nil:
		return r.wrong(at, "%v", err)
	case directive != "":
		return r.direct(directive, argument, read, at)
	}
	return r.within(value, read, at)
}

// within resolves a value that is no directive itself.
func (r *resolver) within(value any, read Keys, at string) any {
	switch v := value.(type) {
	case string:
		return r.substitute(v, at)
	case []any:
		list := make([]any, 0, len(v))
		for i, one := range v {
			if resolved := r.resolve(one, read, element(at, i)); !isMissing(resolved) {
				list = append(list, resolved)
			}
		}
		return list
	case map[string]any:
		if at == "" {
			r.shared.top = slices.AppendSeq(r.shared.top, maps.Keys(v))
		}
		object := make(map[string]any, len(v))
		for _, key := range slices.Sorted(maps.Keys(v)) {
			below, isRead := read[key]
			if read != nil && !isRead {
				continue
			}
			if resolved := r.resolve(v[key], below, Join(at, key)); !isMissing(resolved) {
				object[key] = resolved
			}
		}
		return object
	}
	return value
}

// directiveOf finds the directive that an object is, if it is one.
func directiveOf(object map[string]any) (directive, argument string, err error) {
	for _, key := range []string{directiveEnv, directiveFile, directiveInclude} {
		value, there := object[key]
		if !there {
			continue
		}
		if len(object) > 1 {
			return "", "", fmt.Errorf("%s stands beside other keys; it must be the only key of its object", key)
		}
		text, isText := value.(string)
		if !isText {
			return "", "", fmt.Errorf("%s wants a text", key)
		}
		return key, text, nil
	}
	return "", "", nil
}

func (r *resolver) direct(directive, argument string, read Keys, at string) any {
	filled, unset := r.fill(argument)
	if unset != nil {
		return r.wrong(at, "%s: %s", directive, unset)
	}
	switch directive {
	case directiveEnv:
		if value, ok := r.lookup(filled); ok {
			return value
		}
		return r.absent(at, unsetVariable{name: filled}.String())
	case directiveFile:
		text, err := os.ReadFile(r.beside(filled))
		if err != nil {
			return r.wrong(at, "%s: %v", directive, cause(err))
		}
		return strings.TrimRightFunc(string(text), isBlank)
	}
	return r.include(filled, read, at)
}

// include returns what another file, or the part of it after #, says.
func (r *resolver) include(argument string, read Keys, at string) any {
	name, part, _ := strings.Cut(argument, "#")
	path := r.beside(name)
	wrong := func(format string, args ...any) any {
		return r.wrong(at, "%s: %s: %s", directiveInclude, path, fmt.Sprintf(format, args...))
	}
	parse := parseYAML
	switch filepath.Ext(path) {
	case ".json":
		parse = parseJSON
	case ".yaml", ".yml":
	default:
		return wrong("want a file that ends in .yaml, .yml or .json")
	}
	if r.shared.includes++; r.shared.includes > maxIncludes || r.depth >= maxDepth {
		return wrong("files include one another without an end")
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return r.wrong(at, "%s: %v", directiveInclude, cause(err))
	}
	value, err := parse(text)
	if err != nil {
		return wrong("%v", err)
	}
	if part != "" {
		for step := range strings.SplitSeq(part, ".") {
			object, isObject := value.(map[string]any)
			if !isObject {
				return wrong("there is no object in which %s of #%s could be", step, part)
			}
			next, there := object[step]
			if !there {
				next = missing{}
			}
			value = next
		}
	}
	inner := resolver{env: r.env, strict: r.strict, file: path, depth: r.depth + 1, shared: r.shared}
	if isMissing(value) {
		return r.absent(at, fmt.Sprintf("%s: %s has no %s", directiveInclude, path, part))
	}
	// A directive as the whole of what is included is not filled in there either.
	return inner.within(value, read, at)
}

// beside is a path as this file means it.
func (r *resolver) beside(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(filepath.Dir(r.file), path)
}

func (r *resolver) substitute(text, at string) any {
	filled, unset := r.fill(text)
	switch {
	case unset == nil:
		return filled
	case unset.hasFallback:
		return r.leaveOut(at, unset.String())
	}
	return r.absent(at, unset.String())
}

// reference is ${NAME} or ${NAME:-fallback}, or one of them as text after a dollar.
var reference = regexp.MustCompile(`\$?\$\{[^{}]*\}`)

// unsetVariable is a reference that gives nothing.
type unsetVariable struct {
	name        string
	hasFallback bool // which is empty
}

func (u unsetVariable) String() string {
	if u.hasFallback {
		return fmt.Sprintf("the environment variable %s is not set, and its fallback is empty", u.name)
	}
	return fmt.Sprintf("the environment variable %s is not set", u.name)
}

// fill fills in the variables of a text, and returns the first that gives nothing.
func (r *resolver) fill(text string) (filled string, unset *unsetVariable) {
	filled = reference.ReplaceAllStringFunc(text, func(match string) string {
		if strings.HasPrefix(match, "$$") {
			return match[1:]
		}
		name, fallback, hasFallback := strings.Cut(match[2:len(match)-1], ":-")
		name = trim(name)
		value, ok := r.lookup(name)
		if hasFallback && value == "" {
			value = trim(fallback)
			ok = value != ""
		}
		if !ok && unset == nil {
			unset = &unsetVariable{name, hasFallback}
		}
		return value
	})
	return filled, unset
}

func (r *resolver) lookup(name string) (string, bool) {
	value, ok := r.env[name]
	return trim(value), ok
}

// absent leaves out what is not there, unless that is a mistake at this key.
func (r *resolver) absent(at, why string) any {
	for _, key := range r.strict {
		if at == key || strings.HasPrefix(at, key+".") || strings.HasPrefix(at, key+"[") {
			return r.wrong(at, "%s", why)
		}
	}
	return r.leaveOut(at, why)
}

func (r *resolver) leaveOut(at, why string) any {
	r.shared.leftOut = append(r.shared.leftOut, Problem{Key: at, Text: why})
	return missing{}
}

func (r *resolver) wrong(at, format string, args ...any) any {
	text := fmt.Sprintf(format, args...)
	if at == "" {
		text = r.file + ": " + text
	}
	r.shared.problems = append(r.shared.problems, Problem{Key: at, Text: text})
	return missing{}
}

// cause is an error of a file, without the name of the call that failed.
func cause(err error) error {
	if of, ok := errors.AsType[*fs.PathError](err); ok {
		return fmt.Errorf("%s: %w", of.Path, of.Err)
	}
	return err
}

// trim takes away what JavaScript's trim takes away.
func trim(text string) string { return strings.TrimFunc(text, isBlank) }

// isBlank is what JavaScript takes for white space.
func isBlank(r rune) bool {
	switch r {
	case '\t', '\n', '\v', '\f', '\r', ' ', 0xA0, 0x1680, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000, 0xFEFF:
		return true
	}
	return r >= 0x2000 && r <= 0x200A
}
