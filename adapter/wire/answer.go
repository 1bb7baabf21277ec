package wire

import "slices"

// Answer answers one [Item].
type Answer struct {
	// ID is the id of the item, as it came.
	ID string
	// Decision is the answer where Results is nil; where it is nil too, that is DENY.
	// It is shared and must not be changed.
	Decision *Decision
	// Results answers a list of refs, one for each in their order, where the
	// decision was conditional and the plugin has decided.
	Results []Result
}

// AppendAnswers appends the body that answers a request: one item for each
// answer, in order. A result in a list that is not ALLOW is written as DENY.
func AppendAnswers(b []byte, answers []Answer) []byte {
	b = slices.Grow(b, sizeOf(answers))
	b = append(b, `{"items":[`...)
	for i := range answers {
		if i > 0 {
			b = append(b, ',')
		}
		b = answers[i].append(b)
	}
	return append(b, "]}"...)
}

// sizeOf is about how many bytes the answers take.
func sizeOf(answers []Answer) int {
	const frame, unconditional, inList = len(`{"items":[]}`), len(`,{"id":,"result":"ALLOW"}`), len(`,"ALLOW"`)
	size := frame
	for i := range answers {
		a := &answers[i]
		size += unconditional + len(a.ID) + inList*len(a.Results)
		if a.Decision != nil {
			size += len(a.Decision.json)
		}
	}
	return size
}

func (a *Answer) append(b []byte) []byte {
	b = append(b, `{"id":`...)
	b = append(b, a.ID...)
	if a.Results != nil {
		return appendResults(b, a.Results)
	}
	if a.Decision == nil {
		return append(b, `,"result":"DENY"}`...)
	}
	comma := len(b)
	b = a.Decision.AppendJSON(b)
	b[comma] = ',' // in place of the decision's opening brace: its members go on this item
	return b
}

func appendResults(b []byte, results []Result) []byte {
	b = append(b, `,"result":[`...)
	for i, result := range results {
		if i > 0 {
			b = append(b, ',')
		}
		if result == Allow {
			b = append(b, `"ALLOW"`...)
		} else {
			b = append(b, `"DENY"`...)
		}
	}
	return append(b, "]}"...)
}
