package conditions

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/stagedoor/stagedoor/adapter/wire"
)

// answer is the body of a plugin's answer. Member names are case-sensitive, none
// may come twice, and further ones are ignored.
type answer struct {
	Items []answerItem `json:"items"`
}

type answerItem struct {
	ID     *string      `json:"id"`
	Result answerResult `json:"result"`
}

// answerResult is "ALLOW" or "DENY", or an array of these.
type answerResult struct {
	results []wire.Result
	array   bool
}

// UnmarshalJSONFrom implements [json.UnmarshalerFrom].
func (r *answerResult) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	r.array = d.PeekKind() == '['
	if !r.array {
		one, err := readResult(d)
		r.results = []wire.Result{one}
		return err
	}
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	for d.PeekKind() != ']' {
		one, err := readResult(d)
		if err != nil {
			return err
		}
		r.results = append(r.results, one)
	}
	_, err := d.ReadToken()
	return err
}

func readResult(d *jsontext.Decoder) (wire.Result, error) {
	value, err := d.ReadValue()
	if err != nil {
		return wire.Deny, err
	}
	switch string(value) {
	case `"ALLOW"`:
		return wire.Allow, nil
	case `"DENY"`:
		return wire.Deny, nil
	}
	return wire.Deny, errors.New("a result is neither ALLOW nor DENY")
}

// readAnswer returns the results of all spans in order. The answer must have
// exactly one item for each, found by its id.
func readAnswer(body []byte, spans []span) ([]wire.Result, error) {
	var a answer
	if err := json.Unmarshal(body, &a); err != nil {
		return nil, shapeError(err)
	}
	byID := make([]*answerResult, len(spans))
	for i := range a.Items {
		id, ok := ownID(a.Items[i].ID, len(spans))
		if !ok {
			return nil, errors.New("an item's id was not asked about")
		}
		if byID[id] != nil {
			return nil, fmt.Errorf("item %d is answered twice", id)
		}
		byID[id] = &a.Items[i].Result
	}
	var all []wire.Result
	for i, s := range spans {
		switch r := byID[i]; {
		case r == nil:
			return nil, fmt.Errorf("item %d is not answered", i)
		case r.array != s.isArray() || len(r.results) != s.len():
			return nil, fmt.Errorf("item %d asks about %d resource refs and is answered otherwise", i, s.len())
		default:
			all = append(all, r.results...)
		}
	}
	return all, nil
}

// ownID returns the index that id stands for, if it is one of n ids that we gave.
func ownID(id *string, n int) (int, bool) {
	if id == nil {
		return 0, false
	}
	i, err := strconv.Atoi(*id)
	return i, err == nil && i >= 0 && i < n && strconv.Itoa(i) == *id
}

// shapeError says what kind of error it is without repeating the answer's text.
func shapeError(err error) error {
	if syntactic, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		return fmt.Errorf("not JSON, at byte %d", syntactic.ByteOffset)
	}
	return errors.New("not of the shape {items: [{id, result}]} with results ALLOW and DENY")
}
