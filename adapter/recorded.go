package adapter

import (
	"slices"
	"strings"
	"time"

	"github.com/stagedoor/stagedoor/adapter/audit"
	"github.com/stagedoor/stagedoor/adapter/conditions"
	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// newRecord is a request for the decision log. It outlives the request, and so
// copies what shares memory with the body.
func newRecord(
	x *exchange, caller decision.Caller, permissions []wire.Permission, batch decision.Batch,
	answers []wire.Answer, applied map[int]conditions.Outcome, items []wire.Item, err error,
) audit.Record {
	record := audit.Record{
		RequestID: x.id, TraceID: x.traceID, Time: time.Now(), Caller: caller,
		Batch: batch, Permissions: permissions, Err: err,
		Answers: make([]audit.Answer, len(answers)),
	}
	for i := range answers {
		answer := audit.Answer{FinalList: answers[i].Results}
		if told := answers[i].Decision; told != nil {
			answer.Final = told.Result
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
