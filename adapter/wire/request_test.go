package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// usual is how many items a request may have.
const usual = 10000

// basic and resource are permissions as plugins send them.
const (
	basic    = `{"type":"basic","name":"todo.create","attributes":{"action":"create"}}`
	resource = `{"type":"resource","name":"todo.item.read","attributes":{"action":"read"},"resourceType":"todo-item"}`
)

var (
	basicPermission    = Permission{Name: "todo.create", Action: "create"}
	resourcePermission = Permission{Name: "todo.item.read", Action: "read", Resource: true, ResourceType: "todo-item"}
)

// one is a request of one item with these members.
func one(members string) string { return `{"items":[{` + members + `}]}` }

// permission is a request for one permission with these members.
func permission(members string) string { return one(`"id":"1","permission":{` + members + `}`) }

func TestDecodeRequest(t *testing.T) {
	item := func(p Permission, ref Ref) []Item { return []Item{{ID: `"1"`, Permission: p, Ref: ref}} }
	tests := []struct {
		name, body string
		want       []Item
	}{
		{"basic", one(`"id":"1","permission":` + basic), item(basicPermission, Ref{})},
		{"resource, no ref", one(`"id":"1","permission":` + resource), item(resourcePermission, Ref{})},
		{"resource with ref", one(`"id":"1","permission":` + resource + `,"resourceRef":"todo-1"`),
			item(resourcePermission, Ref{Of: []string{"todo-1"}})},
		{"ref before its permission", one(`"resourceRef":"todo-1","permission":` + resource + `,"id":"1"`),
			item(resourcePermission, Ref{Of: []string{"todo-1"}})},
		{"empty ref", one(`"id":"1","permission":` + resource + `,"resourceRef":""`),
			item(resourcePermission, Ref{Of: []string{""}})},
		{"list of refs, with duplicates", one(`"id":"1","permission":` + resource + `,"resourceRef":["a","b","a",""]`),
			item(resourcePermission, Ref{Of: []string{"a", "b", "a", ""}, List: true})},
		{"list of one ref", one(`"id":"1","permission":` + resource + `,"resourceRef":["a"]`),
			item(resourcePermission, Ref{Of: []string{"a"}, List: true})},
		{"empty batch", `{"items":[]}`, []Item{}},
		{"surplus members", `{"x":[1,{"y":null}],"items":[{"z":"","id":"1","permission":` +
			`{"type":"basic","w":{"attributes":1},"name":"n","attributes":{"v":[[]]}}}],"u":1.5e-7}`,
			item(Permission{Name: "n"}, Ref{})},
		{"basic with a resourceType", permission(`"type":"basic","name":"n","attributes":{},"resourceType":"todo-item"`),
			item(Permission{Name: "n"}, Ref{})},
		{"basic with an odd resourceType", permission(`"resourceType":[7],"type":"basic","name":"n","attributes":{}`),
			item(Permission{Name: "n"}, Ref{})},
		{"empty texts", one(`"id":"","permission":{"type":"resource","name":"","attributes":{},"resourceType":""}`),
			[]Item{{ID: `""`, Permission: Permission{Resource: true}}}},
		{"duplicate ids", `{"items":[{"id":"1","permission":` + basic + `},{"id":"1","permission":` + resource + `}]}`,
			[]Item{{ID: `"1"`, Permission: basicPermission}, {ID: `"1"`, Permission: resourcePermission}}},
		{"every action", `{"items":[` + strings.Join([]string{
			`{"id":"1","permission":{"type":"basic","name":"n","attributes":{"action":"create"}}}`,
			`{"id":"1","permission":{"type":"basic","name":"n","attributes":{"action":"read"}}}`,
			`{"id":"1","permission":{"type":"basic","name":"n","attributes":{"action":"update"}}}`,
			`{"id":"1","permission":{"type":"basic","name":"n","attributes":{"action":"delete"}}}`,
		}, ",") + `]}`, []Item{
			{ID: `"1"`, Permission: Permission{Name: "n", Action: "create"}},
			{ID: `"1"`, Permission: Permission{Name: "n", Action: "read"}},
			{ID: `"1"`, Permission: Permission{Name: "n", Action: "update"}},
			{ID: `"1"`, Permission: Permission{Name: "n", Action: "delete"}},
		}},
		{"byte order mark", "\uFEFF" + `{"items":[]}`, []Item{}},
		{"spaces around", " \r\n\t" + `{ "items" : [ ] }` + "\n\n  ", []Item{}},
		{"escapes", one(`"\u0069d":"1","permission":{"type":"\u0062asic","n\u0061me":"t\u006fdo\/\"","attributes":` +
			`{"action":"\u0072ead"}}`), item(Permission{Name: `todo/"`, Action: "read"}, Ref{})},
		{"escapes in refs", one(`"id":"1","permission":` + resource + `,"resourceRef":["a\\b","\ud83d\ude00"]`),
			item(resourcePermission, Ref{Of: []string{`a\b`, "😀"}, List: true})},
		{"an id is kept as it came", one(`"id":"\u0061\/\n","permission":` + basic),
			[]Item{{ID: `"\u0061\/\n"`, Permission: basicPermission}}},
		{"lone surrogate in an id", one(`"id":"\ud800","permission":` + basic),
			[]Item{{ID: `"\ud800"`, Permission: basicPermission}}},
		{"lone surrogate in a name that nobody reads", one(`"id":"1","\ud800":"\udfff","permission":` + basic),
			item(basicPermission, Ref{})},
		{"ill-formed UTF-8", one("\"id\":\"\xffa\xc3\",\"permission\":" + resource + ",\"resourceRef\":\"\xed\xa0\x80\""),
			[]Item{{ID: "\"\uFFFDa\uFFFD\"", Permission: resourcePermission, Ref: Ref{Of: []string{"\uFFFD\uFFFD\uFFFD"}}}}},

		// Of duplicate members the last counts, whatever the others are.
		{"duplicate items", `{"items":7,"items":[{}],"items":[]}`, []Item{}},
		{"duplicate members of an item",
			one(`"id":1,"id":"1","permission":null,"permission":` + resource + `,"resourceRef":null,"resourceRef":"a"`),
			item(resourcePermission, Ref{Of: []string{"a"}})},
		{"duplicate members of a permission", permission(`"type":"BASIC","name":[],"attributes":null,"resourceType":1,` +
			`"type":"resource","name":"n","attributes":{},"resourceType":"t"`),
			item(Permission{Name: "n", Resource: true, ResourceType: "t"}, Ref{})},
		{"duplicate attributes do not mix",
			permission(`"type":"basic","name":"n","attributes":{"action":"read"},"attributes":{}`),
			item(Permission{Name: "n"}, Ref{})},
		{"duplicate permissions do not mix", one(`"id":"1","permission":` + resource +
			`,"permission":{"type":"basic","name":"n","attributes":{}}`), item(Permission{Name: "n"}, Ref{})},
		{"duplicate actions", permission(`"type":"basic","name":"n","attributes":{"action":"use","action":"read"}`),
			item(Permission{Name: "n", Action: "read"}, Ref{})},
		{"duplicate in two spellings", one(`"id":"x","\u0069d":"1","permission":` + basic), item(basicPermission, Ref{})},
		{"other case is no duplicate", one(`"id":"1","ID":2,"permission":` + basic + `,"Permission":null`),
			item(basicPermission, Ref{})},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := DecodeRequest([]byte(test.body), usual)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(Request{Items: test.want}, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestDecodeRequestRefuses(t *testing.T) {
	ref := func(ref string) string { return one(`"id":"1","permission":` + resource + `,"resourceRef":` + ref) }
	tests := []struct{ name, body, want string }{
		{"no JSON", `not json`,
			`SyntaxError: the body is not JSON: invalid character 'o' in literal null (expecting 'u') at byte 1`},
		{"truncated", `{"items":[`, `SyntaxError: the body is not JSON: unexpected EOF at byte 10`},
		{"truncated in a string", `{"items":[{"id":"1`, `SyntaxError: the body is not JSON: unexpected EOF at byte 18`},
		{"null", `null`, `SyntaxError: the body must be a JSON object`},
		{"a number", `7`, `SyntaxError: the body must be a JSON object`},
		{"a string", `"{}"`, `SyntaxError: the body must be a JSON object`},
		{"true", ` true `, `SyntaxError: the body must be a JSON object`},
		{"spaces alone", "  \n", `SyntaxError: the body is not JSON: EOF`},
		{"NaN", `{"items":[],"x":NaN}`,
			`SyntaxError: the body is not JSON: invalid character 'N' at start of value at byte 16`},
		{"more after the end", `{"items":[]} {}`, `SyntaxError: the body is not JSON: more follows its end`},
		{"garbage after the end", `{"items":[]}x`,
			`SyntaxError: the body is not JSON: invalid character 'x' at start of value at byte 12`},
		{"garbage after an array", `[]]`,
			`SyntaxError: the body is not JSON: invalid character ']' at start of value at byte 2`},
		{"two byte order marks", "\uFEFF\uFEFF{}",
			`SyntaxError: the body is not JSON: invalid character '\ufeff' at start of value at byte 0`},
		{"trailing comma", `{"items":[],}`,
			`SyntaxError: the body is not JSON: invalid character ',' at start of value at byte 11`},
		{"comment", `{"items":[]/**/}`,
			`SyntaxError: the body is not JSON: invalid character '/' after object value (expecting ',' or '}') at byte 11`},
		{"control character", "{\"items\":[],\"x\":\"\n\"}",
			`SyntaxError: the body is not JSON: invalid character '\n' in string (expecting non-control character) at byte 17`},
		{"half an escape", `{"items":[],"x":"\u00"}`,
			"SyntaxError: the body is not JSON: invalid escape sequence `\\u00\"}` in string at byte 17"},
		{"number as a name", `{1:2}`, `SyntaxError: the body is not JSON: object member name must be a string at byte 1`},
		{"mismatched brackets", `{"items":[}`,
			`SyntaxError: the body is not JSON: invalid character '}' at start of value at byte 10`},
		{"bad syntax after a bad shape", `{"items":[{"id":1}],`,
			`SyntaxError: the body is not JSON: unexpected EOF at byte 20`},

		{"empty", ``, `InputError: items: is missing`},
		{"byte order mark alone", "\uFEFF", `InputError: items: is missing`},
		{"an array", `[{"items":[]}]`, `InputError: the body must be an object, is an array`},
		{"items missing", `{}`, `InputError: items: is missing`},
		{"items in other case", `{"Items":[]}`, `InputError: items: is missing`},
		{"items an object", `{"items":{"0":{}}}`, `InputError: items: must be an array, is an object`},
		{"items null", `{"items":null}`, `InputError: items: must be an array, is null`},
		{"last items wrong", `{"items":[],"items":null}`, `InputError: items: must be an array, is null`},
		{"item a string", `{"items":["1"]}`, `InputError: items[0]: must be an object, is a string`},
		{"item null", `{"items":[null]}`, `InputError: items[0]: must be an object, is null`},
		{"id missing", one(`"permission":` + basic), `InputError: items[0].id: is missing`},
		{"id a number", one(`"id":1,"permission":` + basic), `InputError: items[0].id: must be a string, is a number`},
		{"id null", one(`"id":null,"permission":` + basic), `InputError: items[0].id: must be a string, is null`},
		{"last id wrong", one(`"id":"1","id":{},"permission":` + basic),
			`InputError: items[0].id: must be a string, is an object`},
		{"permission missing", one(`"id":"1"`), `InputError: items[0].permission: is missing`},
		{"permission a string", one(`"id":"1","permission":"test.allow"`),
			`InputError: items[0].permission: must be an object, is a string`},
		{"permission null", one(`"id":"1","permission":null`), `InputError: items[0].permission: must be an object, is null`},
		{"type missing", permission(`"name":"n","attributes":{}`), `InputError: items[0].permission.type: is missing`},
		{"type in capitals", permission(`"type":"BASIC","name":"n","attributes":{}`),
			`InputError: items[0].permission.type: must be "basic" or "resource"`},
		{"type empty", permission(`"type":"","name":"n","attributes":{}`),
			`InputError: items[0].permission.type: must be "basic" or "resource"`},
		{"type true", permission(`"type":true,"name":"n","attributes":{}`),
			`InputError: items[0].permission.type: must be a string, is true`},
		{"name missing", permission(`"type":"basic","attributes":{}`), `InputError: items[0].permission.name: is missing`},
		{"name null", permission(`"type":"basic","name":null,"attributes":{}`),
			`InputError: items[0].permission.name: must be a string, is null`},
		{"attributes missing", permission(`"type":"basic","name":"n"`),
			`InputError: items[0].permission.attributes: is missing`},
		{"attributes null", permission(`"type":"basic","name":"n","attributes":null`),
			`InputError: items[0].permission.attributes: must be an object, is null`},
		{"attributes an array", permission(`"type":"basic","name":"n","attributes":[]`),
			`InputError: items[0].permission.attributes: must be an object, is an array`},
		{"action unknown", permission(`"type":"basic","name":"n","attributes":{"action":"use"}`),
			`InputError: items[0].permission.attributes.action: must be "create", "read", "update" or "delete"`},
		{"action in capitals", permission(`"type":"basic","name":"n","attributes":{"action":"READ"}`),
			`InputError: items[0].permission.attributes.action: must be "create", "read", "update" or "delete"`},
		{"action empty", permission(`"type":"basic","name":"n","attributes":{"action":""}`),
			`InputError: items[0].permission.attributes.action: must be "create", "read", "update" or "delete"`},
		{"action null", permission(`"type":"basic","name":"n","attributes":{"action":null}`),
			`InputError: items[0].permission.attributes.action: must be a string, is null`},
		{"resourceType missing", permission(`"type":"resource","name":"n","attributes":{}`),
			`InputError: items[0].permission.resourceType: is missing`},
		{"resourceType null", permission(`"type":"resource","name":"n","attributes":{},"resourceType":null`),
			`InputError: items[0].permission.resourceType: must be a string, is null`},
		{"ref null", ref(`null`), `InputError: items[0].resourceRef: must be a string or an array of strings, is null`},
		{"ref false", ref(`false`), `InputError: items[0].resourceRef: must be a string or an array of strings, is false`},
		{"ref true", ref(`true`), `InputError: items[0].resourceRef: must be a string or an array of strings, is true`},
		{"ref an object", ref(`{}`),
			`InputError: items[0].resourceRef: must be a string or an array of strings, is an object`},
		{"refs empty", ref(`[]`), `InputError: items[0].resourceRef: must not be an empty array`},
		{"refs with a number", ref(`["todo-1",2,3]`), `InputError: items[0].resourceRef[1]: must be a string, is a number`},
		{"refs with null", ref(`[null,"todo-1"]`), `InputError: items[0].resourceRef[0]: must be a string, is null`},
		{"last ref wrong", ref(`"todo-1","resourceRef":[]`), `InputError: items[0].resourceRef: must not be an empty array`},
		{"basic with a ref", one(`"id":"1","permission":` + basic + `,"resourceRef":"todo-1"`),
			`InputError: items[0].resourceRef: must be absent, as the permission is a basic one`},
		{"basic with an empty ref", one(`"resourceRef":"","id":"1","permission":` + basic),
			`InputError: items[0].resourceRef: must be absent, as the permission is a basic one`},
		{"basic with refs", one(`"id":"1","permission":` + basic + `,"resourceRef":["todo-1"]`),
			`InputError: items[0].resourceRef: must be absent, as the permission is a basic one`},
		{"basic with ref null", one(`"id":"1","permission":` + basic + `,"resourceRef":null`),
			`InputError: items[0].resourceRef: must be a string or an array of strings, is null`},
		{"basic with no refs", one(`"id":"1","permission":` + basic + `,"resourceRef":[]`),
			`InputError: items[0].resourceRef: must not be an empty array`},
		{"resource, then basic, with a ref", one(`"id":"1","permission":` + resource + `,"permission":` + basic +
			`,"resourceRef":"todo-1"`), `InputError: items[0].resourceRef: must be absent, as the permission is a basic one`},
		{"lone surrogate in a ref", ref(`"\udc00"`), `InputError: items[0].resourceRef: must not have half a surrogate pair`},
		{"lone surrogate in a name", permission(`"type":"basic","name":"\ud800x","attributes":{}`),
			`InputError: items[0].permission.name: must not have half a surrogate pair`},
		{"one bad item of many", `{"items":[{"id":"1","permission":` + basic + `},{"id":"2"},{}]}`,
			`InputError: items[1].permission: is missing`},

		{"too many items", `{"items":[` + strings.Repeat(`{},`, 10000) + `{}]}`,
			`PayloadTooLargeError: more than 10000 items in one request`},
		{"too many refs", ref(`[` + strings.Repeat(`"",`, 10000) + `""]`),
			`PayloadTooLargeError: more than 10000 resourceRefs in one request`},
		{"too deep", `{"x":` + strings.Repeat("[", 64) + strings.Repeat("]", 64) + `}`,
			`InputError: the body is nested deeper than 64`},
		{"far too deep", strings.Repeat(`[`, 1<<20), `InputError: the body is nested deeper than 64`},
		{"too deep instead of an id", one(`"id":` + strings.Repeat(`{"":`, 100) + `1` + strings.Repeat("}", 100)),
			`InputError: the body is nested deeper than 64`},
	}
	status := map[string]int{"SyntaxError": 400, "InputError": 400, "PayloadTooLargeError": 413}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			request, err := DecodeRequest([]byte(test.body), usual)
			e, ok := errors.AsType[*Error](err)
			if !ok {
				t.Fatalf("got %v, want an *Error", err)
			}
			if got := e.Name + ": " + e.Public; got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
			if e.Status != status[e.Name] {
				t.Errorf("got status %d", e.Status)
			}
			if request.Items != nil {
				t.Errorf("items came with the error: %v", request.Items)
			}
		})
	}
}

func TestDecodeRequestAtTheLimits(t *testing.T) {
	item := `{"id":"1","permission":` + basic + `}`
	tests := []struct{ name, body string }{
		{"items", `{"items":[` + strings.Repeat(item+",", 9999) + item + `]}`},
		{"refs", one(`"id":"1","permission":` + resource + `,"resourceRef":[` + strings.Repeat(`"",`, 9999) + `""]`)},
		{"depth", `{"items":[],"x":` + strings.Repeat("[", 63) + strings.Repeat("]", 63) + `}`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if _, err := DecodeRequest([]byte(test.body), usual); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestDecodeRequestLeavesTheBodyAlone(t *testing.T) {
	body := one(`"id":"1","permission":` + resource + `,"resourceRef":"todo-1"`)
	b := []byte(body)
	request, err := DecodeRequest(b, usual)
	if err != nil {
		t.Fatal(err)
	}
	if string(b) != body {
		t.Errorf("the body became %s", b)
	}
	clear(b)
	if item := request.Items[0]; item.ID != `"1"` || item.Ref.Of[0] != "todo-1" || item.Permission != resourcePermission {
		t.Errorf("the request changed with the caller's buffer: %v", item)
	}
}

// What a body of 10 MiB makes the decoder allocate, garbage included, stays within
// a few times its size, whatever is in it.
func TestDecodeRequestMemory(t *testing.T) {
	const size = 10 << 20
	fill := func(start, with, end string) string {
		return start + strings.Repeat(with, (size-len(start)-len(end))/len(with)) + end
	}
	item := `{"id":"1","permission":` + resource + `,"resourceRef":"` + strings.Repeat("x", 900) + `"},`
	tests := []struct{ name, body string }{
		{"large items", fill(`{"items":[`, item, `{}]}`)},
		{"empty items", fill(`{"items":[`, `{},`, `{}]}`)},
		{"numbers for items", fill(`{"items":[`, `1,`, `1]}`)},
		{"empty refs", fill(`{"items":[{"id":"1","permission":`+resource+`,"resourceRef":[`, `"",`, `""]}]}`)},
		{"a large id", fill(`{"items":[{"id":"`, "x", `","permission":`+basic+`}]}`)},
		{"a large name in escapes", fill(`{"items":[{"id":"1","permission":{"type":"basic","attributes":{},"name":"`, `\n`,
			`"}}]}`)},
		{"many names", fill(`{"items":[{"id":"1","permission":{"type":"basic","attributes":{}`, `,"name":"x"`, `}}]}`)},
		{"many items members", fill(`{"items":[]`, `,"items":[]`, `}`)},
		{"many wrong items members", fill(`{"items":[]`, `,"items":[{}]`, `}`)},
		{"many wrong refs", fill(`{"items":[{"id":"1"`, `,"resourceRef":{}`, `}]}`)},
		{"surplus", fill(`{"items":[],"x":[0`, `,{"y":[]}`, `]}`)},
		{"ill-formed", fill(`{"items":[],"x":"`, "\xff", `"}`)},
		{"not JSON", fill(``, `[`, ``)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			body := []byte(test.body)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := DecodeRequest(body, usual)
			runtime.ReadMemStats(&after)
			allocated := after.TotalAlloc - before.TotalAlloc
			t.Logf("%.1f times the body, error %.80v", float64(allocated)/size, err)
			if allocated > 8*size {
				t.Errorf("allocated %d bytes for %d", allocated, len(body))
			}
		})
	}
}

// Permissions go into caches that outlive the request: they must not keep its body.
func TestPermissionsDoNotKeepTheBody(t *testing.T) {
	const large, requests = 1 << 20, 32
	heap := func() uint64 {
		var stats runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&stats)
		return stats.HeapAlloc
	}
	kept := make([]Permission, requests)
	before := heap()
	for i := range kept {
		members := fmt.Sprintf(`"name":"n%d","type":"resource","attributes":{"action":"read"},"resourceType":"t%d"`, i, i)
		body := one(`"id":"` + strings.Repeat("x", large) + `","permission":{` + members + `}`)
		request, err := DecodeRequest([]byte(body), usual)
		if err != nil {
			t.Fatal(err)
		}
		kept[i] = request.Items[0].Permission
	}
	if after := heap(); after > before+requests*large/4 {
		t.Errorf("%d permissions keep %d bytes", requests, after-before)
	}
	runtime.KeepAlive(kept)
}

// The items of a batch mostly ask for the same few permissions, so that what a
// batch costs does not grow by an allocation for each.
func TestNamesAreShared(t *testing.T) {
	var b strings.Builder
	b.WriteString(`{"items":[`)
	for i := range 100 {
		fmt.Fprintf(&b, `{"id":"%d","permission":%s},`, i, resource)
	}
	b.WriteString(`{"id":"last","permission":` + basic + `}]}`)
	body := []byte(b.String())
	few := testing.AllocsPerRun(10, func() {
		if _, err := DecodeRequest(body, usual); err != nil {
			t.Fatal(err)
		}
	})
	if few > 30 {
		t.Errorf("%v allocations for a batch of two permissions", few)
	}
}

func TestCheckBody(t *testing.T) {
	tests := []struct{ name, body, want string }{
		{"empty", ``, ``},
		{"object", `{"a":[1]}`, ``},
		{"array", ` [] `, ``},
		{"no JSON", `not json`, "SyntaxError"},
		{"a number", `1`, "SyntaxError"},
		{"more", `{}{}`, "SyntaxError"},
		{"too deep", strings.Repeat("[", 65) + strings.Repeat("]", 65), "InputError"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := CheckBody([]byte(test.body))
			if e, ok := errors.AsType[*Error](err); ok != (test.want != "") || ok && e.Name != test.want {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func TestRefGiven(t *testing.T) {
	tests := []struct {
		name string
		ref  Ref
		want bool
	}{
		{"absent", Ref{}, false},
		{"empty string", Ref{Of: []string{""}}, false},
		{"one", Ref{Of: []string{"a"}}, true},
		{"list", Ref{Of: []string{"a", "b"}, List: true}, true},
		{"list of an empty string", Ref{Of: []string{""}, List: true}, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := test.ref.Given(); got != test.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

// FuzzDecodeRequest holds the decoder against a slow and independent one, which
// goes by way of encoding/json and maps, and against its own requests, written
// again.
func FuzzDecodeRequest(f *testing.F) {
	for _, seed := range []string{
		``, `null`, `[]`, `{}`, `not json`, `{"items":[`, `{"items":[],"x":NaN}`, "\uFEFF{\"items\":[]}\n",
		one(`"id":"1","permission":` + basic),
		one(`"id":"1","permission":` + resource + `,"resourceRef":"todo-1"`),
		one(`"id":"1","permission":` + resource + `,"resourceRef":["a","b","a"]`),
		one(`"id":"1","permission":` + basic + `,"resourceRef":false`),
		one(`"id":"\ud800","\u0069d":"\xff","permission":null,"permission":` + resource),
		`{"items":7,"items":[{"id":"2","permission":` + basic + `},{"id":"3"}]}`,
		`{"items":[{},{},{},{},{},{},{},{},{}]}`,
		strings.Repeat("[", 70) + strings.Repeat("]", 70),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := DecodeRequest(body, fuzzItems)
		want, wantErr := decodeSlowly(body)
		if err != nil {
			e, ok := errors.AsType[*Error](err)
			if !ok {
				t.Fatalf("not an *Error: %v", err)
			}
			if got.Items != nil {
				t.Errorf("items came with %v", err)
			}
			if e.Name != wantErr && !strictness(e, string(body)) {
				t.Errorf("got %s %v, want %q", e.Name, e, wantErr)
			}
			return
		}
		if wantErr != "" {
			t.Fatalf("accepted, want %s", wantErr)
		}
		if diff := cmp.Diff(want, textIDs(t, got)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		written := encode(got)
		again, err := DecodeRequest(written, fuzzItems)
		if err != nil {
			t.Fatalf("wrote %s: %v", written, err)
		}
		if diff := cmp.Diff(got, again); diff != "" {
			t.Errorf("wrote %s (-want +got):\n%s", written, diff)
		}
	})
}

const fuzzItems = 8

// strictness reports whether e is one of the refusals that the slow decoder does
// not know, for a body that gives cause for it.
func strictness(e *Error, body string) bool {
	switch {
	case strings.HasSuffix(e.Public, "must not have half a surrogate pair"):
		return halfSurrogate.MatchString(body)
	case e.Public == "the body is nested deeper than 64":
		return strings.Count(body, "[")+strings.Count(body, "{") > MaxDepth
	case e.Name == "PayloadTooLargeError": // in a duplicate member, or with wrong syntax after it
		return strings.Count(body, ",") >= fuzzItems
	}
	return false
}

var halfSurrogate = regexp.MustCompile(`(?i)\\ud[89a-f]`)

// decodeSlowly is the oracle: the request with ids as text, or the name of the
// error.
func decodeSlowly(body []byte) (Request, string) {
	text := strings.TrimPrefix(string(body), "\uFEFF")
	if text == "" {
		text = "{}"
	}
	var v any
	if json.Unmarshal([]byte(text), &v) != nil {
		return Request{}, "SyntaxError"
	}
	top, ok := v.(map[string]any)
	if !ok {
		if _, ok := v.([]any); ok {
			return Request{}, "InputError"
		}
		return Request{}, "SyntaxError"
	}
	list, ok := top["items"].([]any)
	if !ok {
		return Request{}, "InputError"
	}
	if len(list) > fuzzItems {
		return Request{}, "PayloadTooLargeError"
	}
	items, refs := make([]Item, len(list)), 0
	valid := true
	for i, v := range list {
		var ok bool
		items[i], ok = itemSlowly(v)
		valid = valid && ok
		refs += refsSlowly(v)
	}
	switch {
	case refs > fuzzItems:
		return Request{}, "PayloadTooLargeError"
	case !valid:
		return Request{}, "InputError"
	}
	return Request{Items: items}, ""
}

func refsSlowly(v any) int {
	item, _ := v.(map[string]any)
	switch ref := item["resourceRef"].(type) {
	case string:
		return 1
	case []any:
		return len(ref)
	}
	return 0
}

func itemSlowly(v any) (Item, bool) {
	in, ok := v.(map[string]any)
	if !ok {
		return Item{}, false
	}
	var item Item
	permission, ok := in["permission"].(map[string]any)
	if !ok {
		return Item{}, false
	}
	attributes, ok := permission["attributes"].(map[string]any)
	if !ok {
		return Item{}, false
	}
	if action, ok := attributes["action"]; ok {
		switch action {
		case "create", "read", "update", "delete":
			item.Permission.Action = action.(string)
		default:
			return Item{}, false
		}
	}
	if item.ID, ok = in["id"].(string); !ok {
		return Item{}, false
	}
	if item.Permission.Name, ok = permission["name"].(string); !ok {
		return Item{}, false
	}
	ref, hasRef := in["resourceRef"]
	switch permission["type"] {
	case "basic":
		return item, !hasRef
	case "resource":
		item.Permission.Resource = true
	default:
		return Item{}, false
	}
	if item.Permission.ResourceType, ok = permission["resourceType"].(string); !ok {
		return Item{}, false
	}
	switch ref := ref.(type) {
	case nil:
		return item, !hasRef
	case string:
		item.Ref.Of = []string{ref}
		return item, true
	case []any:
		item.Ref.List = true
		for _, v := range ref {
			s, ok := v.(string)
			if !ok {
				return Item{}, false
			}
			item.Ref.Of = append(item.Ref.Of, s)
		}
		return item, len(ref) > 0
	default:
		return Item{}, false
	}
}

// textIDs is the request with its ids as text.
func textIDs(t *testing.T, request Request) Request {
	items := make([]Item, len(request.Items))
	for i, item := range request.Items {
		items[i] = item
		if err := json.Unmarshal([]byte(item.ID), &items[i].ID); err != nil {
			t.Errorf("id %s: %v", item.ID, err)
		}
	}
	return Request{Items: items}
}

// encode writes a request as a Backstage client does.
func encode(request Request) []byte {
	items := make([]map[string]any, len(request.Items))
	for i, item := range request.Items {
		attributes := map[string]any{}
		if item.Permission.Action != "" {
			attributes["action"] = item.Permission.Action
		}
		permission := map[string]any{"type": "basic", "name": item.Permission.Name, "attributes": attributes}
		if item.Permission.Resource {
			permission["type"] = "resource"
			permission["resourceType"] = item.Permission.ResourceType
		}
		items[i] = map[string]any{"id": json.RawMessage(item.ID), "permission": permission}
		switch {
		case item.Ref.List:
			items[i]["resourceRef"] = item.Ref.Of
		case item.Ref.Of != nil:
			items[i]["resourceRef"] = item.Ref.Of[0]
		}
	}
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(map[string]any{"items": items}); err != nil {
		panic(err)
	}
	return []byte(b.String())
}

// batch is a request of n items as the catalog sends it.
func batch(n int) []byte {
	var request Request
	for i := range n {
		request.Items = append(request.Items, Item{
			ID: strconv.Quote(fmt.Sprintf("0f8c7a52-93f1-4a51-9d0e-%012d", i)),
			Permission: Permission{Name: "catalog.entity.delete", Action: "delete", Resource: true,
				ResourceType: "catalog-entity"},
			Ref: Ref{Of: []string{fmt.Sprintf("component:default/service-%d", i)}},
		})
	}
	return encode(request)
}

func BenchmarkDecodeRequest(b *testing.B) {
	for _, n := range []int{1, 50, 500} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			body := batch(n)
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := DecodeRequest(body, usual); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
