package wire

import (
	"io"
	"slices"
)

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
	b = slices.Grow(b, int(SizeOf(answers)))
	b = append(b, answersStart...)
	for i := range answers {
		if i > 0 {
			b = append(b, ',')
		}
		b = answers[i].append(b)
	}
	return append(b, answersEnd...)
}

const answersStart, answersEnd = `{"items":[`, `]}`

// piece is how many bytes [WriteAnswers] has in its buffer before it writes them.
const piece = 32 << 10

// WriteAnswers writes what [AppendAnswers] appends, in pieces, by way of buffer, which
// it returns for its memory. So it takes no memory for the whole, which may be large
// where the answers share few decisions. The error is that of w.
func WriteAnswers(w io.Writer, buffer []byte, answers []Answer) ([]byte, error) {
	b := buffer[:0]
	b = append(b, answersStart...)
	for i := range answers {
		if i > 0 {
			b = append(b, ',')
		}
		b = answers[i].append(b)
		if len(b) < piece {
			continue
		}
		if _, err := w.Write(b); err != nil {
			return b, err
		}
		b = b[:0]
	}
	_, err := w.Write(append(b, answersEnd...))
	return b, err
}

// SizeOf is how many bytes the answers take, or a few more.
func SizeOf(answers []Answer) int64 {
	const frame, unconditional, inList = len(answersStart + answersEnd), len(`,{"id":,"result":"ALLOW"}`), len(`,"ALLOW"`)
	size := int64(frame)
	for i := range answers {
		a := &answers[i]
		size += int64(unconditional + len(a.ID) + inList*len(a.Results))
		if a.Decision != nil {
			size += int64(len(a.Decision.json))
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
