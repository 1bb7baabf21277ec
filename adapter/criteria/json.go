package criteria

import "github.com/go-json-experiment/json/jsontext"

// AppendJSON appends the tree to b as the compact JSON that [Parse] reads, the
// members of a leaf in the order rule, resourceType, params.
//
// [Never] and [Always] become the empty lists that mean them. Backstage's readers
// refuse those, so a decision never carries them: it denies or allows instead.
func (c Criteria) AppendJSON(b []byte) []byte {
	switch c.Op {
	case Never:
		return append(b, `{"anyOf":[]}`...)
	case Always:
		return append(b, `{"allOf":[]}`...)
	case Leaf:
		return c.Rule.appendJSON(b)
	case Not:
		b = append(b, `{"not":`...)
		return append(c.child().AppendJSON(b), '}')
	case AllOf:
		return appendList(append(b, `{"allOf":[`...), c.Of)
	case AnyOf:
		return appendList(append(b, `{"anyOf":[`...), c.Of)
	}
	panic(c.unknown())
}

// MarshalJSON returns what [Criteria.AppendJSON] appends. It returns no error.
func (c Criteria) MarshalJSON() ([]byte, error) { return c.AppendJSON(nil), nil }

func appendList(b []byte, of []Criteria) []byte {
	for i, child := range of {
		if i > 0 {
			b = append(b, ',')
		}
		b = child.AppendJSON(b)
	}
	return append(b, "]}"...)
}

func (r Rule) appendJSON(b []byte) []byte {
	b = append(b, `{"rule":`...)
	b, _ = jsontext.AppendQuote(b, r.Name) // ill-formed text, which Parse refuses, becomes U+FFFD
	b = append(b, `,"resourceType":`...)
	b, _ = jsontext.AppendQuote(b, r.ResourceType)
	if r.Params != "" {
		b = append(b, `,"params":`...)
		b = append(b, r.Params...)
	}
	return append(b, '}')
}
