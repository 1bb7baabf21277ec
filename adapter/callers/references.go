package callers

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
)

// references notes where references occur in data. Two that occur in the same places are
// alike: the data are the same when one is put for the other.
//
// In a list of texts, a place is the list, since a policy that asks for an element by its
// place is told of. In a list of anything else, it is the element with what stands beside
// the reference: {"ref": @, "role": "admin"} is another place than {"ref": @, "role":
// "reader"}.
type references struct {
	mark func(text, where string)
	// placed is whether the policy asks for elements by their place, which is the list then
	// with the number of the element.
	placed bool
}

func (r *references) read(at string, value any) {
	switch value := value.(type) {
	case string:
		r.mark(value, at)
	case []any:
		for i, element := range value {
			if text, ok := element.(string); ok && r.placed {
				r.mark(text, fmt.Sprintf("%s[%d]", at, i))
			} else if ok {
				r.mark(text, at+"[]")
			} else {
				r.element(at, element)
			}
		}
	case map[string]any:
		for key, member := range value {
			if text, err := json.Marshal(member); err == nil && isRef(key) {
				r.mark(key, fmt.Sprintf("%s{}=%x", at, sha256.Sum256(text)))
			}
			r.read(at+fmt.Sprintf(".%q", key), member)
		}
	}
}

// largestElement is the size of an element of a list, as JSON, that is written for each
// reference in it. What stands in a larger one is alike nothing in another.
const largestElement = 500

// hole stands for a reference in what is written beside it. No JSON of data is like it.
type hole struct{}

// MarshalJSON writes what is no JSON of data.
func (hole) MarshalJSON() ([]byte, error) { return []byte(`{"":""}`), nil }

// element reads an element of a list that is no text.
func (r *references) element(at string, element any) {
	text, err := json.Marshal(element)
	if err != nil {
		return
	}
	if len(text) > largestElement {
		r.read(in(at, text), element)
		return
	}
	r.places(element, func(with any) string {
		text, err := json.Marshal(with)
		if err != nil {
			return at
		}
		return in(at, text)
	})
}

// in is a place in a list, as short for a long text as for a short one.
func in(list string, text []byte) string { return fmt.Sprintf("%s[%x]", list, sha256.Sum256(text)) }

// places reads what stands in an element. Whole writes the element with something else
// for what is read.
func (r *references) places(value any, whole func(with any) string) {
	switch value := value.(type) {
	case string:
		if isRef(value) {
			r.mark(value, whole(hole{}))
		}
	case []any:
		if texts, ok := sorted(value); ok && !r.placed { // in whatever order
			where := whole([]any{hole{}, texts})
			for _, text := range texts {
				r.mark(text, where)
			}
			return
		}
		for i, element := range value {
			r.places(element, func(with any) string {
				changed := slices.Clone(value)
				changed[i] = with
				return whole(changed)
			})
		}
	case map[string]any:
		for key, member := range value {
			beside := make(map[string]any, len(value))
			for other, of := range value {
				if other != key {
					beside[other] = of
				}
			}
			if isRef(key) {
				r.mark(key, whole([]any{hole{}, beside, member}))
			}
			r.places(member, func(with any) string {
				return whole([]any{beside, key, with})
			})
		}
	}
}

// sorted are the elements of a list of texts that are all references, in order.
func sorted(list []any) ([]string, bool) {
	var texts []string
	for _, element := range list {
		text, ok := element.(string)
		if !ok || !isRef(text) {
			return nil, false
		}
		texts = append(texts, text)
	}
	slices.Sort(texts)
	return texts, true
}
