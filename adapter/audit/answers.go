package audit

import (
	"slices"
	"strings"

	"github.com/stagedoor/stagedoor/adapter/wire"
)

// Applied is what a plugin said of the conditions on the resources of one item.
type Applied struct {
	Results []wire.Result
	// Err is why it did not answer.
	Err error
}

// Answers are what became of the items of a request: what the caller was told of each, and
// what the plugins said, by item. They outlive the request, and so copy what shares memory
// with the body.
func Answers(items []wire.Item, told []wire.Answer, applied map[int]Applied) []Answer {
	answers := make([]Answer, len(told))
	for i := range told {
		answer := Answer{FinalList: told[i].Results}
		if decided := told[i].Decision; decided != nil {
			answer.Final = decided.Result
		}
		if said, asked := applied[i]; asked {
			answer.Refs = cloned(items[i].Ref.Of)
			answer.Results, answer.Err = said.Results, said.Err
		}
		answers[i] = answer
	}
	return answers
}

func cloned(refs []string) []string {
	own := slices.Clone(refs)
	for i := range own {
		own[i] = strings.Clone(own[i])
	}
	return own
}
