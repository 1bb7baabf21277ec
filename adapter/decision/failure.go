package decision

import (
	"errors"

	"github.com/stagedoor/stagedoor/adapter/peer"
)

// ErrTooLarge is that the decisions of a batch are larger than an answer may be. They
// are not made to the end, as they would take memory for nothing.
var ErrTooLarge = errors.New("the decisions are larger than an answer may be")

// Failure is a decision that the policy did not come to: it erred, answered a
// shape that means nothing, or overran its deadline. It never allows; the
// adapter's onError says whether it denies the item or fails the request.
type Failure struct { //nolint:errname // it is what onError is about: a failure of the policy
	// Kind is a stable word for metrics and the decision log.
	Kind FailureKind
	// Cause says what happened, with file and line where there is one. It can quote
	// a URL with a secret in it, so what is told is the Failure's own Error.
	Cause error
}

// FailureKind is why a policy failed, as metrics and the decision log name it.
type FailureKind string

// The kinds of failure.
const (
	// FailureEvaluation is an error of evaluation: two values for one rule, an
	// error of a builtin.
	FailureEvaluation FailureKind = "evaluation"
	// FailureAnswer is an answer that is no decision.
	FailureAnswer FailureKind = "answer"
	// FailureDeadline is a decision that took longer than it may.
	FailureDeadline FailureKind = "deadline"
	// FailureBounds is a policy about the resource that outgrew exploration.
	FailureBounds FailureKind = "bounds"
	// FailureRemote is a remote OPA that did not answer.
	FailureRemote FailureKind = "remote"
)

// Error says that the policy failed, and how, but for secrets in URLs that the
// policy asked at.
func (f *Failure) Error() string {
	return "policy failure (" + string(f.Kind) + "): " + peer.WithoutSecrets(f.Cause.Error())
}

// Unwrap returns the cause.
func (f *Failure) Unwrap() error { return f.Cause }
