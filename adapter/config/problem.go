package config

import (
	"fmt"
	"slices"
	"strings"
)

// problem is one thing that is wrong with the configuration.
type problem struct {
	path string // of the key, such as stagedoor.listen; empty where it is no key's
	text string
}

type problems []problem

func (p *problems) add(path, format string, args ...any) {
	*p = append(*p, problem{path, fmt.Sprintf(format, args...)})
}

// addError adds each of the errors that err joins. Their texts already start
// with the key path.
func (p *problems) addError(err error) {
	if err == nil {
		return
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, one := range joined.Unwrap() {
			p.addError(one)
		}
		return
	}
	*p = append(*p, problem{text: err.Error()})
}

// within keeps the problems that lie under one of the keys, or are no key's.
func (p problems) within(keys ...string) problems {
	return slices.DeleteFunc(slices.Clone(p), func(one problem) bool {
		return one.path != "" && !slices.ContainsFunc(keys, func(key string) bool {
			return one.path == key || strings.HasPrefix(one.path, key+".") || strings.HasPrefix(one.path, key+"[")
		})
	})
}

// Error lists all problems, a line each, sorted by key path.
type Error struct{ lines []string }

func (e *Error) Error() string {
	if len(e.lines) == 1 {
		return "configuration: " + e.lines[0]
	}
	return fmt.Sprintf("configuration: %d problems\n  %s", len(e.lines), strings.Join(e.lines, "\n  "))
}

func (p problems) err() error {
	if len(p) == 0 {
		return nil
	}
	var lines []string
	for _, one := range p {
		if one.path == "" {
			lines = append(lines, one.text)
			continue
		}
		lines = append(lines, one.path+": "+one.text)
	}
	slices.Sort(lines)
	return &Error{slices.Compact(lines)}
}
