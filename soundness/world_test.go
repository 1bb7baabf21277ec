package soundness

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// A world is what a policy meets: data, callers with the permission that they ask for, and resources.
type world struct {
	data      map[string]any
	inputs    []map[string]any // without the resource
	resources []map[string]any
}

// A trial is a policy with its world. It prints as the files of a bundle and the questions asked.
type trial struct {
	policy policy
	world  world
}

func (tr trial) GoString() string { return tr.String() }

func (tr trial) String() string {
	var b strings.Builder
	b.WriteString("\n# policy.rego\n" + tr.policy.source + "\n# data.json\n" + compact(tr.world.data) + "\n")
	for i, input := range tr.world.inputs {
		b.WriteString("# input " + string(rune('a'+i)) + "\n" + compact(input) + "\n")
	}
	for i, resource := range tr.world.resources {
		b.WriteString("# resource " + string(rune('a'+i)) + "\n" + compact(resource) + "\n")
	}
	return b.String()
}

// decodeObject returns the JSON object.
func decodeObject(text string) map[string]any {
	var o map[string]any
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		panic(err)
	}
	return o
}

func compact(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// How many callers and resources a policy meets .
const (
	inputsPerPolicy    = 3
	resourcesPerPolicy = 16
)

// newTrial draws a trial.
func newTrial(r *rand.Rand) trial {
	p := newGrammar(r).draw()
	w := worldGen{r: r, policy: p}
	tr := trial{policy: p, world: world{data: w.data()}}
	for range inputsPerPolicy {
		tr.world.inputs = append(tr.world.inputs, w.input())
	}
	for range resourcesPerPolicy {
		tr.world.resources = append(tr.world.resources, w.resource())
	}
	return tr
}

type worldGen struct {
	r *rand.Rand
	policy
}

func (w worldGen) yes() bool    { return w.r.IntN(2) == 0 }
func (w worldGen) seldom() bool { return w.r.IntN(8) == 0 }

// some returns a random part of the list, in order.
func some[T any](w worldGen, from []T) []T {
	part := []T{}
	for _, v := range from {
		if w.yes() {
			part = append(part, v)
		}
	}
	return part
}

// data draws the data document that policies of the grammar refer to.
func (w worldGen) data() map[string]any {
	grants := []any{}
	for range w.r.IntN(5) {
		grants = append(grants, map[string]any{
			"group": one(w.r, refs...),
			"label": one(w.r, words...),
			"value": one(w.r, "web", "gold", "group:default/web", "user:default/ann"),
		})
	}
	roles := map[string]any{}
	for _, user := range some(w, refs) {
		roles[user] = one(w.r, "reader", "admin")
	}
	members := map[string]any{}
	for _, user := range some(w, refs) {
		members[user] = some(w, refs)
	}
	owners := map[string]any{}
	for _, word := range some(w, words) {
		owners[word] = one(w.r, refs...)
	}
	many := []any{}
	for i := range 34 {
		many = append(many, words[i%len(words)]+strings.Repeat("!", i/len(words)))
	}
	return map[string]any{
		"grants":  grants,
		"roles":   roles,
		"members": members,
		"owners":  owners,
		"names":   some(w, words),
		"many":    many,
		"flags":   map[string]any{"open": w.yes()},
	}
}

// input draws a permission and a caller.
func (w worldGen) input() map[string]any {
	p := one(w.r, w.plugin.permissions...)
	attributes := map[string]any{}
	if p.action != "" {
		attributes["action"] = p.action
	}
	input := map[string]any{"permission": map[string]any{
		"name": p.name, "type": "resource", "attributes": attributes, "resourceType": w.plugin.resourceType,
	}}
	if w.r.IntN(32) == 0 {
		return input
	}
	user := one(w.r, refs...)
	claims := some(w, refs)
	if !slices.Contains(claims, user) && !w.seldom() {
		claims = append([]string{user}, claims...)
	}
	if w.r.IntN(64) == 0 { // a caller with many groups
		for i := range 40 {
			claims = append(claims, fmt.Sprintf("group:default/g%d", i))
		}
	}
	identity := map[string]any{"user": user, "claims": claims}
	if w.seldom() {
		identity["actor"] = "plugin:catalog"
	}
	input["identity"] = identity
	return input
}

// resource draws a resource of the policy's type: random members, and the facts that the policy asks about.
func (w worldGen) resource() map[string]any {
	switch w.plugin.resourceType {
	case "scaffolder-action":
		return w.action()
	case "scaffolder-template":
		return w.template()
	case "scaffolder-task":
		return w.task()
	}
	for {
		if e := w.entity(); !casing(e) {
			return e
		}
	}
}

// entity draws a catalog entity, odd ones among them: without members, with null, empty, mixed-case, long, nested and
// numeric ones.
//
// Left out, because Rego cannot mirror the JavaScript of the rules: the 56 code points and the final sigma whose lower
// case differs; numbers that JavaScript would have written otherwise; keys that differ only in case, see casing.
func (w worldGen) entity() map[string]any {
	labels, annotations := map[string]any{}, map[string]any{}
	metadata := map[string]any{"name": w.variant(one(w.r, "web", "x", "production"))}
	spec := map[string]any{}
	relations := []any{}
	kind := w.variant(one(w.r, kinds[:3]...))

	for _, word := range some(w, words) {
		if w.yes() {
			set(labels, w.variant(word), w.text(values...))
		}
		if w.seldom() {
			set(annotations, w.variant(word), w.text(values...))
		}
	}
	for _, ref := range some(w, refs) {
		relations = append(relations, map[string]any{
			"type": one(w.r, "ownedBy", "ownedBy", "ownedBy", "partOf"), "targetRef": w.variant(ref),
		})
	}
	for _, member := range some(w, oddMembers) {
		of := spec
		if member.metadata {
			of = metadata
		}
		of[member.name] = one(w.r, member.values...)
	}
	for _, f := range some(w, w.facts) {
		key, value := f.key, f.value
		if key == "" {
			key, value = f.value, w.text(values...)
		}
		switch f.rule {
		case "owner":
			relations = append(relations, map[string]any{"type": "ownedBy", "targetRef": f.value})
		case "kind":
			kind = w.variant(f.value)
		case "has_label":
			set(labels, w.variant(key), w.variant(value))
		case "has_annotation":
			set(annotations, w.variant(key), w.variant(value))
		case "has_metadata":
			place(metadata, labels, annotations, key, typed(w, value))
		case "has_spec":
			place(spec, nil, nil, key, typed(w, value))
		default: // a word or a reference of something iterated: any of these may be asked
			switch {
			case strings.Contains(f.value, ":"):
				relations = append(relations, map[string]any{"type": "ownedBy", "targetRef": f.value})
			case w.yes():
				set(labels, w.variant(f.value), w.text(values...))
			default:
				set(spec, w.variant(f.value), w.text(values...))
			}
		}
	}

	e := map[string]any{"apiVersion": "backstage.io/v1alpha1", "kind": kind, "metadata": metadata}
	w.attach(metadata, "labels", labels, len(labels) == 0)
	w.attach(metadata, "annotations", annotations, len(annotations) == 0)
	w.attach(e, "spec", spec, len(spec) == 0)
	if len(relations) > 0 || w.yes() {
		e["relations"] = relations
	} else if w.seldom() {
		e["relations"] = nil
	}
	return e
}

// oddMembers are members of metadata and spec, each with values that rules see in a way of their own.
var oddMembers = []struct {
	metadata bool
	name     string
	values   []any
}{
	{true, "namespace", []any{"default", "Web", ""}},
	{true, "title", []any{"Web", "", nil}},
	{true, "uid", []any{"web", nil}},
	{true, "etag", []any{"web"}},
	{true, "description", []any{strings.Repeat("web", 67), "true"}},
	{true, "tags", []any{[]any{"java", "Go"}, []any{"Java", "java"}, []any{}, []any{"web", 3, true, nil}}},
	{true, "links", []any{[]any{map[string]any{"url": "web"}, map[string]any{"url": "X@example.com"}}, []any{}}},
	{false, "lifecycle", []any{"production", "Production", "experimental"}},
	{false, "type", []any{"web", true, 3, nil}},
	{false, "owner", []any{"web", "group:default/web", "Group:Default/Web"}},
	{false, "system", []any{"", nil, "core"}},
	{false, "tags", []any{[]any{"go", "WEB"}, []any{[]any{"go"}, "java"}, "go", map[string]any{"go": "x"}}},
	{false, "profile", []any{map[string]any{"email": "X@example.com"}, map[string]any{}, nil, "web"}},
	{false, "nested", []any{
		map[string]any{"level": map[string]any{"deep": "web"}}, map[string]any{"level": []any{map[string]any{"deep": 3}}},
	}},
	{false, "count", []any{3, 0, -1, "3", 1000000}},
	{false, "ratio", []any{0.5, 0.25, "0.5"}},
	{false, "enabled", []any{true, false, "true"}},
	{false, "nothing", []any{nil}},
	{false, "list", []any{
		[]any{map[string]any{"name": "web"}, map[string]any{"name": "true"}}, []any{3, 0.5, true, nil, "Web"}, []any{},
	}},
	{false, "empty", []any{map[string]any{}, []any{}, ""}},
}

// attach sets the member, or leaves out one that is empty, or makes it null.
func (w worldGen) attach(of map[string]any, name string, value any, empty bool) {
	switch {
	case !empty || w.seldom():
		of[name] = value
	case w.seldom():
		of[name] = nil
	}
}

// variant returns the text, now and then in another case.
func (w worldGen) variant(s string) string {
	switch w.r.IntN(8) {
	case 0:
		return strings.ToUpper(s)
	case 1:
		return strings.ToLower(s)
	}
	return s
}

func (w worldGen) text(from ...string) string { return w.variant(one(w.r, from...)) }

// typed returns the text, or what YAML would have made of it.
func typed(w worldGen, s string) any {
	var v any
	if w.yes() && json.Unmarshal([]byte(s), &v) == nil {
		return v
	}
	return w.variant(s)
}

// set sets the member and removes one whose name differs only in case.
func set(of map[string]any, name string, value any) {
	for other := range of {
		if strings.EqualFold(other, name) {
			delete(of, other)
		}
	}
	of[name] = value
}

// place sets what the search rows call key.
func place(of, labels, annotations map[string]any, key string, value any) {
	text, isText := value.(string)
	parent, rest, nested := strings.Cut(key, ".")
	switch {
	case nested && parent == "labels" && labels != nil && isText:
		set(labels, rest, text)
	case nested && parent == "annotations" && annotations != nil && isText:
		set(annotations, rest, text)
	case nested && parent == "tags":
		of["tags"] = []any{rest}
	case nested:
		inner := map[string]any{}
		place(inner, nil, nil, rest, value)
		set(of, parent, inner)
	case annotations != nil && slices.Contains([]string{"labels", "annotations"}, strings.ToLower(key)):
		// Not texts in an entity that the catalog takes.
	default:
		set(of, key, value)
	}
}

// casing reports whether two search keys of the entity differ only in case: there the catalog's HAS_METADATA and
// HAS_SPEC throw, while Rego answers.
func casing(entity map[string]any) bool {
	keys := map[string]string{}
	for _, always := range []string{"metadata.name", "metadata.namespace", "metadata.uid"} {
		keys[always] = always
	}
	differ := false
	add := func(key string) {
		lower := strings.ToLower(key)
		if other, ok := keys[lower]; ok && other != key {
			differ = true
		}
		keys[lower] = key
	}
	var visit func(path string, v any)
	visit = func(path string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for name, member := range v {
				visit(path+"."+name, member)
			}
		case []any:
			elements := map[string]bool{}
			for _, element := range v {
				visit(path, element)
				// Elements of one path that differ only in case are one key, of the first.
				if text, ok := element.(string); ok && !elements[strings.ToLower(text)] {
					elements[strings.ToLower(text)] = true
					add(path + "." + text)
				}
			}
		default:
			add(path)
		}
	}
	visit("metadata", entity["metadata"])
	visit("spec", entity["spec"])
	return differ
}

// action draws what a step of a template would do.
func (w worldGen) action() map[string]any {
	r := map[string]any{"action": one(w.r, actions...)}
	input := map[string]any{}
	for _, key := range some(w, properties) {
		putInput(input, key, one(w.r, oddInputs...))
	}
	for _, f := range some(w, w.facts) {
		switch f.rule {
		case "id":
			r["action"] = f.value
		case "key":
			putInput(input, f.value, one(w.r, oddInputs...))
		case "string", "number":
			putInput(input, one(w.r, properties...), typed(w, f.value))
		}
	}
	w.attach(r, "input", input, len(input) == 0)
	if r["input"] == nil {
		delete(r, "input")
	}
	return r
}

var oddInputs = []any{
	"web", "Web", "WEB", "42", "042", 42, 0, -3, 0.5, "1", 1, true, false, nil, "", "github.com?owner=Web&repo=x",
	[]any{"web", 1}, map[string]any{"b": []any{"web", 42, true}}, map[string]any{"b": "web"}, "group:default/web",
}

// putInput sets the input at the path.
func putInput(input map[string]any, path string, value any) {
	switch path {
	case "a.b[0]":
		input["a"] = map[string]any{"b": []any{value}}
	case "a.b":
		input["a"] = map[string]any{"b": value}
	case "list[1]":
		input["list"] = []any{nil, value}
	default:
		input[path] = value
	}
}

func (w worldGen) template() map[string]any {
	r := map[string]any{"id": "fetch", "action": "fetch:template"}
	tags := some(w, words)
	for _, f := range some(w, w.facts) {
		tags = append(tags, w.variant(f.value))
	}
	switch {
	case len(tags) > 0:
		r["backstage:permissions"] = map[string]any{"tags": tags}
	case w.yes():
		r["backstage:permissions"] = one(w.r, map[string]any{}, map[string]any{"tags": []any{}})
	}
	return r
}

func (w worldGen) task() map[string]any {
	r := map[string]any{"id": "1", "status": "open"}
	if w.seldom() {
		return r
	}
	r["createdBy"] = w.variant(one(w.r, refs...))
	if facts := some(w, w.facts); len(facts) > 0 {
		r["createdBy"] = facts[0].value
	}
	return r
}
