// Package datafiles reads the JSON and YAML files that OPA takes into a bundle as
// data, with the place of each value, and holds them against the data.schema.json
// that stands beside them.
package datafiles

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	schemakind "github.com/santhosh-tekuri/jsonschema/v6/kind"
	"go.yaml.in/yaml/v3"
	"golang.org/x/text/language"
	"golang.org/x/text/message"

	"github.com/stagedoor/stagedoor/adapter/findings"
	"github.com/stagedoor/stagedoor/adapter/inventory"
	"github.com/stagedoor/stagedoor/adapter/offline"
)

// Files are the JSON and YAML files that OPA takes into a bundle as data.
type Files struct {
	Files   []File
	schemas []dataSchema
}

// A dataSchema is a data.schema.json, whether there is data beside it or not.
type dataSchema struct {
	under []string
	doc   map[string]any
}

// Described is whether a schema has a place for the path: what is there may be missing.
func (d *Files) Described(steps []string) bool {
	return slices.ContainsFunc(d.schemas, func(s dataSchema) bool {
		if len(steps) < len(s.under) || !slices.Equal(steps[:len(s.under)], s.under) {
			return false
		}
		at := any(s.doc)
		for _, step := range steps[len(s.under):] {
			schema, ok := at.(map[string]any)
			if !ok {
				return false
			}
			properties, _ := schema["properties"].(map[string]any)
			next, ok := properties[step]
			if additional, isSchema := schema["additionalProperties"].(map[string]any); !ok && isSchema {
				next, ok = additional, true
			}
			if _, refers := schema["$ref"]; refers || schema["patternProperties"] != nil && !ok {
				return true
			}
			if !ok {
				return false
			}
			at = next
		}
		return true
	})
}

// A File is a file of data, JSON or YAML, as it was parsed.
type File struct {
	Name  string   // as the PATH was given
	Under []string // the folders that are its path in data
	Root  *yaml.Node
	// Comments are the comments of a YAML file by line, without the sign.
	Comments map[int]string
}

// Read reads the data of a bundle, and holds each file against a data.schema.json
// beside it. What a schema says of the data of several bundles counts for the others, too.
func Read(l *findings.List, known *inventory.Inventory, sources *offline.Sources, others ...*offline.Sources) *Files {
	v := keywords{known: known}
	for _, other := range others {
		v.beside = append(v.beside, plainJSON(read(&findings.List{}, other, nil).Value()))
	}
	return read(l, sources, &v)
}

// read reads the data of a bundle, and holds it against schemas where v is not nil.
func read(l *findings.List, sources *offline.Sources, v *keywords) *Files {
	d := &Files{}
	files := sources.Files()
	_ = fs.WalkDir(files, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && strings.HasPrefix(entry.Name(), ".") && name != ".":
			return fs.SkipDir
		case entry.Name() == "data.schema.json" && !entry.IsDir():
			s := dataSchema{}
			if dir := path.Dir(name); dir != "." {
				s.under = strings.Split(dir, "/")
			}
			if text, err := fs.ReadFile(files, name); err == nil && json.Unmarshal(text, &s.doc) == nil {
				d.schemas = append(d.schemas, s)
			}
			return nil
		case entry.IsDir() || !slices.Contains([]string{"data.json", "data.yaml", "data.yml"}, entry.Name()):
			return nil
		}
		at := findings.Position{File: sources.Name(name)}
		text, err := fs.ReadFile(files, name)
		if err != nil {
			at.Row, at.Col = 1, 1
			l.Add(at, findings.Error, "data", "this cannot be read: %v", err)
			return nil
		}
		file := File{Name: at.File}
		if dir := path.Dir(name); dir != "." {
			file.Under = strings.Split(dir, "/")
		}
		var doc yaml.Node
		if err := yaml.Unmarshal(text, &doc); err != nil || len(doc.Content) == 0 {
			if err == nil {
				err = errors.New("it is empty")
			}
			at.Row, at.Col = rowOf(err), 1
			l.Add(at, findings.Error, "data", "this is no data: %s; write an object", strings.TrimPrefix(err.Error(), "yaml: "))
			return nil
		}
		file.Root = doc.Content[0]
		if file.Root.Kind != yaml.MappingNode {
			at.Row, at.Col = file.Root.Line, file.Root.Column
			l.Add(at, findings.Error, "data", "data is an object, this is not; write {\"name\": …}")
			return nil
		}
		checkTwice(l, file)
		if path.Ext(name) != ".json" {
			file.Comments = commentsOf(string(text))
		}
		d.checkOthers(l, file)
		d.Files = append(d.Files, file)
		if v != nil {
			checkSchema(l, *v, files, name, file)
		}
		return nil
	})
	return d
}

func commentsOf(text string) map[int]string {
	comments := map[int]string{}
	row := 0
	for line := range strings.Lines(text) {
		row++
		if _, comment, ok := strings.Cut(line, "#"); ok {
			comments[row] = strings.TrimSpace(comment)
		}
	}
	return comments
}

// Each visits the members of the data from above, and goes below where deeper says so.
func (d *Files) Each(deeper func(at findings.Position, steps []string) bool) {
	for _, file := range d.Files {
		var visit func(at *yaml.Node, steps []string)
		visit = func(at *yaml.Node, steps []string) {
			if at.Kind != yaml.MappingNode {
				return
			}
			for i := 0; i+1 < len(at.Content); i += 2 {
				key := at.Content[i]
				below := append(slices.Clone(steps), key.Value)
				if deeper(findings.Position{File: file.Name, Row: key.Line, Col: key.Column}, below) {
					visit(at.Content[i+1], below)
				}
			}
		}
		visit(file.Root, file.Under)
	}
}

// rowOf is the line that a YAML error names, or 1.
func rowOf(err error) int {
	row := 1
	if _, rest, ok := strings.Cut(err.Error(), "line "); ok {
		_, _ = fmt.Sscanf(rest, "%d", &row)
	}
	return row
}

// Has is whether the data has something at a path, and which names it has where the
// path leaves it.
func (d *Files) Has(steps []string) (bool, []string) {
	var beside []string
	for _, file := range d.Files {
		ok, names := d.find(file, steps)
		if ok {
			return true, nil
		}
		beside = append(beside, names...)
	}
	return false, beside
}

// At is the value at a path, or nil.
func (d *Files) At(steps []string) *yaml.Node {
	for _, file := range d.Files {
		if ok, _ := d.find(file, steps); ok && len(steps) >= len(file.Under) {
			return locate(file.Root, steps[len(file.Under):])
		}
	}
	return nil
}

func (d *Files) find(file File, steps []string) (bool, []string) {
	for i, name := range file.Under {
		if i == len(steps) {
			return true, nil
		}
		if steps[i] != name {
			return false, []string{name}
		}
	}
	at := file.Root
	for _, step := range steps[len(file.Under):] {
		if at.Kind == yaml.AliasNode {
			at = at.Alias
		}
		if at.Kind != yaml.MappingNode {
			return false, nil
		}
		var names []string
		var next *yaml.Node
		for i := 0; i+1 < len(at.Content); i += 2 {
			names = append(names, at.Content[i].Value)
			if at.Content[i].Value == step {
				next = at.Content[i+1]
			}
		}
		if next == nil {
			return false, names
		}
		at = next
	}
	return true, nil
}

// Value is all data as encoding/json would decode it.
func (d *Files) Value() map[string]any {
	all := map[string]any{}
	for _, file := range d.Files {
		var value any
		if err := file.Root.Decode(&value); err != nil {
			continue
		}
		at := all
		for _, name := range file.Under {
			next, ok := at[name].(map[string]any)
			if !ok {
				next = map[string]any{}
				at[name] = next
			}
			at = next
		}
		if members, ok := value.(map[string]any); ok {
			for name, member := range members {
				at[name] = member
			}
		}
	}
	return all
}

// checkSchema holds a data file against data.schema.json in its folder.
func checkSchema(l *findings.List, v keywords, files fs.FS, name string, file File) {
	beside := path.Join(path.Dir(name), "data.schema.json")
	text, err := fs.ReadFile(files, beside)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	schemaName := path.Join(path.Dir(file.Name), "data.schema.json")
	at := findings.Position{File: schemaName, Row: 1, Col: 1}
	var value any
	if err := file.Root.Decode(&value); err != nil {
		l.Add(findings.Position{File: file.Name, Row: 1, Col: 1}, findings.Error, "data", "this cannot be read: %v", err)
		return
	}
	value = plainJSON(value)
	var schema *jsonschema.Schema
	if err == nil {
		v.data = value
		schema, err = compileSchema(text, v.asserted())
	}
	if err != nil {
		l.Add(at, findings.Error, "schema", "this is no JSON Schema: %v", err)
		return
	}
	for _, cause := range leavesOf(invalidity(schema.Validate(value))) {
		steps, severity := cause.InstanceLocation, findings.Error
		if m, ok := cause.ErrorKind.(mistake); ok {
			steps = append(slices.Clone(steps), m.at...)
			if m.doubtful {
				severity = findings.Warning
			}
		}
		where := locate(file.Root, steps)
		l.Add(findings.Position{File: file.Name, Row: where.Line, Col: where.Column}, severity, "schema",
			"%s: %s, says %s",
			PathText(append(slices.Clone(file.Under), steps...)),
			cause.ErrorKind.LocalizedString(english), schemaName)
	}
}

var english = message.NewPrinter(language.English)

// invalidity is the validation error that err is, or nil.
func invalidity(err error) *jsonschema.ValidationError {
	invalid, _ := errors.AsType[*jsonschema.ValidationError](err)
	return invalid
}

// leavesOf are the innermost causes of a validation error, or none of nil. What the
// library says of the names of members has no place; memberNames says it with one.
func leavesOf(e *jsonschema.ValidationError) []*jsonschema.ValidationError {
	if e == nil {
		return nil
	}
	if _, ok := e.ErrorKind.(*schemakind.PropertyNames); ok {
		return nil
	}
	if len(e.Causes) == 0 {
		return []*jsonschema.ValidationError{e}
	}
	var leaves []*jsonschema.ValidationError
	for _, cause := range e.Causes {
		leaves = append(leaves, leavesOf(cause)...)
	}
	return leaves
}

// locate finds the node at a path, or the last one on the way.
func locate(root *yaml.Node, steps []string) *yaml.Node {
	at := root
	for _, step := range steps {
		if at.Kind == yaml.AliasNode {
			at = at.Alias
		}
		switch at.Kind {
		case yaml.MappingNode:
			found := false
			for i := 0; i+1 < len(at.Content); i += 2 {
				if at.Content[i].Value == step {
					at, found = at.Content[i+1], true
					break
				}
			}
			if !found {
				return at
			}
		case yaml.SequenceNode:
			index := -1
			if _, err := fmt.Sscanf(step, "%d", &index); err != nil || index < 0 || index >= len(at.Content) {
				return at
			}
			at = at.Content[index]
		default:
			return at
		}
	}
	return at
}

func compileSchema(text []byte, vocabulary *jsonschema.Vocabulary) (*jsonschema.Schema, error) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	const name = "urn:data.schema.json"
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft7)
	compiler.RegisterVocabulary(vocabulary)
	compiler.AssertVocabs()
	compiler.UseLoader(jsonschema.SchemeURLLoader{})
	if err := compiler.AddResource(name, doc); err != nil {
		return nil, err
	}
	return compiler.Compile(name)
}

// plainJSON makes of what YAML decodes what JSON would have been.
func plainJSON(value any) any {
	switch value := value.(type) {
	case map[string]any:
		for name, member := range value {
			value[name] = plainJSON(member)
		}
		return value
	case map[any]any:
		object := map[string]any{}
		for name, member := range value {
			object[fmt.Sprint(name)] = plainJSON(member)
		}
		return object
	case []any:
		for i, item := range value {
			value[i] = plainJSON(item)
		}
		return value
	case int:
		return float64(value)
	case int64:
		return float64(value)
	case uint64:
		return float64(value)
	}
	return value
}

var identifier = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// PathText is a path as the author writes it.
func PathText(path []string) string {
	text := "data"
	for _, step := range path {
		_, err := strconv.Atoi(step)
		switch {
		case err == nil:
			text += "[" + step + "]"
		case identifier.MatchString(step):
			text += "." + step
		default:
			text += fmt.Sprintf("[%q]", step)
		}
	}
	return text
}
