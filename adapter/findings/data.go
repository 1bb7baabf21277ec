package findings

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	schemakind "github.com/santhosh-tekuri/jsonschema/v6/kind"
	"go.yaml.in/yaml/v3"
	"golang.org/x/text/language"
	"golang.org/x/text/message"

	"github.com/stagedoor/stagedoor/adapter/inventory"
	"github.com/stagedoor/stagedoor/adapter/offline"
)

// dataFiles are the JSON and YAML files that OPA takes into a bundle as data.
type dataFiles struct {
	files   []dataFile
	schemas []dataSchema
}

// A dataSchema is a data.schema.json, whether there is data beside it or not.
type dataSchema struct {
	under []string
	doc   map[string]any
}

// described is whether a schema has a place for the path: what is there may be missing.
func (d *dataFiles) described(steps []string) bool {
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

type dataFile struct {
	name  string   // as the PATH was given
	under []string // the folders that are its path in data
	root  *yaml.Node
	// comments are the comments of a YAML file by line, without the sign.
	comments map[int]string
}

// maxLeaves is how much of the data is read as a part of the policy: beyond that it
// is somebody's list, not an author's.
const maxLeaves = 50_000

// readData reads the data of a bundle, and holds each file against a data.schema.json
// beside it.
func readData(l *list, known *inventory.Inventory, sources *offline.Sources) *dataFiles {
	d := &dataFiles{}
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
		at := position{file: sources.Name(name)}
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		file := dataFile{name: at.file}
		if dir := path.Dir(name); dir != "." {
			file.under = strings.Split(dir, "/")
		}
		var doc yaml.Node
		if err := yaml.Unmarshal(text, &doc); err != nil || len(doc.Content) == 0 {
			if err == nil {
				err = errors.New("it is empty")
			}
			at.row, at.col = rowOf(err), 1
			l.add(at, Error, "data", "this is no data: %s; write an object", strings.TrimPrefix(err.Error(), "yaml: "))
			return nil
		}
		file.root = doc.Content[0]
		if path.Ext(name) != ".json" {
			file.comments = commentsOf(string(text))
		}
		d.files = append(d.files, file)
		checkSchema(l, known, files, name, file)
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

// each visits the members of the data from above, and goes below where deeper says so.
func (d *dataFiles) each(deeper func(at position, steps []string) bool) {
	for _, file := range d.files {
		var visit func(at *yaml.Node, steps []string)
		visit = func(at *yaml.Node, steps []string) {
			if at.Kind != yaml.MappingNode {
				return
			}
			for i := 0; i+1 < len(at.Content); i += 2 {
				key := at.Content[i]
				below := append(slices.Clone(steps), key.Value)
				if deeper(position{file.name, key.Line, key.Column}, below) {
					visit(at.Content[i+1], below)
				}
			}
		}
		visit(file.root, file.under)
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

// read makes the data a part of what a policy says.
func (d *dataFiles) read(r *reading) {
	leaves := 0
	for _, file := range d.files {
		n := r.data
		for _, name := range file.under {
			n = n.field(name)
		}
		readValue(r, file.name, file.root, n, &leaves)
	}
}

func readValue(r *reading, file string, value *yaml.Node, n *node, leaves *int) {
	*leaves++
	if *leaves > maxLeaves {
		return
	}
	at := position{file, value.Line, value.Column}
	switch value.Kind {
	case yaml.AliasNode:
		readValue(r, file, value.Alias, n, leaves)
	case yaml.SequenceNode:
		n.root().jsonTypes |= isList
		for _, item := range value.Content {
			// Each has a node of its own, so that a mistake is named where it stands.
			element := &node{}
			readValue(r, file, item, element, leaves)
			if item.Kind == yaml.ScalarNode && item.Tag == "!!str" {
				r.constants[len(r.constants)-1].member = true
			}
			unify(n.element(), element)
		}
	case yaml.MappingNode:
		n.root().jsonTypes |= isObject
		for i := 0; i+1 < len(value.Content); i += 2 {
			key, member := value.Content[i], value.Content[i+1]
			r.constants = append(r.constants, &constant{
				text: key.Value, at: position{file, key.Line, key.Column}, node: n.keys(), key: true,
			})
			readValue(r, file, member, n.field(key.Value), leaves)
		}
	case yaml.ScalarNode:
		n.root().jsonTypes |= map[string]jsonTypes{
			"!!str": isString, "!!int": isNumber, "!!float": isNumber, "!!bool": isBoolean, "!!null": isNull,
		}[value.Tag]
		if value.Tag == "!!str" {
			r.constants = append(r.constants, &constant{text: value.Value, at: at, node: n})
		}
	}
}

// has is whether the data has something at a path, and which names it has where the
// path leaves it.
func (d *dataFiles) has(steps []string) (bool, []string) {
	var beside []string
	for _, file := range d.files {
		ok, names := d.find(file, steps)
		if ok {
			return true, nil
		}
		beside = append(beside, names...)
	}
	return false, beside
}

func (d *dataFiles) find(file dataFile, steps []string) (bool, []string) {
	for i, name := range file.under {
		if i == len(steps) {
			return true, nil
		}
		if steps[i] != name {
			return false, []string{name}
		}
	}
	at := file.root
	for _, step := range steps[len(file.under):] {
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

// value is all data as encoding/json would decode it.
func (d *dataFiles) value() map[string]any {
	all := map[string]any{}
	for _, file := range d.files {
		var value any
		if err := file.root.Decode(&value); err != nil {
			continue
		}
		at := all
		for _, name := range file.under {
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
func checkSchema(l *list, known *inventory.Inventory, files fs.FS, name string, file dataFile) {
	beside := path.Join(path.Dir(name), "data.schema.json")
	text, err := fs.ReadFile(files, beside)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	schemaName := path.Join(path.Dir(file.name), "data.schema.json")
	at := position{file: schemaName, row: 1, col: 1}
	var value any
	if err := file.root.Decode(&value); err != nil {
		l.add(position{file.name, 1, 1}, Error, "data", "this cannot be read: %v", err)
		return
	}
	value = plainJSON(value)
	var schema *jsonschema.Schema
	if err == nil {
		schema, err = compileSchema(text, keywords{known: known, data: value}.asserted())
	}
	if err != nil {
		l.add(at, Error, "schema", "this is no JSON Schema: %v", err)
		return
	}
	for _, cause := range leavesOf(invalidity(schema.Validate(value))) {
		where := locate(file.root, cause.InstanceLocation)
		l.add(position{file.name, where.Line, where.Column}, Error, "schema", "%s: %s, says %s",
			pathText(append(slices.Clone(file.under), cause.InstanceLocation...)),
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
