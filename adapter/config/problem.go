package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/stagedoor/stagedoor/adapter/appconfig"
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
	text := err.Error()
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		text = strings.Replace(text, wrong.Error(), ofType(wrong), 1)
	}
	*p = append(*p, problem{text: text})
}

// ofType says in words of JSON that a value is of another type than it is to be.
func ofType(wrong *json.UnmarshalTypeError) string {
	field := wrong.Field[strings.LastIndexByte(wrong.Field, '.')+1:]
	if field != "" {
		field += ": "
	}
	want := "an object"
	switch wrong.Type.Kind() {
	case reflect.String:
		want = "a text"
	case reflect.Bool:
		want = "true or false"
	case reflect.Slice, reflect.Array:
		want = "a list"
	case reflect.Map, reflect.Struct, reflect.Pointer, reflect.Interface:
	default:
		want = "a number"
	}
	value, _, _ := strings.Cut(wrong.Value, " ") // of a number the type alone
	return fmt.Sprintf("%swant %s, have JSON of type %s", field, want, value)
}

// Error lists all problems, a line each, sorted by key path.
type Error struct{ lines []string }

func (e *Error) Error() string {
	if len(e.lines) == 1 {
		return "configuration: " + e.lines[0]
	}
	return fmt.Sprintf("configuration: %d problems\n  %s", len(e.lines), strings.Join(e.lines, "\n  "))
}

// err is all problems as one error. What was left out is told where it is missing.
func (p problems) err(leftOut []appconfig.Problem) error {
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
	for i, line := range lines {
		for _, left := range leftOut {
			if strings.HasPrefix(line, left.Key+":") {
				lines[i] += "; it was left out because " + left.Text
				break
			}
		}
	}
	slices.Sort(lines)
	return &Error{slices.Compact(lines)}
}
