package adapter

import (
	"context"
	"net/http"
	"time"

	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/explain"
	"github.com/stagedoor/stagedoor/adapter/identity"
	"github.com/stagedoor/stagedoor/adapter/vetted"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// explainOthers is the permission to have answers explained that others get. It has no
// action, so that a policy which lets everybody read does not allow it unawares.
var explainOthers = wire.Permission{Name: "stagedoor.explain"}

// explanationTime is how long an explanation may take: it evaluates the policy many times.
const explanationTime = 10 * time.Second

// explain is POST {basePath}/explain: why the policy answers a user so, and what would
// turn it. It tells users about themselves, and about others those to whom the policy
// allows stagedoor.explain.
func (s *Server) explain(w http.ResponseWriter, r *http.Request) error {
	x := exchangeOf(r)
	if x.caller.Kind != identity.User {
		return wire.NotAllowedError("This endpoint answers users, and plugins on behalf of a user")
	}
	serving, ok := s.policy.(interface {
		State() (*vetted.State, error)
	})
	if !ok {
		return wire.NotFoundError("the policy is decided by a remote OPA server: ask that")
	}
	ctx, cancel := context.WithTimeout(r.Context(), explanationTime)
	defer cancel()
	caller, err := s.policyCaller(ctx, x)
	if err != nil {
		return err
	}
	q, err := explain.ReadRequest(x.body, caller)
	if err != nil {
		return err
	}
	if q.Caller.User != caller.User {
		if err := s.mayExplainOthers(ctx, caller); err != nil {
			return err
		}
	}
	state, err := serving.State()
	if err != nil {
		return err
	}
	e, err := s.explains.Explain(ctx, x.party, state, q)
	if err != nil {
		return err
	}
	if e.Error != "" { // which is for the log alone
		s.log.WithField("at", lineOfPolicy.FindString(e.Error)).WithField("request_id", x.id).
			Warn("the policy fails where it is explained")
		e.Error = "The permission policy failed"
	}
	return writeValue(w, e)
}

// mayExplainOthers fails where the policy does not allow it without a condition.
func (s *Server) mayExplainOthers(ctx context.Context, caller decision.Caller) error {
	batch, err := s.policy.Decide(ctx, caller, []wire.Permission{explainOthers})
	if err != nil {
		return err
	}
	outcome := batch.Outcomes[0]
	if outcome.Err != nil || outcome.Decision.Result != wire.Allow {
		return wire.NotAllowedError("The policy does not allow you to see what others are answered (%s)", explainOthers.Name)
	}
	return nil
}
