package matrix

import (
	"bytes"
	_ "embed" // for the page
	"encoding/json"
	"html/template"
)

//go:embed page.html
var pageSource string

var page = template.Must(template.New("page").Parse(pageSource))

// HTML is a page that needs nothing else: it calls no other host. It can be filtered and
// sorted, and follows the reader's light or dark mode. Every text is in it once, and it
// draws what is looked at, so that it stays small and quick for many people.
func (m *Matrix) HTML() (string, error) {
	shown, err := json.Marshal(m.shown()) // which escapes <, > and &
	if err != nil {
		return "", err
	}
	var b bytes.Buffer
	err = page.Execute(&b, struct {
		About About
		Shown template.JS
	}{m.About, template.JS(shown)})
	return b.String(), err
}

// shown is what the page shows. Callers, columns and answers have their numbers.
type shown struct {
	Callers []shownCallers `json:"callers"`
	// Columns are callers who may do the same.
	Columns [][]int       `json:"columns"`
	Answers []shownAnswer `json:"answers"`
	Rows    []shownRow    `json:"rows"`
}

// shownCallers are a class of callers.
type shownCallers struct {
	Name   string `json:"name"`
	People int    `json:"people,omitempty"`
	// Others are the people of the class beside whom it is named after.
	Others []string `json:"others,omitempty"`
}

type shownAnswer struct {
	Result  string `json:"result"`
	InWords string `json:"inWords,omitempty"`
}

// shownRow is permissions of a plugin that the same callers have.
type shownRow struct {
	Plugin      string   `json:"plugin"`
	Permissions []string `json:"permissions"`
	// Unnamed are those of them that no rule names.
	Unnamed []string `json:"unnamed,omitempty"`
	// Most is the answer of most columns, and Other are others, each before its columns.
	Most  int     `json:"most"`
	Other [][]int `json:"other,omitempty"`
}

func (m *Matrix) shown() shown {
	var s shown
	for _, column := range m.Columns {
		var classes []int
		for _, class := range column.Classes {
			of := shownCallers{Name: class.Name, People: class.People}
			for _, member := range class.Members {
				if member != class.Name {
					of.Others = append(of.Others, member)
				}
			}
			classes = append(classes, len(s.Callers))
			s.Callers = append(s.Callers, of)
		}
		s.Columns = append(s.Columns, classes)
	}
	for _, a := range m.Answers {
		s.Answers = append(s.Answers, shownAnswer{a.Result, a.InWords})
	}
	for _, plugin := range m.Plugins {
		for _, row := range plugin.Rows {
			s.Rows = append(s.Rows, row.shown(plugin.ID))
		}
	}
	return s
}

func (r Row) shown(plugin string) shownRow {
	s := shownRow{Plugin: plugin}
	for _, p := range r.Permissions {
		s.Permissions = append(s.Permissions, p.Name)
		if !p.Named {
			s.Unnamed = append(s.Unnamed, p.Name)
		}
	}
	at := make(map[int]int)
	var columns [][]int
	for c, answer := range r.Cells {
		i, ok := at[answer]
		if !ok {
			i = len(columns)
			at[answer] = i
			columns = append(columns, []int{answer})
		}
		columns[i] = append(columns[i], c)
	}
	most := 0
	for i := range columns {
		if len(columns[i]) > len(columns[most]) {
			most = i
		}
	}
	for i, of := range columns {
		if i == most {
			s.Most = of[0]
		} else {
			s.Other = append(s.Other, of)
		}
	}
	return s
}
