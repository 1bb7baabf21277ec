package adapter

import (
	"slices"
	"strings"
	"time"

	"github.com/stagedoor/stagedoor/adapter/conditions"
	"github.com/stagedoor/stagedoor/adapter/policy"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// newRecord is a request for the decision log. It outlives the request, and so
// copies what shares memory with the body.
func newRecord(
	x *exchange, caller policy.Caller, permissions []wire.Permission, batch policy.Batch,
	answers []wire.Answer, applied map[int]conditions.Outcome, items []wire.Item, err error,
) policy.Record {
	record := policy.Record{
		RequestID: x.id, TraceID: x.traceID, Time: time.Now(), Caller: caller,
		Batch: batch, Permissions: permissions, Err: err,
		Answers: make([]policy.RecordedAnswer, len(answers)),
	}
	for i := range answers {
		answer := policy.RecordedAnswer{FinalList: answers[i].Results}
		if decision := answers[i].Decision; decision != nil {
			answer.Final = decision.Result
		}
		if outcome, asked := applied[i]; asked {
			answer.Refs = cloned(items[i].Ref.Of)
			answer.Results, answer.Err = outcome.Results, outcome.Err
		}
		record.Answers[i] = answer
	}
	return record
}

func cloned(refs []string) []string {
	own := slices.Clone(refs)
	for i := range own {
		own[i] = strings.Clone(own[i])
	}
	return own
}
