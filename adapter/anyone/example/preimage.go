package example

import (
	"encoding/json"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stagedoor/stagedoor/adapter/anyone/theory"
)

// preimage is a text of the caller of which calls make another: what split takes apart is
// put together again, and what trim_prefix takes away stands there again. It is empty where
// none is known.
//
// For `split(claim, "/")[1] == "web"` it is "some/web".
func (e *example) preimage(of *ast.Term, text string) string {
	s := e.SymbolOf(of)
	if s == nil {
		return ""
	}
	switch s.Kind {
	case theory.KindUser, theory.KindActor, theory.KindElement:
		return text
	case theory.KindIndex:
		number, isNumber := s.Args[1].Value.(ast.Number)
		parts := e.SymbolOf(s.Args[0])
		if !isNumber || parts == nil || parts.Name != ast.Split.Name || !e.IsPlainText(parts.Args[1]) {
			return ""
		}
		at, err := json.Number(number).Int64()
		if err != nil || at < 0 || at > mostParts {
			return ""
		}
		before := strings.Repeat("some"+theory.TextIn(parts.Args[1]), int(at))
		return e.preimage(parts.Args[0], before+text)
	case theory.KindCall:
		return e.beforeCall(s, text)
	}
	return ""
}

// mostParts is how many parts a text is given at most.
const mostParts = 20

func (e *example) beforeCall(s *theory.Symbol, text string) string {
	given := func(i int) string { return theory.TextIn(s.Args[i]) }
	switch s.Name {
	case ast.Lower.Name, ast.Upper.Name, ast.TrimSpace.Name, ast.StringReverse.Name:
		if s.Name == ast.StringReverse.Name {
			reversed := []rune(text)
			for i, j := 0, len(reversed)-1; i < j; i, j = i+1, j-1 {
				reversed[i], reversed[j] = reversed[j], reversed[i]
			}
			text = string(reversed)
		}
		return e.preimage(s.Args[0], text)
	case ast.TrimPrefix.Name, ast.TrimLeft.Name, ast.Trim.Name:
		if e.IsPlainText(s.Args[1]) {
			return e.preimage(s.Args[0], given(1)+text)
		}
	case ast.TrimSuffix.Name, ast.TrimRight.Name:
		if e.IsPlainText(s.Args[1]) {
			return e.preimage(s.Args[0], text+given(1))
		}
	case ast.Replace.Name:
		return e.preimage(s.Args[0], text)
	case ast.Substring.Name:
		number, ok := s.Args[1].Value.(ast.Number)
		if from, isInt := number.Int(); ok && isInt && from >= 0 && from <= long {
			return e.preimage(s.Args[0], strings.Repeat("s", from)+text)
		}
	case ast.Concat.Name:
		list, ok := s.Args[1].Value.(*ast.Array)
		if !ok || !e.IsPlainText(s.Args[0]) {
			return ""
		}
		return e.beforeConcat(list, given(0), text)
	}
	return ""
}

// beforeConcat is the one text of the caller in a list that is concatenated to another.
func (e *example) beforeConcat(list *ast.Array, separator, text string) string {
	var unknown *ast.Term
	var start, end []string
	for i := range list.Len() {
		switch element := list.Elem(i); {
		case !e.IsPlainText(element) && unknown == nil:
			unknown = element
		case !e.IsPlainText(element):
			return ""
		case unknown == nil:
			start = append(start, theory.TextIn(element)+separator)
		default:
			end = append(end, separator+theory.TextIn(element))
		}
	}
	rest, begins := strings.CutPrefix(text, strings.Join(start, ""))
	rest, ends := strings.CutSuffix(rest, strings.Join(end, ""))
	if unknown == nil || !begins || !ends {
		return ""
	}
	return e.preimage(unknown, rest)
}
