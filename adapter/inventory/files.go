package inventory

import (
	"bufio"
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/stagedoor/stagedoor/adapter/spelling"
)

//go:embed stock/permissions.json stock/rules.json
var embedded embed.FS

var stockFiles = func() fs.FS {
	files, err := fs.Sub(embedded, "stock")
	if err != nil { // fs.Sub refuses invalid paths alone, and this one is a constant.
		panic(err)
	}
	return files
}()

// The files of an inventory.
const (
	permissionsFile = "permissions.json"
	rulesFile       = "rules.json"
	peopleFile      = "people.json"
	groupsFile      = "groups.json"
	entitiesFile    = "entities.jsonl"
)

// Load reads the inventory in a directory. Permissions and rules that it has no
// file for are the stock ones.
//
// The error names the file, and says what is wrong with it.
func Load(dir string) (*Inventory, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("inventory: %w", err)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("inventory: %s is a file; name the directory that has %s", dir, permissionsFile)
	}
	i, err := read(os.DirFS(dir))
	if err == nil {
		err = isInventory(os.DirFS(dir))
	}
	if err != nil {
		return nil, fmt.Errorf("inventory: %s%c%w", dir, filepath.Separator, err)
	}
	if i.Permissions == nil {
		i.Permissions = Stock().Permissions
	}
	if i.Rules == nil {
		i.Rules = Stock().Rules
	}
	i.Source = dir
	return i, nil
}

// isInventory reports a directory without any file of an inventory, and files whose names
// are nearly those. Errors begin with the name of a file.
func isInventory(files fs.FS) error {
	names := []string{permissionsFile, rulesFile, peopleFile, groupsFile, entitiesFile}
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		return plain(err)
	}
	there := make(map[string]bool)
	known := false
	for _, entry := range entries {
		there[entry.Name()] = true
		known = known || slices.Contains(names, entry.Name())
	}
	for _, entry := range entries {
		name := entry.Name()
		if entry.IsDir() || !slices.Contains([]string{".json", ".jsonl", ".yaml", ".yml"}, filepath.Ext(name)) ||
			name == "roles.json" { // which is near to rules.json, and a name of its own
			continue
		}
		for _, meant := range names {
			sameStem := strings.TrimSuffix(name, filepath.Ext(name)) == strings.TrimSuffix(meant, filepath.Ext(meant))
			if !there[meant] && (sameStem || spelling.Meant(name, []string{meant}) != "") {
				return fmt.Errorf("%s: no inventory has a file of this name; call it %s", name, meant)
			}
		}
	}
	if !known {
		return fmt.Errorf("%s: it is not there, nor is %s; write one of them, or have stagedoor inventory pull write all",
			permissionsFile, strings.Join(names[1:], " or "))
	}
	return nil
}

// read reads what files there are. Errors begin with the name of the file.
func read(files fs.FS) (*Inventory, error) {
	i := &Inventory{}
	for name, into := range map[string]any{
		permissionsFile: &i.Permissions, rulesFile: &i.Rules, peopleFile: &i.People, groupsFile: &i.Groups,
	} {
		text, err := fs.ReadFile(files, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = jsonv2.Unmarshal(text, into, jsonv2.RejectUnknownMembers(true))
		}
		if err == nil && reflect.ValueOf(into).Elem().IsNil() {
			err = errors.New("it is null; leave the file out where nothing is known")
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, plain(err))
		}
	}
	if err := i.readEntities(files); err != nil {
		return nil, fmt.Errorf("%s: %w", entitiesFile, err)
	}
	i.sort()
	err := i.validate()
	return i, err
}

// plain leaves the library's name out of its errors.
func plain(err error) error {
	if pathError, ok := errors.AsType[*fs.PathError](err); ok {
		return pathError.Err
	}
	if wrong, ok := errors.AsType[*jsonv2.SemanticError](err); ok && wrong.Err == nil && wrong.GoType != nil {
		where := string(wrong.JSONPointer)
		if where == "" {
			where = "it"
		}
		return fmt.Errorf("%s is %s; write %s", where, kindOf(wrong.JSONKind), typeOf(wrong.GoType))
	}
	return errors.New(strings.TrimPrefix(strings.TrimPrefix(err.Error(), "json: "), "jsontext: "))
}

// kindOf is a kind of JSON in its own words.
func kindOf(k jsontext.Kind) string {
	switch k {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a string"
	case '0':
		return "a number"
	}
	return k.String()
}

// typeOf is what JSON calls what is decoded as a type.
func typeOf(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Struct, reflect.Map:
		return "an object"
	case reflect.Slice:
		return "an array"
	}
	return "a string"
}

func (i *Inventory) readEntities(files fs.FS) error {
	file, err := files.Open(entitiesFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return plain(err)
	}
	defer func() { _ = file.Close() }()
	lines := bufio.NewReader(file)
	for row := 1; ; row++ {
		line, err := lines.ReadBytes('\n')
		if len(bytes.TrimSpace(line)) > 0 {
			var entity map[string]any
			decoder := json.NewDecoder(bytes.NewReader(line))
			decoder.UseNumber()
			if err := decoder.Decode(&entity); err != nil {
				return fmt.Errorf("line %d: must be an entity, a JSON object on one line: %w", row, err)
			}
			if entity == nil {
				return fmt.Errorf("line %d: must be an entity, a JSON object on one line; it is null", row)
			}
			i.Entities = append(i.Entities, entity)
		}
		if err != nil { // io.EOF, or what the next look at the file would say again
			return nil
		}
	}
}

var entityRef = regexp.MustCompile(`^[^\p{Lu}:/\s]+:[^\p{Lu}:/\s]+/[^\p{Lu}:/\s]+$`)

// IsReference reports whether a text has the form in which Backstage itself writes entity
// references, in claims too: whole, and in lower case. It is safe for concurrent use.
func IsReference(text string) bool { return entityRef.MatchString(text) }

// validate reports the first thing that is wrong with the inventory. Errors begin
// with the name of the file.
func (i *Inventory) validate() error {
	names := map[string]bool{}
	for n, p := range i.Permissions {
		at := fmt.Sprintf("%s: permission %d (%s)", permissionsFile, n+1, p.Name)
		switch {
		case p.Name == "":
			return fmt.Errorf("%s: a permission has no name", permissionsFile)
		case names[p.Name]:
			return fmt.Errorf("%s: is there twice", at)
		case p.Type != "basic" && p.Type != "resource":
			return fmt.Errorf("%s: type is %q; write basic or resource", at, p.Type)
		case (p.Type == "resource") != (p.ResourceType != ""):
			return fmt.Errorf("%s: a permission has a resourceType exactly where its type is resource", at)
		case !slices.Contains([]string{"", "create", "read", "update", "delete"}, p.Attributes.Action):
			return fmt.Errorf("%s: attributes.action is %q; write create, read, update or delete, or leave it out", at,
				p.Attributes.Action)
		}
		names[p.Name] = true
	}
	type key struct{ plugin, resourceType, name string }
	rules := map[key]bool{}
	for _, r := range i.Rules {
		k := key{r.PluginID, r.ResourceType, r.Name}
		switch {
		case r.PluginID == "" || r.ResourceType == "" || r.Name == "":
			return fmt.Errorf("%s: rule %q needs pluginId, resourceType and name", rulesFile, r.Name)
		case rules[k]:
			return fmt.Errorf("%s: rule %s of %s is there twice", rulesFile, r.Name, r.ResourceType)
		}
		rules[k] = true
		if _, err := r.Schema(); err != nil {
			return fmt.Errorf("%s: %w", rulesFile, err)
		}
	}
	for file, refs := range map[string][]string{
		peopleFile: slices.Sorted(maps.Keys(i.People)), groupsFile: slices.Sorted(maps.Keys(i.Groups)),
	} {
		for _, ref := range refs {
			if !IsReference(ref) {
				return fmt.Errorf("%s: %q is no full entity reference in lower case, such as user:default/ann", file, ref)
			}
		}
	}
	return nil
}

// Write writes the inventory into the directory, which is made where it is not
// there: permissions and rules always, the rest where it is known. Equal
// inventories become equal files.
func (i *Inventory) Write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // it is for the author's repository
		return err
	}
	sorted := &Inventory{Permissions: slices.Clone(i.Permissions), Rules: slices.Clone(i.Rules)}
	sorted.sort()
	for n, r := range sorted.Rules {
		schema, err := canonical(r.ParamsSchema)
		if err != nil {
			return fmt.Errorf("paramsSchema of %s: %w", r.Name, err)
		}
		sorted.Rules[n].ParamsSchema = schema
	}
	files := map[string]any{
		permissionsFile: append([]Permission{}, sorted.Permissions...), rulesFile: append([]Rule{}, sorted.Rules...),
	}
	if i.People != nil {
		files[peopleFile] = i.People
	}
	if i.Groups != nil {
		files[groupsFile] = i.Groups
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		text, err := document(files[name])
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := writeFile(filepath.Join(dir, name), text); err != nil {
			return err
		}
	}
	if i.Entities == nil {
		return nil
	}
	var lines bytes.Buffer
	for _, entity := range i.Entities {
		if err := encoder(&lines).Encode(entity); err != nil {
			return fmt.Errorf("%s: %w", entitiesFile, err)
		}
	}
	return writeFile(filepath.Join(dir, entitiesFile), lines.Bytes())
}

func writeFile(path string, text []byte) error {
	return os.WriteFile(path, text, 0o644) //nolint:gosec // it is for the author's repository
}

// document is the file of a value.
func document(value any) ([]byte, error) {
	var text bytes.Buffer
	e := encoder(&text)
	e.SetIndent("", "  ")
	err := e.Encode(value)
	return text.Bytes(), err
}

func encoder(to *bytes.Buffer) *json.Encoder {
	e := json.NewEncoder(to)
	e.SetEscapeHTML(false)
	return e
}

// canonical is JSON with the members of all objects sorted.
func canonical(text json.RawMessage) (json.RawMessage, error) {
	if len(text) == 0 {
		return nil, nil
	}
	var value any
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	if err := decoder.Decode(&value); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := encoder(&out).Encode(value); err != nil {
		return nil, err
	}
	return bytes.TrimSpace(out.Bytes()), nil
}
