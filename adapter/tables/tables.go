// Package tables reads and runs decision tables: what a policy is expected to decide,
// in files *.decisions.yaml beside it.
//
//	callers: {ann: {user: "user:default/ann", groups: ["group:default/web"]}, anyone: {}}
//	resources: {shop: {file: shop.yaml}}
//	rows:
//	  - may: [catalog.entity.delete, catalog.entity.refresh]
//	    who: ann
//	    expect: "owned by the caller or a group of the caller"
//	  - {may: catalog.entity.delete, who: [ann, anyone], on: shop, expect: DENY, because: nobody deletes production}
//	never:
//	  - may: catalog.entity.delete
//	    when: {rule: HAS_SPEC, params: {key: lifecycle, value: production}}
//	    except: "group:default/platform"
//
// The schema rego/schemas/decisions.jsonschema describes it, for editors too. Lists
// multiply: a row is asked for each permission, caller and resource that it names, by
// the engine that serves.
//
// What a row expects is ALLOW, DENY or a condition. One in words is compared as words,
// one as criteria by what it means. On a resource, the decision is applied by the
// bodies of the rules. A row in never is asked of every class of callers that the
// policy can tell apart, and holds for all resources there can be: its condition and
// that of the decision must exclude each other.
package tables

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"github.com/stagedoor/stagedoor/adapter/criteria"
	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/inventory"
	"github.com/stagedoor/stagedoor/adapter/offline"
	"github.com/stagedoor/stagedoor/adapter/spelling"
	"github.com/stagedoor/stagedoor/rego"
)

// Suffix is what the names of decision tables end with.
const Suffix = ".decisions.yaml"

// A Table is one that was read.
type Table struct {
	// File is its name in the bundle.
	File      string
	Callers   map[string]decision.Caller
	Resources map[string]any
	Rows      []Row
	Never     []Never
}

// A Row is what is expected of some decisions.
type Row struct {
	Line         int
	May, Who, On []string
	// Expect is the text expected, where it is one.
	Expect string
	// Criteria are those expected, as JSON decodes them; nil where Expect says it.
	Criteria any
	Because  string
}

// Never is what nobody may.
type Never struct {
	Line   int
	May    []string
	When   any // criteria; nil for every resource
	Except []string
}

// An Error says what is wrong with a table.
type Error struct {
	File string
	Line int
	Text string
}

// Error returns file, line and text.
func (e *Error) Error() string { return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Text) }

// Files are the names of the tables of a bundle.
func Files(bundle fs.FS) ([]string, error) {
	var names []string
	err := fs.WalkDir(bundle, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && name != "." && strings.HasPrefix(entry.Name(), "."):
			return fs.SkipDir
		case !entry.IsDir() && strings.HasSuffix(name, Suffix):
			names = append(names, name)
		}
		return nil
	})
	return names, err
}

// names is one name or a list of them.
type names []string

// UnmarshalYAML reads a scalar as a list of one.
func (n *names) UnmarshalYAML(node *yaml.Node) error {
	if node.Kind == yaml.ScalarNode {
		*n = names{node.Value}
		return nil
	}
	return node.Decode((*[]string)(n))
}

type document struct {
	Callers map[string]struct {
		User      string   `yaml:"user"`
		Groups    []string `yaml:"groups"`
		Actor     string   `yaml:"actor"`
		SignedOut bool     `yaml:"signedOut"`
	} `yaml:"callers"`
	Resources map[string]yaml.Node `yaml:"resources"`
	Rows      []yaml.Node          `yaml:"rows"`
	Never     []yaml.Node          `yaml:"never"`
}

// Callers are the callers that the decision tables of policies name, each once, by the
// names in the order of the files. The error says which table cannot be read.
func Callers(policies ...*offline.Policy) ([]decision.Caller, error) {
	var all []decision.Caller
	known := make(map[string]bool)
	for _, p := range policies {
		files, err := Files(p.Files())
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			t, err := Read(p.Files(), file, p.Name(file))
			if err != nil {
				return nil, err
			}
			for _, name := range slices.Sorted(maps.Keys(t.Callers)) {
				c := t.Callers[name]
				if key := fmt.Sprintf("%t %q %q %q", c.Anonymous, c.User, c.Actor, c.Claims); !known[key] {
					known[key] = true
					all = append(all, c)
				}
			}
		}
	}
	return all, nil
}

// Read reads a table of a bundle, and the resources that it names. The error is an
// [*Error] with the name that a report calls the file by.
func Read(bundle fs.FS, file, called string) (*Table, error) {
	text, err := fs.ReadFile(bundle, file)
	if err != nil {
		return nil, err
	}
	var root, second yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	if err := decoder.Decode(&root); err != nil && !errors.Is(err, io.EOF) {
		return nil, unread(err, called)
	}
	if err := decoder.Decode(&second); err == nil {
		return nil, &Error{
			called, second.Line, "a second document, whose rows nobody would ask; write one only, or a file for each",
		}
	} else if !errors.Is(err, io.EOF) {
		return nil, unread(err, called)
	}
	if len(root.Content) == 0 {
		return nil, &Error{called, 1, "the table is empty: write rows"}
	}
	if err := validate(&root, called); err != nil {
		return nil, err
	}
	var d document
	if err := root.Decode(&d); err != nil {
		return nil, unread(err, called)
	}
	t := &Table{File: file, Callers: map[string]decision.Caller{}, Resources: map[string]any{}}
	for name, c := range d.Callers {
		if c.SignedOut && (c.User != "" || len(c.Groups) > 0 || c.Actor != "") {
			return nil, &Error{
				called, keyLine(&root, "callers", name),
				name + " is signed out, so it has no user, groups or actor",
			}
		}
		for _, ref := range append([]string{c.User}, c.Groups...) {
			if ref != "" && !inventory.IsReference(ref) {
				return nil, &Error{called, keyLine(&root, "callers", name), fmt.Sprintf(
					"%s: %q is no full entity reference in lower case, and no user of Backstage has it; write it as in "+
						"user:default/ann or group:default/web", name, ref)}
			}
		}
		caller := decision.Caller{Anonymous: c.SignedOut, User: c.User, Actor: c.Actor}
		if caller.User == "" && !c.SignedOut {
			caller.User = "user:default/" + name
		}
		if !c.SignedOut {
			caller.Claims = append([]string{caller.User}, c.Groups...)
		}
		t.Callers[name] = caller
	}
	for name, node := range d.Resources {
		if t.Resources[name], err = resource(bundle, file, &node); err != nil {
			return nil, &Error{called, node.Line, fmt.Sprintf("resource %s: %v", name, err)}
		}
	}
	if len(d.Rows)+len(d.Never) == 0 {
		return nil, &Error{called, 1, "the table asks nothing: write rows or never"}
	}
	err = t.rows(d, called)
	return t, err
}

func (t *Table) rows(d document, called string) error {
	for _, node := range d.Rows {
		var row struct {
			May     names     `yaml:"may"`
			Who     names     `yaml:"who"`
			On      names     `yaml:"on"`
			Expect  yaml.Node `yaml:"expect"`
			Because string    `yaml:"because"`
		}
		if err := node.Decode(&row); err != nil {
			return &Error{called, node.Line, err.Error()}
		}
		r := Row{Line: node.Line, May: row.May, Who: row.Who, On: row.On, Because: row.Because}
		if row.Expect.Kind == yaml.ScalarNode {
			r.Expect = strings.Join(strings.Fields(row.Expect.Value), " ")
		} else if err := decodeJSON(&row.Expect, &r.Criteria); err != nil {
			return &Error{called, row.Expect.Line, err.Error()}
		}
		for _, name := range r.Who {
			if _, ok := t.Callers[name]; !ok {
				return &Error{called, node.Line, unknown("caller", name, t.Callers)}
			}
		}
		for _, name := range r.On {
			if _, ok := t.Resources[name]; !ok {
				return &Error{called, node.Line, unknown("resource", name, t.Resources)}
			}
		}
		if len(r.On) > 0 && r.Expect != "ALLOW" && r.Expect != "DENY" {
			return &Error{called, node.Line, "on a resource the answer is ALLOW or DENY"}
		}
		t.Rows = append(t.Rows, r)
	}
	for _, node := range d.Never {
		var row struct {
			May    names     `yaml:"may"`
			When   yaml.Node `yaml:"when"`
			Except names     `yaml:"except"`
		}
		if err := node.Decode(&row); err != nil {
			return &Error{called, node.Line, err.Error()}
		}
		n := Never{Line: node.Line, May: row.May, Except: row.Except}
		for _, ref := range row.Except {
			if !inventory.IsReference(strings.ToLower(ref)) { // which are compared without regard to case
				return &Error{called, node.Line, fmt.Sprintf(
					"except: %q is no full entity reference, so that it is nobody; write it as in group:default/web", ref)}
			}
		}
		if row.When.Kind != 0 {
			if err := decodeJSON(&row.When, &n.When); err != nil {
				return &Error{called, row.When.Line, err.Error()}
			}
		}
		t.Never = append(t.Never, n)
	}
	return nil
}

func unknown[V any](what, name string, known map[string]V) string {
	var names []string
	for name := range known {
		names = append(names, name)
	}
	near := spelling.Meant(name, names)
	if near != "" {
		near = " (" + near + "?)"
	}
	return fmt.Sprintf("there is no %s %s%s in %ss", what, name, near, what)
}

// resource is a resource of a table: {file: …} beside the table, or the resource itself.
func resource(bundle fs.FS, table string, node *yaml.Node) (any, error) {
	var named struct {
		File string `yaml:"file"`
	}
	if len(node.Content) == 2 && node.Decode(&named) == nil && named.File != "" {
		text, err := fs.ReadFile(bundle, path.Join(path.Dir(table), named.File))
		if err != nil {
			return nil, err
		}
		return offline.ParseResource(text)
	}
	if len(node.Content) == 2 && node.Content[1].Kind == yaml.ScalarNode && spelling.Near(node.Content[0].Value, "file") {
		return nil, fmt.Errorf("has %s alone, which no resource is: write {file: …} with the name of a file",
			node.Content[0].Value)
	}
	var value any
	if err := decodeJSON(node, &value); err != nil {
		return nil, err
	}
	return value, nil
}

// decodeJSON decodes a node as encoding/json would decode the same in JSON.
func decodeJSON(node *yaml.Node, into *any) error {
	var value any
	if err := node.Decode(&value); err != nil {
		return err
	}
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	return decoder.Decode(into)
}

// unread is an error of the library that reads YAML.
func unread(err error, called string) *Error {
	text := strings.Join(strings.Fields(strings.TrimPrefix(err.Error(), "yaml: ")), " ")
	text = strings.TrimPrefix(text, "unmarshal errors: ")
	return &Error{called, lineOf(err), strings.TrimPrefix(text, fmt.Sprintf("line %d: ", lineOf(err)))}
}

// validate holds a table against its schema.
func validate(root *yaml.Node, called string) error {
	var value any
	if err := decodeJSON(root, &value); err != nil {
		return unread(err, called)
	}
	schema, err := jsonschema.UnmarshalJSON(strings.NewReader(rego.Schemas()["decisions"]))
	if err != nil {
		return err
	}
	const name = "urn:decisions"
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource(name, schema); err != nil {
		return err
	}
	compiled, err := compiler.Compile(name)
	if err != nil {
		return err
	}
	refused, ok := errors.AsType[*jsonschema.ValidationError](compiled.Validate(value))
	if !ok {
		return nil
	}
	wrong := refusalOf(refused, schema)
	return &Error{called, nodeLine(root, wrong.at), wrong.text}
}

// nodeLine is the line of what is at a path: of its name, where it has one.
func nodeLine(node *yaml.Node, path []string) int {
	if node.Kind == yaml.DocumentNode {
		node = node.Content[0]
	}
	line := node.Line
	for _, step := range path {
		for node.Kind == yaml.AliasNode {
			node = node.Alias
		}
		next, at := child(node, step)
		if next == nil {
			break
		}
		node, line = next, at
	}
	return line
}

// child is what has a name or a number in a node, and its line.
func child(node *yaml.Node, step string) (*yaml.Node, int) {
	switch node.Kind {
	case yaml.SequenceNode:
		if at, err := strconv.Atoi(step); err == nil && at < len(node.Content) {
			return node.Content[at], node.Content[at].Line
		}
	case yaml.MappingNode:
		for i := 0; i+1 < len(node.Content); i += 2 {
			if node.Content[i].Value == step {
				return node.Content[i+1], node.Content[i].Line
			}
		}
	}
	return nil, 0
}

func keyLine(root *yaml.Node, path ...string) int { return nodeLine(root, path) }

// lineOf is the line that a YAML error names, or 1.
func lineOf(err error) int {
	_, after, _ := strings.Cut(err.Error(), "line ")
	digits, _, _ := strings.Cut(after, ":")
	if line, err := strconv.Atoi(digits); err == nil {
		return line
	}
	return 1
}

// conditions are expected criteria for a caller and a type of resource: names that
// stand for the caller are filled in, and resource types that are left out.
func conditions(expected any, caller decision.Caller, resourceType string) (criteria.Criteria, error) {
	return criteria.Parse(filled(expected, caller, resourceType))
}

func filled(v any, caller decision.Caller, resourceType string) any {
	members, ok := v.(map[string]any)
	if !ok {
		return v
	}
	out := make(map[string]any, len(members))
	for name, member := range members {
		switch list, isList := member.([]any); {
		case name == "params":
			out[name] = aliased(member, caller)
		case isList:
			filledList := make([]any, len(list))
			for i, of := range list {
				filledList[i] = filled(of, caller, resourceType)
			}
			out[name] = filledList
		case name == "not":
			out[name] = filled(member, caller, resourceType)
		default:
			out[name] = member
		}
	}
	if _, leaf := out["rule"]; leaf && out["resourceType"] == nil {
		out["resourceType"] = resourceType
	}
	return out
}

// aliased puts the caller's references in the place of $user and $claims.
func aliased(v any, caller decision.Caller) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for name, member := range v {
			out[name] = aliased(member, caller)
		}
		return out
	case []any:
		out := make([]any, 0, len(v))
		for _, element := range v {
			if element == "$claims" {
				for _, claim := range caller.Claims {
					out = append(out, claim)
				}
				continue
			}
			out = append(out, aliased(element, caller))
		}
		return out
	case string:
		if v == "$user" {
			return caller.User
		}
	}
	return v
}
