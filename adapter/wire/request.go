package wire

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// MaxDepth is how deep the JSON of a request may nest. A request needs five
// levels; members that nobody reads may be deeper.
const MaxDepth = 64

// DecodeRequest reads the body of an authorize request. It may hold most items
// and as many resourceRefs in all; [ReadBody] bounds its bytes. An empty body
// counts as {}, a byte order mark before it is skipped, and ill-formed UTF-8 reads
// as U+FFFD.
//
// Like the reference's own parser and schema it takes member names as they are
// written, takes the last of duplicate members, whatever the earlier ones were,
// tells null from absent, and ignores members that it does not know. Beyond them
// it refuses resourceRefs and names with half a surrogate pair, which could not
// be asked about as they came.
//
// The error is an [*Error]: SyntaxError for what is not JSON, or neither object
// nor array, PayloadTooLargeError beyond the limits, and else InputError, which
// names the first place that is wrong. Any one is the answer to the whole batch.
func DecodeRequest(body []byte, most int) (Request, error) {
	d := newDecoder(body, most)
	wrong, err := d.request()
	switch {
	case err != nil:
		return Request{}, refusal(err)
	case wrong != (problem{}):
		return Request{}, InputError("%s", wrong)
	}
	return Request{Items: d.items}, nil
}

// CheckBody is what happens to a JSON body that nobody reads, such as one posted
// to /health: it must be an object or array and within [MaxDepth]. An empty one
// is fine. The error is as that of [DecodeRequest].
func CheckBody(body []byte) error {
	d := newDecoder(body, 0)
	if err := d.document(d.skip); err != nil {
		return refusal(err)
	}
	return nil
}

// refusal is the answer to a body that could not be read to its end.
func refusal(err error) error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if e, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		return SyntaxError("the body is not JSON: %v at byte %d", e.Err, e.ByteOffset)
	}
	return SyntaxError("the body is not JSON: %v", err)
}

// decoder reads a request in one pass. Its methods read one value each and
// return the value, what is wrong with it, and the error that ends the whole body.
// What is wrong waits until the end of the object that holds it, for a later
// member of the same name may replace it.
type decoder struct {
	*jsontext.Decoder
	text  string   // the body: values are cut out of it, not copied
	most  int      // items, and resourceRefs
	items []Item   // of the last member items so far; made once, however many come
	refs  []string // behind every Ref.Of of the request
	names []string // the first few names met, to share; see maxNames
}

// maxNames is how many different names of permissions and resource types the
// items of a request share. More are fine and cost a copy each time.
const maxNames = 16

func newDecoder(body []byte, most int) *decoder {
	body = bytes.TrimPrefix(body, []byte("\uFEFF"))
	if len(body) == 0 {
		body = []byte("{}")
	}
	if !utf8.Valid(body) {
		body = wellFormed(body)
	}
	return &decoder{
		// Ill-formed UTF-8 is gone by now; what the second option lets pass is half a
		// surrogate pair in an escape.
		Decoder: jsontext.NewDecoder(bytes.NewBuffer(body),
			jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)),
		text: string(body), // a copy, so that the request is its own
		most: most,
	}
}

// wellFormed returns body with U+FFFD in place of every byte that is no UTF-8.
func wellFormed(body []byte) []byte {
	b := make([]byte, 0, len("\uFFFD")*len(body))
	for len(body) > 0 {
		r, size := utf8.DecodeRune(body)
		b, body = utf8.AppendRune(b, r), body[size:]
	}
	return b
}

// problem is what is wrong with a value, and where within it. The zero problem is
// none.
type problem struct{ place, text string }

var missing = problem{text: "is missing"}

func (p problem) String() string {
	if p.place == "" {
		return "the body " + p.text
	}
	return strings.TrimPrefix(p.place, ".") + ": " + p.text
}

// in is the problem as one of what holds the value at place.
func (p problem) in(place string) problem {
	if p.text == "" {
		return p
	}
	return problem{place + p.place, p.text}
}

// first is the first problem of several, if any.
func first(problems ...problem) problem {
	for _, p := range problems {
		if p.text != "" {
			return p
		}
	}
	return problem{}
}

// document reads the top-level value by read, and nothing may follow it.
func (d *decoder) document(read func() error) error {
	switch d.PeekKind() {
	case jsontext.KindBeginObject, jsontext.KindBeginArray, jsontext.KindInvalid:
	default:
		if err := d.skip(); err != nil {
			return err
		}
		return SyntaxError("the body must be a JSON object")
	}
	if err := read(); err != nil {
		return err
	}
	switch _, err := d.ReadToken(); {
	case err == nil:
		return SyntaxError("the body is not JSON: more follows its end")
	case !errors.Is(err, io.EOF):
		return err
	}
	return nil
}

func (d *decoder) request() (wrong problem, err error) {
	err = d.document(func() (err error) {
		if d.PeekKind() != jsontext.KindBeginObject {
			wrong, err = d.not("an object")
			return err
		}
		wrong = missing.in(".items")
		return d.object(func(name string) (err error) {
			if name != "items" {
				return d.skip()
			}
			wrong, err = d.list()
			wrong = wrong.in(".items")
			return err
		})
	})
	return wrong, err
}

// list reads the items.
func (d *decoder) list() (wrong problem, err error) {
	if d.PeekKind() != jsontext.KindBeginArray {
		return d.not("an array")
	}
	if d.items == nil {
		const usual = 160 // bytes of an item
		d.items = make([]Item, 0, min(d.most, len(d.text)/usual+1))
	}
	d.items = d.items[:0]
	err = d.array(func() error {
		if len(d.items) == d.most {
			return d.tooMany("items")
		}
		item, itemWrong, err := d.item()
		if wrong == (problem{}) && itemWrong != (problem{}) {
			wrong = itemWrong.in(index(len(d.items)))
		}
		d.items = append(d.items, item)
		return err
	})
	return wrong, err
}

func (d *decoder) item() (item Item, wrong problem, err error) {
	if d.PeekKind() != jsontext.KindBeginObject {
		wrong, err = d.not("an object")
		return Item{}, wrong, err
	}
	id, permission, ref := missing, missing, problem{}
	err = d.object(func(name string) (err error) {
		switch name {
		case "id":
			item.ID, id, err = d.quoted()
		case "permission":
			item.Permission, permission, err = d.permission()
		case "resourceRef":
			item.Ref, ref, err = d.ref()
		default:
			err = d.skip()
		}
		return err
	})
	if item.Ref.Of != nil && !item.Permission.Resource {
		ref = problem{text: "must be absent, as the permission is a basic one"}
	}
	return item, first(id.in(".id"), permission.in(".permission"), ref.in(".resourceRef")), err
}

func (d *decoder) permission() (p Permission, wrong problem, err error) {
	if d.PeekKind() != jsontext.KindBeginObject {
		wrong, err = d.not("an object")
		return Permission{}, wrong, err
	}
	kind, name, attributes, resourceType := missing, missing, missing, missing
	err = d.object(func(member string) (err error) {
		switch member {
		case "type":
			p.Resource, kind, err = d.kind()
		case "name":
			p.Name, name, err = d.name()
		case "attributes":
			p.Action, attributes, err = d.attributes()
		case "resourceType":
			p.ResourceType, resourceType, err = d.name()
		default:
			err = d.skip()
		}
		return err
	})
	if !p.Resource { // a surplus member, then
		p.ResourceType, resourceType = "", problem{}
	}
	return p, first(kind.in(".type"), name.in(".name"), attributes.in(".attributes"),
		resourceType.in(".resourceType")), err
}

// kind reads a permission's type and reports whether it is "resource".
func (d *decoder) kind() (resource bool, wrong problem, err error) {
	s, wrong, err := d.unquoted()
	if wrong == (problem{}) && s != "resource" && s != "basic" {
		wrong = problem{text: `must be "basic" or "resource"`}
	}
	return s == "resource", wrong, err
}

// attributes reads a permission's attributes, of which action alone counts.
func (d *decoder) attributes() (action string, wrong problem, err error) {
	if d.PeekKind() != jsontext.KindBeginObject {
		wrong, err = d.not("an object")
		return "", wrong, err
	}
	err = d.object(func(name string) (err error) {
		if name != "action" {
			return d.skip()
		}
		action, wrong, err = d.action()
		wrong = wrong.in(".action")
		return err
	})
	return action, wrong, err
}

func (d *decoder) action() (action string, wrong problem, err error) {
	action, wrong, err = d.name()
	if wrong != (problem{}) {
		return "", wrong, err
	}
	switch action {
	case "create", "read", "update", "delete":
		return action, problem{}, err
	}
	return "", problem{text: `must be "create", "read", "update" or "delete"`}, err
}

func (d *decoder) ref() (ref Ref, wrong problem, err error) {
	switch d.PeekKind() {
	case jsontext.KindString:
		start := len(d.refs)
		wrong, err = d.appendRef()
		return Ref{Of: d.refs[start:len(d.refs):len(d.refs)]}, wrong, err
	case jsontext.KindBeginArray:
		return d.refList()
	case jsontext.KindFalse:
		// Proposed upstream as a way to ask for an unconditional grant. Until that is
		// released it is refused like any other value; support for it starts here.
		fallthrough
	default:
		wrong, err = d.not("a string or an array of strings")
		return Ref{}, wrong, err
	}
}

func (d *decoder) refList() (ref Ref, wrong problem, err error) {
	start, read := len(d.refs), 0
	err = d.array(func() error {
		refWrong, err := d.appendRef()
		if wrong == (problem{}) && refWrong != (problem{}) {
			wrong = refWrong.in(index(read))
		}
		read++
		return err
	})
	if read == 0 {
		wrong = problem{text: "must not be an empty array"}
	}
	return Ref{Of: d.refs[start:len(d.refs):len(d.refs)], List: true}, wrong, err
}

func (d *decoder) appendRef() (problem, error) {
	if len(d.refs) == d.most {
		return problem{}, d.tooMany("resourceRefs")
	}
	ref, wrong, err := d.unquoted()
	d.refs = append(d.refs, ref)
	return wrong, err
}

func (d *decoder) tooMany(what string) error {
	return PayloadTooLargeError("more than %d %s in one request", d.most, what)
}

// name reads a string that outlives the request, in policies' caches: it must not
// keep the whole body alive. The items of a batch mostly ask for the same few
// permissions, which share their names.
func (d *decoder) name() (string, problem, error) {
	name, wrong, err := d.unquoted()
	if i := slices.Index(d.names, name); i >= 0 {
		return d.names[i], wrong, err
	}
	name = strings.Clone(name)
	if len(d.names) < maxNames {
		d.names = append(d.names, name)
	}
	return name, wrong, err
}

// unquoted reads a string as its text.
func (d *decoder) unquoted() (string, problem, error) {
	quoted, wrong, err := d.quoted()
	if wrong != (problem{}) || err != nil {
		return "", wrong, err
	}
	text, ok := unquote(quoted)
	if !ok {
		return "", problem{text: "must not have half a surrogate pair"}, nil
	}
	return text, problem{}, nil
}

// quoted reads a string as it came, quotes included.
func (d *decoder) quoted() (string, problem, error) {
	if d.PeekKind() != jsontext.KindString {
		wrong, err := d.not("a string")
		return "", wrong, err
	}
	value, err := d.ReadValue()
	if err != nil {
		return "", problem{}, err
	}
	end := int(d.InputOffset())
	return d.text[end-len(value) : end], problem{}, nil
}

// unquote returns the text of a JSON string, which is not ok where no Go string
// can hold it.
func unquote(quoted string) (text string, ok bool) {
	if strings.IndexByte(quoted, '\\') < 0 {
		return quoted[1 : len(quoted)-1], true
	}
	b, err := jsontext.AppendUnquote(nil, quoted)
	return string(b), err == nil
}

// object reads an object and calls member for the name of each member, to read
// the value.
func (d *decoder) object(member func(name string) error) error {
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	for d.PeekKind() == jsontext.KindString {
		quoted, _, err := d.quoted()
		if err != nil {
			return err
		}
		name, _ := unquote(quoted) // a name that is not ok is none of ours
		if err := member(name); err != nil {
			return err
		}
	}
	_, err := d.ReadToken() // the closing brace, or an error
	return err
}

// array reads an array and calls element to read each of its values.
func (d *decoder) array(element func() error) error {
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	for kind := d.PeekKind(); kind != jsontext.KindEndArray && kind != jsontext.KindInvalid; kind = d.PeekKind() {
		if err := element(); err != nil {
			return err
		}
	}
	_, err := d.ReadToken() // the closing bracket, or an error
	return err
}

// not skips a value of another kind than wanted and is the problem of it.
func (d *decoder) not(wanted string) (problem, error) {
	text := "must be " + wanted + ", is " + kindName(d.PeekKind())
	return problem{text: text}, d.skip()
}

func kindName(kind jsontext.Kind) string {
	switch kind {
	case jsontext.KindString:
		return "a string"
	case jsontext.KindNumber:
		return "a number"
	case jsontext.KindBeginObject:
		return "an object"
	case jsontext.KindBeginArray:
		return "an array"
	default:
		return kind.String() // null, true, false
	}
}

// skip reads a value that nobody wants, within the bound on depth.
func (d *decoder) skip() error {
	depth := d.StackDepth()
	for {
		if _, err := d.ReadToken(); err != nil {
			return err
		}
		switch now := d.StackDepth(); {
		case now > MaxDepth:
			return InputError("the body is nested deeper than %d", MaxDepth)
		case now <= depth:
			return nil
		}
	}
}

func index(i int) string { return "[" + strconv.Itoa(i) + "]" }
