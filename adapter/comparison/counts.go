package comparison

import (
	"fmt"
	"strings"

	"github.com/stagedoor/stagedoor/adapter/report"
)

// Counts count changes by their kind.
type Counts struct {
	Breaks   int `json:"breaks"`
	Wider    int `json:"wider"`
	Narrower int `json:"narrower"`
	Other    int `json:"other"`
}

// Add counts n changes.
func (s *Counts) Add(c Change, n int) {
	switch c {
	case Breaks:
		s.Breaks += n
	case Wider:
		s.Wider += n
	case Narrower:
		s.Narrower += n
	case Other:
		s.Other += n
	}
}

// Has is whether there is a change of one of some kinds.
func (s Counts) Has(kinds ...Change) bool {
	n := 0
	for _, kind := range kinds {
		n += map[Change]int{Breaks: s.Breaks, Wider: s.Wider, Narrower: s.Narrower, Other: s.Other}[kind]
	}
	return n > 0
}

// String says what was found, what a reviewer must see first.
func (s Counts) String() string {
	var found []string
	for _, of := range []struct {
		n    int
		what Change
	}{{s.Breaks, Breaks}, {s.Wider, Wider}, {s.Other, Other}, {s.Narrower, Narrower}} {
		if of.n > 0 {
			found = append(found, fmt.Sprintf("%s %s", report.Thousands(of.n), of.what))
		}
	}
	if len(found) == 0 {
		return string(Same)
	}
	return strings.Join(found, ", ")
}
