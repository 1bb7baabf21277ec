package comparison

import (
	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// Served is an outcome as the backend answers it: a condition that does not fit the
// permission, such as one about another type of resource, is a failure.
func Served(permission wire.Permission, o *decision.Outcome) *decision.Outcome {
	if o.Err != nil {
		return o
	}
	err := o.Decision.Fits(permission)
	if err == nil {
		return o
	}
	return &decision.Outcome{Err: &decision.Failure{Kind: decision.FailureAnswer, Cause: err}}
}
