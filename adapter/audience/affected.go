package audience

import (
	"fmt"
	"strings"

	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/report"
)

// Affected are callers that a change is about. Criteria and words are those of the
// example; its references stand in them as "the caller".
type Affected struct {
	Example string `json:"example"`
	Count   int    `json:"count"`
	Class   string `json:"class"`
}

// Affected is the class as one that something is said about.
func (c Class) Affected() Affected {
	return Affected{Example: exampleOf(c.Example), Count: c.People, Class: c.Name}
}

func exampleOf(c decision.Caller) string {
	if c.Anonymous {
		return ""
	}
	return c.User
}

// People is how many people of the inventory they are.
func People(of []Affected) int {
	n := 0
	for _, c := range of {
		n += c.Count
	}
	return n
}

// mostNamed is how many classes of callers a line names.
const mostNamed = 4

// Names says who they are, in a line.
func Names(of []Affected) string {
	var names []string
	for i, c := range of {
		if i == mostNamed {
			names = append(names, fmt.Sprintf("%d more", len(of)-i))
			break
		}
		names = append(names, c.name())
	}
	text := names[0]
	if len(names) > 1 {
		text = strings.Join(names[:len(names)-1], "; ") + " and " + names[len(names)-1]
	}
	if n := People(of); n > 0 {
		text += fmt.Sprintf(" (%s)", report.Count(n, "person", "people"))
	}
	return text
}

func (a Affected) name() string {
	if a.Count > 1 && a.Class == a.Example {
		return fmt.Sprintf("%s and %d alike", a.Class, a.Count-1)
	}
	return a.Class
}
