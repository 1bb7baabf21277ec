package decision

import (
	"errors"
	"fmt"
	"regexp"

	"github.com/open-policy-agent/opa/v1/topdown"

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

// What an error of a builtin begins with, and a text that an error quotes.
var (
	builtinName = regexp.MustCompile(`^[a-z][a-z0-9_.]*(?::|$)`)
	ofHTTP      = regexp.MustCompile(`^http\.send: [A-Z][a-z]+ "`) // of Go's client, whose URL is the policy's own
	quotedText  = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)
)

// Logged is what of an error may stand in a log. Where it is that of a policy, a builtin's own
// words hold what it was given, which can be a claim or a token of the policy's: its name is
// told, and where. Of an answer that is no decision the texts are left out. Commands show
// both.
func Logged(err error) string {
	if _, is := errors.AsType[*Failure](err); is {
		return LoggedPart(err)
	}
	return peer.WithoutSecrets(err.Error())
}

// LoggedPart is Logged for the error of a part of a policy.
func LoggedPart(err error) string {
	text := peer.WithoutSecrets(err.Error())
	of, ok := errors.AsType[*topdown.Error](err)
	switch {
	case ok && (of.Code == topdown.ConflictErr || of.Code == topdown.WithMergeErr || of.Code == topdown.CancelErr):
		return text // OPA's words alone
	case ok && ofHTTP.MatchString(of.Message):
		return text
	case ok:
		place := ""
		if of.Location != nil {
			place = of.Location.Format("")
		}
		return fmt.Sprintf("%s%s: %s its words may hold claims and are left out; `stagedoor eval` shows them",
			place, of.Code, builtinName.FindString(of.Message))
	}
	return quotedText.ReplaceAllString(text, `"…"`)
}
