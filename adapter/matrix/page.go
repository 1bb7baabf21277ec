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
// sorted, and follows the reader's light or dark mode.
func (m *Matrix) HTML() (string, error) {
	cells, err := json.Marshal(m.Cells()) // which escapes <, > and &
	if err != nil {
		return "", err
	}
	var b bytes.Buffer
	err = page.Execute(&b, struct {
		About About
		Cells template.JS
	}{m.About, template.JS(cells)})
	return b.String(), err
}
