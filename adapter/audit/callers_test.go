package audit_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/stagedoor/stagedoor/adapter/fixture"
	"github.com/stagedoor/stagedoor/rego"
)

// TestClaimsAreToldOnce holds that a log has each set of claims once where it is asked
// for, and its hash in every event, while the mask leaves claims out.
func TestClaimsAreToldOnce(t *testing.T) {
	for _, told := range []bool{false, true} {
		r := fixture.NewReceiver(t)
		e := house{fixture.New(t, fixture.Options{
			OPA: fixture.LogTo(t, r, map[string]any{}), AuditRequired: true, AuditCallers: told,
			Default: fixture.FS(fixture.Allowing("rev", "x")), Mask: rego.Mask(),
		})}
		for _, request := range []string{"r1", "r2"} {
			if err := e.recordAll(t, request, "x", "y"); err != nil {
				t.Fatal(err)
			}
		}
		var decisions int
		var claims [][]string
		for _, event := range r.Received() {
			if event.Custom.ClaimsHash != fixture.Ann().ClaimsHash() {
				t.Errorf("the hash is %q", event.Custom.ClaimsHash)
			}
			if event.Custom.Claims != nil {
				claims = append(claims, event.Custom.Claims)
				continue
			}
			decisions++
			if event.Input.Identity == nil || event.Input.Identity.Claims != nil {
				t.Errorf("the identity is %v", event.Input.Identity)
			}
		}
		var want [][]string
		if told {
			want = [][]string{fixture.Ann().Claims}
		}
		if diff := cmp.Diff(want, claims); diff != "" || decisions != 4 {
			t.Errorf("%d decisions, claims: %s", decisions, diff)
		}
	}
}

func TestClaimsHash(t *testing.T) {
	ann := fixture.Ann()
	other := ann
	other.Claims = slices.Concat(ann.Claims[1:], ann.Claims)
	if ann.ClaimsHash() != other.ClaimsHash() {
		t.Error("order and repetitions matter")
	}
	other.Claims = []string{ann.Claims[0] + ann.Claims[1]}
	if ann.ClaimsHash() == other.ClaimsHash() {
		t.Error("claims run together")
	}
}
