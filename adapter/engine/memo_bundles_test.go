package engine

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stagedoor/stagedoor/adapter/decision"
	"github.com/stagedoor/stagedoor/adapter/flight"
	"github.com/stagedoor/stagedoor/adapter/vetted"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// TestMemoAgrees compares, for the ready bundles, what is remembered with what is
// decided anew, for callers and permissions that differ in any part.
func TestMemoAgrees(t *testing.T) {
	for _, bundle := range []string{"default", "ownership", "rbac", "wrapper"} {
		t.Run(bundle, func(t *testing.T) {
			e := engineOf(t, "../../bundles/"+bundle)
			state, err := e.serving()
			if err != nil {
				t.Fatal(err)
			}
			r := rand.New(rand.NewPCG(1, 1))
			remembered := 0
			const questions = 2000
			for range questions {
				caller, permission := drawn(r)
				got := decideOne(t, e, caller, permission)
				want := anew(t, e, state, caller, permission)
				if (got.Err == nil) != (want.Err == nil) || got.Decision.Text() != want.Decision.Text() || got.Reason != want.Reason {
					t.Fatalf("%+v asks for %+v: remembered %t: %s %q %v, anew: %s %q %v", caller, permission, got.Remembered,
						got.Decision.Text(), got.Reason, got.Err, want.Decision.Text(), want.Reason, want.Err)
				}
				if got.Remembered {
					remembered++
				}
			}
			if remembered < questions/10 {
				t.Errorf("only %d answers were remembered", remembered)
			}
		})
	}
}

// anew decides without what is remembered.
func anew(t *testing.T, e *Engine, s *vetted.State, caller decision.Caller, p wire.Permission) decision.Outcome {
	t.Helper()
	f, ctx := flight.New[made](t.Context())
	e.fly(ctx, f, s, world{now: time.Now(), caller: caller}, p, decision.Input(p, decision.Identity(caller)))
	return f.Value().Outcome
}

// drawn is a caller and a permission out of a few, so that they come again.
func drawn(r *rand.Rand) (decision.Caller, wire.Permission) {
	pick := func(of ...string) string { return of[r.IntN(len(of))] }
	caller := decision.Caller{User: pick("user:default/a", "user:default/b"), Actor: pick("", "plugin:catalog")}
	for range r.IntN(3) {
		caller.Claims = append(caller.Claims, pick(caller.User, "group:default/web", "group:default/admins", "group:default/developers"))
	}
	if r.IntN(12) == 0 {
		caller = decision.Caller{Anonymous: true}
	}
	permission := wire.Permission{
		Name: pick("catalog.entity.read", "catalog.entity.delete", "catalog.entity.refresh", "catalog.location.read",
			"catalog.location.delete", "scaffolder.task.create", "scaffolder.task.read", "scaffolder.action.execute"),
		Action: pick("", "read", "create", "update", "delete"),
	}
	if r.IntN(2) == 0 {
		permission.Resource, permission.ResourceType = true, pick("catalog-entity", "scaffolder-task", "scaffolder-action")
	}
	return caller, permission
}
